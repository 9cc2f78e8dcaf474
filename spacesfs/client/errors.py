"""What a call to a Space can end with: one exception family, and the one table from a reply to its exception.

SpacesError
├── Unreachable            no connection, or it broke
│   └── NotConnected       none could be made: the server has seen nothing of the call
│       ├── Untrusted      the server's certificate is not trusted
│       └── NoKeyYet       there is no key to sign it with, but one is looked for
├── DeadlineExceeded       no answer in time
├── BadReply               an answer that no S3 server should give (cut short, not XML, a missing field)
├── IntegrityError         the bytes stored or received are not the bytes sent
├── AccessDenied           403: no right, wrong key, wrong signature
│   ├── QuotaExceeded      403 QuotaExceeded
│   └── EncryptedObject    400: the object is encrypted under a customer's key (SSE-C)
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

from http import HTTPStatus


class SpacesError(Exception):
    """A call to the Space failed.

    Attributes:
        status: HTTP status, or None when no reply came.
        code: The server's error code (``NoSuchKey``), or "" when the body held none.
        request_id: What support asks for, or "".
        key: The object key that the call was about, or "".
        retryable: The same call may succeed if sent again.
        retry_after_seconds: What the server asked us to wait, or None.
        attempts: How often the call was sent. Above 1 an earlier attempt, its reply lost, may have taken effect.
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
        self.attempts = 1


class Unreachable(SpacesError):
    """The server could not be reached, or the connection broke."""

    retryable = True


class NotConnected(Unreachable):
    """No connection could be made, so the server has seen nothing of the call."""


class Untrusted(NotConnected):
    """The server's certificate is not trusted."""

    retryable = False


class NoKeyYet(NotConnected):
    """There is no access key to sign the call with, but one is looked for."""


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


class EncryptedObject(AccessDenied):
    """The object is encrypted under a customer's key, which we don't have."""


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


_BY_CODE: dict[str, type[SpacesError]] = {
    "BadDigest": IntegrityError,
    "EntityTooLarge": TooLarge,
    "IncompleteBody": ServerFault,
    "InternalError": ServerFault,
    "InvalidRange": InvalidRange,
    "KeyTooLongError": KeyTooLong,
    "NoSuchBucket": NoSuchBucket,
    "NoSuchKey": NoSuchKey,
    "NoSuchUpload": NoSuchUpload,
    "NoSuchVersion": NoSuchKey,
    "NotImplemented": NotSupported,
    "PreconditionFailed": PreconditionFailed,
    "QuotaExceeded": QuotaExceeded,
    "RequestTimeout": ServerFault,
    "SlowDown": Throttled,
    "XAmzContentSHA256Mismatch": IntegrityError,
}

_BY_STATUS: dict[int, type[SpacesError]] = {
    304: PreconditionFailed,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    405: NotSupported,
    408: ServerFault,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    416: InvalidRange,
    429: Throttled,
    501: NotSupported,
    503: Throttled,
}

_REASONS: dict[str, str] = {
    "InvalidAccessKeyId": "the access key is not known here",
    "SignatureDoesNotMatch": "the signature is not accepted; is the secret key right?",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}


def error_class(status: int, code: str, *, has_key: bool) -> type[SpacesError]:
    """Return what a reply means: by its code where there is one, else by its status.

    Args:
        status: HTTP status; below 300 for an error that came inside a success.
        code: The server's error code, "" when the reply had no body (HEAD) or no XML.
        has_key: The call was about an object, so a bare 404 is about the object too.
    """
    known = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if known is NotFound and not code:
        return NoSuchKey if has_key else NoSuchBucket
    if known is not None:
        return known
    return InvalidRequest if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR else ServerFault


def reason(kind: type[SpacesError], status: int, code: str, message: str) -> str:
    """Return in one line why the server refused: its own words where it has some, else ours."""
    text = _REASONS.get(code) or _one_line(message) or _one_line(kind.__doc__ or "").rstrip(".")
    if kind is InvalidRequest and status < HTTPStatus.BAD_REQUEST:
        text = "the server sends us elsewhere; is the endpoint the right one for this bucket?"
    return f"{text} (HTTP {status}{' ' + _one_line(code) if code else ''})"


def _one_line(text: str) -> str:
    """Make foreign text fit for a log line: one line, printable, not endless."""
    line = " ".join(text.split())[:200]
    return "".join(char if char.isprintable() else "?" for char in line)
