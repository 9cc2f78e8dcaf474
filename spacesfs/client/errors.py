"""What a call to a Space can end with: one exception family, and the one table from a reply to its exception.

SpacesError
├── Unreachable            no connection, or it broke
├── DeadlineExceeded       no answer in time
├── BadReply               an answer that no S3 server should give (cut short, not XML, a missing field)
├── IntegrityError         the bytes stored or received are not the bytes sent
├── AccessDenied           403: no right, wrong key, wrong signature
│   └── QuotaExceeded      403 QuotaExceeded
├── NotFound               404
│   ├── NoSuchBucket
│   ├── NoSuchKey
│   └── NoSuchUpload
├── Conflict               409
├── PreconditionFailed     412, and 304 on a copy: the object is another version
├── InvalidRange           416
├── InvalidRequest         the other 4xx: the request itself is wrong
│   ├── KeyTooLong         the key is over 1,024 bytes
│   └── TooLarge           EntityTooLarge: over what one request may carry
├── NotSupported           501, 405: the server does not do this
├── Throttled              503, 429: slow down
└── ServerFault            500, 502, 504, 408
"""

from __future__ import annotations


class SpacesError(Exception):
    """A call to the Space failed.

    Attributes:
        status: HTTP status, or None when no reply came.
        code: The server's error code (``NoSuchKey``), or "" when the body held none.
        request_id: What support asks for, or "".
        key: The object key that the call was about, or "".
        retryable: The same call may succeed if sent again.
        retry_after_seconds: What the server asked us to wait, or None.
    """

    retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        key: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.key = key
        self.retry_after_seconds = retry_after_seconds


class Unreachable(SpacesError):
    """The server could not be reached, or the connection broke."""

    retryable = True


class DeadlineExceeded(SpacesError):
    """The server did not answer in time."""

    retryable = True


class BadReply(SpacesError):
    """The server's answer can't be understood."""

    retryable = True


class IntegrityError(SpacesError):
    """What the server stored or sent differs from what it should be."""

    retryable = True


class AccessDenied(SpacesError):
    """The key has no right to do this, or its signature is not accepted."""


class QuotaExceeded(AccessDenied):
    """The account or the bucket is full."""


class NotFound(SpacesError):
    """What the call names does not exist."""


class NoSuchBucket(NotFound):
    """The bucket does not exist."""


class NoSuchKey(NotFound):
    """The object does not exist."""


class NoSuchUpload(NotFound):
    """The multipart upload does not exist, or was completed or aborted."""


class Conflict(SpacesError):
    """The server refuses in the bucket's or object's present state (HTTP 409)."""


class PreconditionFailed(SpacesError):
    """The object is not the version that the call asked for."""


class InvalidRange(SpacesError):
    """The range begins past the end of the object."""


class InvalidRequest(SpacesError):
    """The request itself is wrong."""


class KeyTooLong(InvalidRequest):
    """The key is over 1,024 bytes."""


class TooLarge(InvalidRequest):
    """The body is over what one request or one object may carry."""


class NotSupported(SpacesError):
    """The server does not offer this operation."""


class Throttled(SpacesError):
    """The server asks to slow down."""

    retryable = True


class ServerFault(SpacesError):
    """The server failed."""

    retryable = True
