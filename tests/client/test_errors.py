"""From a reply to its exception."""

from __future__ import annotations

import pytest

from spacesfs.client import errors
from spacesfs.client.call import Call, check_key
from spacesfs.client.errors import (
    AccessDenied,
    Conflict,
    IntegrityError,
    InvalidRange,
    InvalidRequest,
    KeyTooLong,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotFound,
    NotSupported,
    PreconditionFailed,
    QuotaExceeded,
    ServerFault,
    SpacesError,
    Throttled,
    TooLarge,
)

BY_CODE = [
    (403, "AccessDenied", AccessDenied),
    (403, "InvalidAccessKeyId", AccessDenied),
    (403, "SignatureDoesNotMatch", AccessDenied),
    (403, "RequestTimeTooSkewed", AccessDenied),
    (403, "QuotaExceeded", QuotaExceeded),
    (404, "NoSuchBucket", NoSuchBucket),
    (404, "NoSuchKey", NoSuchKey),
    (404, "NoSuchUpload", NoSuchUpload),
    (404, "NoSuchLifecycleConfiguration", NotFound),
    (400, "EntityTooLarge", TooLarge),
    (400, "KeyTooLongError", KeyTooLong),
    (400, "InvalidPart", InvalidRequest),
    (400, "RequestTimeout", ServerFault),
    (400, "BadDigest", IntegrityError),
    (409, "BucketNotEmpty", Conflict),
    (200, "InternalError", ServerFault),
    (200, "PreconditionFailed", PreconditionFailed),
    (200, "SomethingNew", ServerFault),
    (503, "SlowDown", Throttled),
    (503, "ServiceUnavailable", Throttled),
]
BY_STATUS = [
    (301, InvalidRequest),
    (304, PreconditionFailed),
    (400, InvalidRequest),
    (401, AccessDenied),
    (403, AccessDenied),
    (405, NotSupported),
    (408, ServerFault),
    (409, Conflict),
    (412, PreconditionFailed),
    (413, TooLarge),
    (416, InvalidRange),
    (418, InvalidRequest),
    (429, Throttled),
    (500, ServerFault),
    (501, NotSupported),
    (502, ServerFault),
    (503, Throttled),
    (504, ServerFault),
    (599, ServerFault),
]


@pytest.mark.parametrize(("status", "code", "expected"), BY_CODE)
def test_codes(status: int, code: str, expected: type[SpacesError]) -> None:
    assert errors.error_class(status, code, has_key=True) is expected


@pytest.mark.parametrize(("status", "expected"), BY_STATUS)
def test_bare_statuses(status: int, expected: type[SpacesError]) -> None:
    assert errors.error_class(status, "", has_key=True) is expected


def test_a_bare_404_is_about_what_was_asked_for() -> None:
    assert errors.error_class(404, "", has_key=True) is NoSuchKey
    assert errors.error_class(404, "", has_key=False) is NoSuchBucket


def test_foreign_text_becomes_one_printable_line() -> None:
    text = errors.reason(AccessDenied, 403, "Access\x1b[2J", "no\r\n\x1b[31mway\x9b" + "x" * 1000)
    assert text.isprintable()
    assert len(text) < 300


def test_every_class_has_words_of_its_own() -> None:
    for _, code, kind in BY_CODE:
        assert errors.reason(kind, 400, code, "").partition(" (HTTP")[0]


def test_a_message_names_the_operation_and_the_key_in_one_line() -> None:
    call = Call("GetObject", "read", "GET", "pics", "a\n\x1b[2Jb")
    error = call.error(NoSuchKey, "no such key (HTTP 404 NoSuchKey)", status=404, code="NoSuchKey", request_id="tx1")
    assert str(error) == r"GetObject 'pics/a\n\x1b[2Jb': no such key (HTTP 404 NoSuchKey), request tx1"
    assert (error.key, error.status, error.code, error.request_id) == (call.key, 404, "NoSuchKey", "tx1")


@pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, "/", ".."])
def test_keys_that_fit(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["k" * 1025, "é" * 513])
def test_keys_that_are_too_long(key: str) -> None:
    with pytest.raises(KeyTooLong):
        check_key(key)


@pytest.mark.parametrize("key", ["", "\udcff"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(InvalidRequest):
        check_key(key)
