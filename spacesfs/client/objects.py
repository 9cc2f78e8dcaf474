"""Calls on objects: head, get, put, copy, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace as replaced
from http import HTTPStatus

from spacesfs.client.access import AccessCalls
from spacesfs.client.bucket import copy_source_headers, no_result, object_headers, verified_etag
from spacesfs.client.call import Call, Reply, check_key
from spacesfs.client.documents import delete_document, parse_copy, parse_deleted
from spacesfs.client.encryption import CustomerKey, key_headers
from spacesfs.client.errors import (
    BadReply,
    EncryptedObject,
    InvalidRequest,
    NoSuchKey,
    PreconditionFailed,
    ServerFault,
    SpacesError,
)
from spacesfs.client.hashing import Body, md5_base64, md5_hex
from spacesfs.client.headers import (
    content_length,
    content_range,
    etag_from_headers,
    info_from_headers,
)
from spacesfs.client.models import Acl, CopyResult, DeleteFailure, ObjectInfo, ObjectProperties
from spacesfs.client.xmltree import Malformed, is_expressible

MAX_DELETE_KEYS = 1000  # S3 API: DeleteObjects

_NO_PROPERTIES = ObjectProperties()


class ObjectCalls(AccessCalls):
    """Calls on the objects of one bucket."""

    async def head(
        self, key: str, *, version_id: str | None = None, customer_key: CustomerKey | None = None
    ) -> ObjectInfo:
        """Return what the server knows about an object, or about one version of it.

        Raises:
            NoSuchKey: There is none (or no such bucket: HEAD replies can't tell).
            AccessDenied: No right to read it, or (`EncryptedObject`) it needs a customer's key, or another one.
        """
        query, headers = version_query(version_id), key_headers(customer_key)
        call = Call("HeadObject", "read", "HEAD", self.name, check_key(key), query=query, headers=headers)
        try:
            return await self._transport.send(call, lambda reply: _info(key, reply))
        except InvalidRequest as error:
            raise encrypted_or(call, error) from None

    async def check_absent(self, key: str) -> None:
        """Look whether a key is free, where the server does not look itself.

        Raises:
            PreconditionFailed: It is taken.
        """
        try:
            await self.head(key)
        except NoSuchKey:
            return
        raise PreconditionFailed(f"{key!r} is there already", key=key)

    async def get_range(
        self,
        key: str,
        start: int,
        buffer: memoryview,
        *,
        if_match: str | None = None,
        version_id: str | None = None,
        customer_key: CustomerKey | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        """Fill a buffer with an object's bytes from ``start`` on.

        Args:
            key: The object.
            start: Offset of the first byte.
            buffer: Writable, contiguous, not empty. Past the object's end its bytes stay as they are: exactly
                ``min(len(buffer), size - start)`` are filled. After an error any of it may have been written.
            if_match: ETag of the version to read; any other is an error, never other bytes.
            version_id: Read this one of the object's versions, not the latest.
            customer_key: The key that the object is encrypted under.
            on_bytes: Told how many bytes are there so far, while they come. They stay: only when the call is sent again
                are they filled anew, with ``if_match`` by the same bytes, and counted from 0.

        Returns:
            The object's description; its size is that of the whole object.

        Raises:
            ValueError: The buffer is empty.
            PreconditionFailed: The key holds another version than ``if_match``.
            InvalidRange: ``start`` is not inside the object.
            NoSuchKey, AccessDenied
        """
        view = buffer.cast("B")
        if not view:
            raise ValueError("no range is empty in HTTP")
        headers = {"range": f"bytes={start}-{start + len(view) - 1}"} | key_headers(customer_key)
        if if_match is not None:
            headers["if-match"] = if_match

        def into(head: Reply) -> memoryview:
            if if_match is not None and etag_from_headers(head.headers) != if_match:
                raise call.error(PreconditionFailed, "the server sent another version than asked for")
            return view[: body_bytes(head, start, len(view))]

        call = Call(
            "GetObject",
            "read",
            "GET",
            self.name,
            check_key(key),
            query=version_query(version_id),
            headers=headers,
            expected_bytes=len(view),
        )
        try:
            # ``into`` refers to ``call``: a ring would keep the buffer for long
            complete = replaced(call, into=into, on_bytes=on_bytes)
            return await self._transport.send(complete, lambda reply: ranged_info(key, reply))
        except InvalidRequest as error:
            raise encrypted_or(call, error) from None

    async def put(
        self,
        key: str,
        body: Body,
        properties: ObjectProperties = _NO_PROPERTIES,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        customer_key: CustomerKey | None = None,
    ) -> str:
        """Store an object and verify that the server has exactly these bytes.

        Conditions hold on unversioned buckets of servers that honour them; others ignore them.

        Args:
            key: The object's name, up to 1,024 bytes.
            properties: What it carries beside its bytes; not set means the server's default, not what was there.
            body: Up to 5 GiB; must not change until the call returns.
            if_match: Only over the version with this ETag.
            if_none_match: Only if the key is free.
            customer_key: Encrypt the object under this key.

        Returns:
            The new ETag, the hex MD5 of the body.

        Raises:
            PreconditionFailed: A condition does not hold, and the object there is not the one we sent.
            IntegrityError: The server stored other bytes.
            InvalidRequest: A property that the server can't hold; nothing was sent.
            KeyTooLong, TooLarge, AccessDenied, QuotaExceeded
        """
        headers = object_headers(key, properties) | key_headers(customer_key)
        if if_match is not None:
            headers["if-match"] = if_match  # the engine compares with the quotes, so there must be none
        if if_none_match:
            headers["if-none-match"] = "*"
        call = Call("PutObject", "write", "PUT", self.name, check_key(key), headers=headers, body=body)
        expected = await md5_hex(body)
        try:
            return await self._transport.send(call, lambda reply: verified_etag(call, reply, expected))
        except (BadReply, PreconditionFailed, ServerFault) as error:
            is_final = isinstance(error, PreconditionFailed) and error.attempts == 1
            if not is_final and await self._is_ours(key, expected, properties, customer_key):
                return expected  # an attempt did it, only its reply was lost
            raise

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source_etag: str | None = None,
        replace: ObjectProperties | None = None,
        acl: Acl | None = None,
        source_bucket: str | None = None,
    ) -> CopyResult:
        """Copy an object of up to 5 GB into this bucket, on the server; `copy_object` takes larger ones.

        Args:
            source_key: The object to copy.
            target_key: Where the copy goes; the source itself only with ``replace``.
            source_etag: Copy this version only.
            replace: Give the copy these properties and no others; None keeps the source's, but for the ACL.
            acl: The copy's ACL; else ``replace.acl``, else private, whatever the source's.
            source_bucket: Where the source is; this bucket if not given, else one of the same region.

        Raises:
            PreconditionFailed: The source is another version than ``source_etag``.
            NoSuchKey: There is no source.
            NotSupported: The source is encrypted under a customer's key.
        """
        headers = copy_source_headers(source_bucket or self.name, source_key, source_etag)
        headers["x-amz-metadata-directive"] = "COPY" if replace is None else "REPLACE"
        tags = replace.tags if replace is not None else None
        if replace is not None:
            headers |= object_headers(target_key, replaced(replace, tags=None))
            headers["x-amz-tagging-directive"] = "REPLACE"
        if acl is not None:
            headers |= object_headers(target_key, ObjectProperties(acl=acl))
        call = Call("CopyObject", "write", "PUT", self.name, check_key(target_key), headers=headers)
        copied = await self._transport.send(call, lambda reply: parse_copy(reply.body))
        if tags:
            await self.set_tags(target_key, tags)  # the engine spoils tags that come in the header of a copy
        return copied

    async def delete(self, key: str, *, version_id: str | None = None) -> None:
        """Delete an object, or one version of it for good; that there is none is not an error."""
        query = version_query(version_id)
        await self._transport.send(
            Call("DeleteObject", "write", "DELETE", self.name, check_key(key), query=query), no_result
        )

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Delete any number of objects, 1,000 with a request.

        Returns:
            What could not be deleted. Keys that do not exist count as deleted.

        Raises:
            SpacesError: A whole request failed; of its keys and the later ones none may be deleted, or some.
        """
        expressible = [check_key(key) for key in keys if is_expressible(key)]
        failures: list[DeleteFailure] = []
        for first in range(0, len(expressible), MAX_DELETE_KEYS):
            failures += await self._delete_batch(expressible[first : first + MAX_DELETE_KEYS])
        for key in (key for key in keys if not is_expressible(key)):
            try:
                await self.delete(key)
            except SpacesError as error:
                failures.append(DeleteFailure(key, error.code, str(error)))
        return failures

    async def _delete_batch(self, keys: Sequence[str]) -> list[DeleteFailure]:
        body = delete_document(keys)
        headers = {"content-type": "application/xml", "content-md5": await md5_base64(body)}
        call = Call("DeleteObjects", "write", "POST", self.name, query=(("delete", ""),), headers=headers, body=body)
        return await self._transport.send(call, lambda reply: parse_deleted(reply.body))

    async def _is_ours(
        self, key: str, etag: str, properties: ObjectProperties, customer_key: CustomerKey | None
    ) -> bool:
        """Tell whether an object is what we sent. Bytes alone don't tell: two hosts may create one empty lock file."""
        try:
            found = await self.head(key, customer_key=customer_key)
        except NoSuchKey:
            return False
        return found.etag == etag and dict(found.properties.metadata) == dict(properties.metadata)


def _info(key: str, reply: Reply) -> ObjectInfo:
    return info_from_headers(key, content_length(reply.headers), reply.headers)


def version_query(version_id: str | None) -> tuple[tuple[str, str], ...]:
    """Return the query that names a version; none means the latest."""
    return () if version_id is None else (("versionId", version_id),)


def ranged_info(key: str, reply: Reply) -> ObjectInfo:
    """Return the description of the whole object that a reply to a range request gives."""
    size = (
        content_range(reply.headers)[2] if reply.status == HTTPStatus.PARTIAL_CONTENT else content_length(reply.headers)
    )
    return info_from_headers(key, size, reply.headers)


def body_bytes(head: Reply, start: int, wanted: int) -> int:
    """Return how long the body of a range reply is, checked against what we asked for."""
    if head.status == HTTPStatus.PARTIAL_CONTENT:
        first, end, size = content_range(head.headers)
        if first != start or end != min(start + wanted, size):
            raise Malformed("another range than asked for")
        return end - first
    length = content_length(head.headers)
    if start != 0 or length > wanted:
        raise Malformed("the whole object instead of a range")
    return length


def encrypted_or(call: Call, error: InvalidRequest) -> SpacesError:
    """Read a bare 400 to a request that has nothing to be wrong: it lacked the key of an encrypted object."""
    if error.status == HTTPStatus.BAD_REQUEST and error.code in {"", "InvalidArgument", "InvalidRequest"}:
        reason = "the object is encrypted under a customer's key (SSE-C), which we don't have"
        return call.error(EncryptedObject, reason, status=400, code=error.code, request_id=error.request_id)
    return error
