"""Object properties as headers, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.client.headers import content_length, content_range, info_from_headers, properties_to_headers
from spacesfs.client.models import ObjectProperties
from spacesfs.client.xmltree import Malformed

STORED = {"etag": '"abc"', "last-modified": "Sun, 22 Nov 2026 07:12:09 GMT"}
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)

EVERYTHING = ObjectProperties(
    content_type="text/plain",
    cache_control="no-cache",
    content_disposition="inline",
    content_encoding="gzip",
    content_language="da",
    expires="Thu, 01 Dec 2026 16:00:00 GMT",
    metadata={"mode": "33188", "a-b": "c  d"},
)


def test_properties_round_trip() -> None:
    headers = properties_to_headers(EVERYTHING)
    info = info_from_headers("k", 3, {**STORED, **headers})
    assert info.properties == EVERYTHING
    assert (info.key, info.size, info.etag) == ("k", 3, "abc")
    assert info.last_modified_ns == 1_795_331_529_000_000_000


@given(st.dictionaries(st.from_regex("[a-z0-9-]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_metadata_round_trips(metadata: dict[str, str]) -> None:
    headers = properties_to_headers(ObjectProperties(metadata=metadata))
    assert info_from_headers("k", 0, {**STORED, **headers}).properties.metadata == metadata


def test_acl_and_tags_are_sent() -> None:
    headers = properties_to_headers(ObjectProperties(acl="public-read", tags="a=b&c=d"))
    assert headers == {"x-amz-acl": "public-read", "x-amz-tagging": "a=b&c=d"}


@pytest.mark.parametrize("name", ["plain", "foo.bar", "under_score", "x!y~z"])
def test_foreign_names_go_back_as_they_came(name: str) -> None:
    assert properties_to_headers(ObjectProperties(metadata={name: "x"})) == {f"x-amz-meta-{name}": "x"}


def test_nothing_set_sends_nothing() -> None:
    assert properties_to_headers(ObjectProperties()) == {}
    assert properties_to_headers(ObjectProperties(tags="")) == {}


@pytest.mark.parametrize("name", ["", "Upper", "sp ace", "colon:", "new\nline", "é"])
def test_names_that_no_header_can_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower case"):
        properties_to_headers(ObjectProperties(metadata={name: "x"}))


@pytest.mark.parametrize(
    ("stored", "shown"), [("aws-chunked", None), ("aws-chunked,gzip", "gzip"), ("gzip, br", "gzip, br"), ("", None)]
)
def test_upload_framing_is_no_encoding(stored: str, shown: str | None) -> None:
    info = info_from_headers("k", 0, {**STORED, "content-encoding": stored})
    assert info.properties.content_encoding == shown


def test_tag_count_and_encryption() -> None:
    headers = {**STORED, "x-amz-tagging-count": "2", "x-amz-server-side-encryption-customer-algorithm": "AES256"}
    info = info_from_headers("k", 0, headers)
    assert (info.tag_count, info.is_encrypted) == (2, True)
    plain = info_from_headers("k", 0, STORED)
    assert (plain.tag_count, plain.is_encrypted) == (0, False)


@pytest.mark.parametrize("missing", list(STORED))
def test_what_a_server_must_say(missing: str) -> None:
    with pytest.raises(Malformed):
        info_from_headers("k", 0, {name: value for name, value in STORED.items() if name != missing})


@pytest.mark.parametrize("date", ["", "today", "Sun, 22 Nov 20260 07:12:09 GMT", "Sun, 99 Nov 2026 07:12:09 GMT"])
def test_dates_that_are_none(date: str) -> None:
    with pytest.raises(Malformed):
        info_from_headers("k", 0, {**STORED, "last-modified": date})


def test_content_range() -> None:
    assert content_range({"content-range": "bytes 5-9/20"}) == (5, 10, 20)


@pytest.mark.parametrize("text", ["", "bytes 5-9/*", "bytes */20", "bytes 5-9/20, 1-2/20", "bytes 5-9/" + "9" * 30])
def test_content_range_nonsense(text: str) -> None:
    with pytest.raises(Malformed):
        content_range({"content-range": text})


@pytest.mark.parametrize("text", ["", "-1", "1e3", "\N{SUPERSCRIPT TWO}", "9" * 30])
def test_content_length_nonsense(text: str) -> None:
    with pytest.raises(Malformed):
        content_length({"content-length": text})
