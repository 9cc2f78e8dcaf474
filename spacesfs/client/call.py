"""One call to the Space as data: what is asked, where its reply goes, and how its errors read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

import httpx

from spacesfs.client.errors import InvalidRequest, KeyTooLong, SpacesError
from spacesfs.client.hashing import Body

OperationClass = Literal["read", "write", "list"]
E = TypeVar("E", bound=SpacesError)

MAX_KEY_BYTES = 1024  # S3 API: object keys, in UTF-8

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; ``body`` is empty where the call received it into a buffer of its own."""

    status: int
    headers: httpx.Headers
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One attempt of one call, for metrics and logs.

    Attributes:
        operation_class: What limits are counted by.
        operation: The name of the S3 operation, as ``GetObject``.
        status: HTTP status, or None when no reply came.
        seconds: From having a connection slot to the end of the reply.
        bytes_sent: Of the request's body.
        bytes_received: Of the reply's body.
        attempt: Counts from 1.
    """

    operation_class: OperationClass
    operation: str
    status: int | None
    seconds: float
    bytes_sent: int
    bytes_received: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call, which may be sent several times: every one we make does no more the second time than the first.

    Attributes:
        query: Names and values, not encoded.
        headers: Names in lower case; without authorization, host and length.
        body: Must not change until the call has ended.
        into: Looks at the head of a successful reply and returns the buffer that its body fills exactly;
            None keeps the body in the reply.
        expected_bytes: How long a body we expect; a long one gets a later deadline.
        on_bytes: Told how many bytes of the buffer are filled, whenever some have come; not on httpx's own transport.
    """

    operation: str
    operation_class: OperationClass
    method: str
    bucket: str = ""
    key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    body: Body = b""
    into: Callable[[Reply], memoryview] | None = None
    expected_bytes: int = 0
    on_bytes: Callable[[int], None] | None = None

    def error(
        self, kind: type[E], reason: str, *, status: int | None = None, code: str = "", request_id: str = ""
    ) -> E:
        """Return an error about this call, whose message is one line with the operation, the bucket and the key."""
        about = repr(f"{self.bucket}/{self.key}" if self.key else self.bucket) if self.bucket else "account"
        traced = f", request {request_id}" if request_id else ""
        return kind(
            f"{self.operation} {about}: {reason}{traced}", status=status, code=code, request_id=request_id, key=self.key
        )


def check_key(key: str) -> str:
    """Return a key that the server can hold.

    Raises:
        KeyTooLong: It is over 1,024 bytes.
        InvalidRequest: It is empty, or not text.
    """
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"key {key!r} is not UTF-8", key=key) from None
    if length > MAX_KEY_BYTES:
        raise KeyTooLong(f"key {key[:40]!r}… is {length} bytes long; 1,024 are possible", key=key)
    if length == 0:
        raise InvalidRequest("the empty string is no key")
    return key
