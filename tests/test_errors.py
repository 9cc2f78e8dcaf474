"""Which errno a caller sees, and what is logged on the way."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re

import pytest

from spacesfs import errors
from spacesfs.client import errors as client
from spacesfs.errors import FsError, errno_for

FS_ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, FsError)]
CLIENT_ERRORS = [
    kind for kind in vars(client).values() if inspect.isclass(kind) and issubclass(kind, client.SpacesError)
]


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (client.QuotaExceeded, errno.EDQUOT),
        (client.AccessDenied, errno.EACCES),
        (client.EncryptedObject, errno.EACCES),
        (client.NoSuchKey, errno.ENOENT),
        (client.NoSuchBucket, errno.EIO),
        (client.PreconditionFailed, errno.ESTALE),
        (client.KeyTooLong, errno.ENAMETOOLONG),
        (client.TooLarge, errno.EFBIG),
        (client.NotSupported, errno.ENOTSUP),
        (client.DeadlineExceeded, errno.ETIMEDOUT),
        (client.Unreachable, errno.EIO),
        (client.Untrusted, errno.EIO),
        (client.NoKeyYet, errno.EIO),
        (client.Throttled, errno.EIO),
        (client.ServerFault, errno.EIO),
        (client.IntegrityError, errno.EIO),
        (client.InvalidRequest, errno.EIO),
    ],
)
def test_errors_of_the_space(kind: type[client.SpacesError], number: int) -> None:
    assert errno_for(kind("failed")) == number


@pytest.mark.parametrize("kind", FS_ERRORS)
def test_errors_of_the_file_system_are_as_drawn(kind: type[FsError]) -> None:
    number = errno_for(kind())
    drawn = {match[1]: match[2] for match in re.finditer(r"[├└]── (\w+) +[^\n]*?(E[A-Z0-9]+)\n", errors.__doc__ or "")}
    if kind is FsError:
        assert number == errno.EIO
        assert set(drawn) | {"Conflict"} == {kind.__name__ for kind in FS_ERRORS} - {"FsError"}
    elif kind is errors.Conflict:
        assert number == errno.ESTALE
    else:
        assert errno.errorcode[number] in (drawn[kind.__name__], "EOPNOTSUPP")


@pytest.mark.parametrize("kind", [*FS_ERRORS, errors.MountError])
def test_every_error_says_something(kind: type[Exception]) -> None:
    assert str(kind("in words")) == "in words"
    if issubclass(kind, FsError):
        assert str(kind())


@pytest.mark.parametrize("kind", CLIENT_ERRORS)
def test_a_failure_of_the_space_is_logged_once_with_its_request(
    kind: type[client.SpacesError], caplog: pytest.LogCaptureFixture
) -> None:
    number = errno_for(kind("PutObject failed", request_id="tx42"))
    if number in (errno.ENOENT, errno.ESTALE):
        assert caplog.records == []
    else:
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "PutObject failed" in caplog.text
        assert "tx42" in caplog.text


def test_a_bug_is_eio_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError) as failure:
        os.stat("/nowhere/a page file of ours")
    assert errno_for(failure.value) == errno.EIO
    assert caplog.records[0].levelno == logging.ERROR
    assert "FileNotFoundError" in caplog.text


def test_never_enosys() -> None:
    assert errno.ENOSYS not in {kind.errno for kind in FS_ERRORS}
    assert errno.ENOSYS not in {errno_for(kind("x")) for kind in CLIENT_ERRORS}
