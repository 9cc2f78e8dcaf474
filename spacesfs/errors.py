"""What a file system call can end with, and the one table from there to errno.

FsError
├── NotFound        no such name                     ENOENT
├── Exists          the name is taken                EEXIST
├── NotDirectory    a directory is wanted            ENOTDIR
├── IsDirectory     a directory is not wanted        EISDIR
├── NotEmpty        the directory has children       ENOTEMPTY
├── StaleFile       the Space holds another version  ESTALE
│   └── Conflict    ... and ours can't replace it
├── ReadOnly        the mount is read-only           EROFS
├── NoSpace         the staging area is full         ENOSPC
├── FileTooBig      over what one object may hold    EFBIG
├── NameNotUtf8     no key can carry the name        EILSEQ
├── NameTooLong     the key would be over 1,024 B    ENAMETOOLONG
├── NotPermitted    never offered (hard links)       EPERM
├── InvalidCall     arguments that make no sense     EINVAL
├── NoAttribute     no such extended attribute       ENODATA
├── BadHandle       a handle that is not open        EBADF
└── Unsupported     not offered                      ENOTSUP

``SpacesError`` from the client passes through the layers unless one of them knows better.
"""

from __future__ import annotations

import errno
import logging

from spacesfs.client import errors as client

log = logging.getLogger(__name__)


class MountError(Exception):
    """A mount can't start or go on. The message is one line that says what is wrong and what to do."""


class LeftBehind(MountError):
    """The mount ended before everything was in the Space. The message is one line that says what was left."""


class FsError(Exception):
    """A call can't be done. ``errno`` is what the caller sees; without a message the class speaks for itself."""

    errno = errno.EIO

    def __str__(self) -> str:
        return super().__str__() or str(type(self).__doc__)


class NotFound(FsError):
    """No such file or directory."""

    errno = errno.ENOENT


class Exists(FsError):
    """The name is taken."""

    errno = errno.EEXIST


class NotDirectory(FsError):
    """A directory is wanted."""

    errno = errno.ENOTDIR


class IsDirectory(FsError):
    """A directory is not wanted."""

    errno = errno.EISDIR


class NotEmpty(FsError):
    """The directory has children."""

    errno = errno.ENOTEMPTY


class StaleFile(FsError):
    """The Space holds another version than the one that was opened."""

    errno = errno.ESTALE


class Conflict(StaleFile):
    """Somebody else changed the object first; ours can't replace it."""


class ReadOnly(FsError):
    """The mount is read-only."""

    errno = errno.EROFS


class NoSpace(FsError):
    """The staging area is full."""

    errno = errno.ENOSPC


class FileTooBig(FsError):
    """Over what one object may hold."""

    errno = errno.EFBIG


class NameNotUtf8(FsError):
    """The name is not UTF-8; no key can carry it."""

    errno = errno.EILSEQ


class NameTooLong(FsError):
    """The key would be over 1,024 bytes."""

    errno = errno.ENAMETOOLONG


class NotPermitted(FsError):
    """Never offered, to nobody."""

    errno = errno.EPERM


class InvalidCall(FsError):
    """The arguments make no sense together."""

    errno = errno.EINVAL


class NoAttribute(FsError):
    """No such extended attribute."""

    errno = errno.ENODATA


class BadHandle(FsError):
    """The handle is not open."""

    errno = errno.EBADF


class Unsupported(FsError):
    """Not offered. Never ENOSYS: after that the kernel stops asking."""

    errno = errno.ENOTSUP


_OF_CLIENT_ERROR: tuple[tuple[type[client.SpacesError], int], ...] = (  # first match wins: subclasses before their base
    (client.QuotaExceeded, errno.EDQUOT),
    (client.AccessDenied, errno.EACCES),
    (client.NoSuchBucket, errno.EIO),  # who reads "not found" as "deleted" must not see it
    (client.NotFound, errno.ENOENT),
    (client.PreconditionFailed, errno.ESTALE),
    (client.KeyTooLong, errno.ENAMETOOLONG),
    (client.TooLarge, errno.EFBIG),
    (client.NotSupported, errno.ENOTSUP),
    (client.DeadlineExceeded, errno.ETIMEDOUT),
)


def errno_for(error: BaseException) -> int:
    """Return the errno that the caller of a file operation sees for ``error``.

    Failures of the Space are logged here, once, with their request id; a bug is logged with its traceback and is EIO.
    """
    if isinstance(error, FsError):
        return error.errno
    if isinstance(error, client.SpacesError):
        number = next((number for kind, number in _OF_CLIENT_ERROR if isinstance(error, kind)), errno.EIO)
        if number not in (errno.ENOENT, errno.ESTALE):
            name, request_id = errno.errorcode[number], error.request_id or "none"
            fields = {"errno": name, "request_id": error.request_id}
            log.warning("%s [%s] request id %s", error, name, request_id, extra=fields)
        return number
    log.error("unexpected error", exc_info=error)
    return errno.EIO
