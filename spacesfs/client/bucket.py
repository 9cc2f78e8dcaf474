"""What the groups of bucket calls share: the bucket's name, the way to the server, and common headers and checks."""

from __future__ import annotations

from spacesfs.client.call import Call, Reply, check_key
from spacesfs.client.errors import IntegrityError, InvalidRequest
from spacesfs.client.headers import etag_from_headers, properties_to_headers
from spacesfs.client.models import ObjectProperties
from spacesfs.client.signing import percent_encode
from spacesfs.client.transport import Transport


class BucketCalls:
    """Base of the groups of calls that `spacesfs.client.client.Bucket` is made of."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.name = name
        self._transport = transport

    def server_time_ns(self) -> int:
        """Return the latest time that the server's clock may show now: nothing stored so far has a later one."""
        return self._transport.server_time_ns()


def no_result(_: Reply) -> None:
    """Parse the reply of a call whose success says all."""


def object_headers(key: str, properties: ObjectProperties) -> dict[str, str]:
    """Return the headers that give an object its properties.

    Raises:
        InvalidRequest: A property that the server can't hold.
    """
    try:
        return properties_to_headers(properties)
    except ValueError as problem:
        raise InvalidRequest(f"{key!r}: {problem}", key=key) from None


def copy_source_headers(bucket: str, key: str, etag: str | None) -> dict[str, str]:
    """Return the headers that name the source of a copy, and its version if that matters."""
    # The slash between bucket and key must be literal, else the engine copies without metadata.
    headers = {"x-amz-copy-source": f"/{percent_encode(bucket)}/{percent_encode(check_key(key), keep_slashes=True)}"}
    if etag is not None:
        headers["x-amz-copy-source-if-match"] = etag  # S3's way; the engine ignores it
        headers["x-amz-copy-if-match"] = etag  # the engine's way
    return headers


def verified_etag(call: Call, reply: Reply, expected: str) -> str:
    """Return the ETag of what was stored, which must be the MD5 of what was sent.

    Raises:
        IntegrityError: It is not.
    """
    etag = etag_from_headers(reply.headers)
    if etag != expected:
        raise call.error(IntegrityError, f"stored with ETag {etag}, sent with MD5 {expected}", status=reply.status)
    return etag
