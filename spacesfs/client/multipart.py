"""Multipart uploads: create, send or copy parts, complete, abort, list."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from spacesfs.client.access import AccessCalls
from spacesfs.client.bucket import copy_source_headers, no_result, object_headers, verified_etag
from spacesfs.client.call import Call, check_key
from spacesfs.client.documents import (
    complete_document,
    parse_completed_etag,
    parse_copy,
    parse_parts,
    parse_upload_id,
    parse_uploads,
)
from spacesfs.client.encryption import CustomerKey, key_headers
from spacesfs.client.errors import (
    BadReply,
    IntegrityError,
    NoSuchKey,
    NoSuchUpload,
    ServerFault,
    SpacesError,
)
from spacesfs.client.hashing import Body, md5_hex, multipart_etag
from spacesfs.client.models import ObjectProperties, Part, Upload

MAX_PARTS = 10_000  # S3 API, UploadPart: partNumber 1 to 10,000

_ABANDON_SECONDS = 10.0
_NO_PROPERTIES = ObjectProperties()


class MultipartCalls(AccessCalls):
    """Multipart calls of one bucket."""

    async def create_upload(
        self, key: str, properties: ObjectProperties = _NO_PROPERTIES, *, customer_key: CustomerKey | None = None
    ) -> str:
        """Begin an upload and return its id; the object appears when it is completed.

        Tags are not sent: the engine spoils those of an upload. Give them to `complete_upload`. A reply that was lost
        leaves one more upload, without parts, which only `list_uploads` knows.

        Raises:
            InvalidRequest: A property that the server can't hold; nothing was sent.
            AccessDenied, KeyTooLong
        """
        headers = object_headers(key, replace(properties, tags=None)) | key_headers(customer_key)
        call = Call(
            "CreateMultipartUpload",
            "write",
            "POST",
            self.name,
            check_key(key),
            query=(("uploads", ""),),
            headers=headers,
        )
        return await self._transport.send(call, lambda reply: parse_upload_id(reply.body))

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: Body, *, customer_key: CustomerKey | None = None
    ) -> Part:
        """Send one part and verify that the server has exactly these bytes; sent again it replaces the former.

        ``number`` is 1 to 10,000, gaps are fine. ``body`` is 5 MiB to 5 GiB (the last part may be smaller) and must
        not change until the call returns. ``customer_key`` is the one that the upload was created with.

        Raises:
            ValueError: The number is not possible.
            NoSuchUpload, IntegrityError, AccessDenied, QuotaExceeded
        """
        query = _part_query(number, upload_id)
        headers = key_headers(customer_key)
        call = Call("UploadPart", "write", "PUT", self.name, check_key(key), query=query, headers=headers, body=body)
        expected = await md5_hex(body)
        etag = await self._transport.send(call, lambda reply: verified_etag(call, reply, expected))
        return Part(number, etag, memoryview(body).nbytes)

    async def copy_part(  # noqa: PLR0917 - the order in which the S3 call names them
        self,
        key: str,
        upload_id: str,
        number: int,
        source_key: str,
        start: int,
        end: int,
        *,
        source_etag: str | None = None,
        source_bucket: str | None = None,
    ) -> Part:
        """Make a part of the bytes ``[start, end)`` of an object in this bucket, or in one of the same region.

        ``source_etag`` is sent as a condition, which the engine behind Spaces ignores: check the source again before
        the upload is completed.

        Raises:
            InvalidRange: The range is not inside the source.
            NoSuchKey, NoSuchUpload, PreconditionFailed, AccessDenied
        """
        headers = copy_source_headers(source_bucket or self.name, source_key, source_etag)
        headers["x-amz-copy-source-range"] = f"bytes={start}-{end - 1}"
        query = _part_query(number, upload_id)
        call = Call("UploadPartCopy", "write", "PUT", self.name, check_key(key), query=query, headers=headers)
        copied = await self._transport.send(call, lambda reply: parse_copy(reply.body))
        return Part(number, copied.etag, end - start)

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part], *, tags: str | None = None) -> str:
        """Make the object of all parts uploaded, and verify it where the server tells its ETag.

        ``parts`` are all that the upload has, in any order. ``tags`` are set, query-encoded, once the object is there.

        Returns:
            The ETag that the object has by its parts.

        Raises:
            IntegrityError: The server's ETag is another: it has other parts.
            NoSuchUpload: The upload is gone and the object is not what it should have become.
            InvalidRequest: The server has other parts than ``parts``, or one is too small.
            ServerFault: On the engine behind Spaces also: the upload was aborted.
        """
        expected = await self._complete(key, upload_id, parts)
        if tags:
            await self.set_tags(key, tags)
        return expected

    async def _complete(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        ordered = sorted(parts, key=lambda part: part.number)
        expected = multipart_etag([part.etag for part in ordered])
        call = Call(
            "CompleteMultipartUpload",
            "write",
            "POST",
            self.name,
            check_key(key),
            query=(("uploadId", upload_id),),
            headers={"content-type": "application/xml"},
            body=complete_document(ordered),
        )
        try:
            etag = await self._transport.send(call, lambda reply: parse_completed_etag(reply.body))
        except (BadReply, NoSuchUpload, ServerFault) as error:
            is_final = isinstance(error, NoSuchUpload) and error.attempts == 1
            if not is_final and await self._stored_etag(key) == expected:
                return expected  # an attempt did it, only its reply was lost
            raise
        if etag not in ("", expected):  # the engine's first reply has an empty one
            raise call.error(IntegrityError, f"completed with ETag {etag}, its parts make {expected}")
        return expected

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """End an upload and free its parts.

        Raises:
            NoSuchUpload: It was completed or aborted before.
        """
        query = (("uploadId", upload_id),)
        call = Call("AbortMultipartUpload", "write", "DELETE", self.name, check_key(key), query=query)
        try:
            await self._transport.send(call, no_result)
        except NoSuchUpload as error:
            if error.attempts == 1:
                raise

    async def abandon_upload(self, key: str, upload_id: str) -> None:
        """End an upload that went wrong, without ever raising: in some seconds, also for a task that is cancelled.

        Should it not work, `abort_uploads` finds the upload a day later.
        """
        with trio.move_on_after(_ABANDON_SECONDS, shield=True), suppress(SpacesError):
            await self.abort_upload(key, upload_id)

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that the server has of an upload, by number.

        Raises:
            NoSuchUpload: It was completed or aborted, or never was.
        """
        parts: list[Part] = []
        marker = ""
        while True:
            query = (("uploadId", upload_id), *((("part-number-marker", marker),) if marker else ()))
            call = Call("ListParts", "list", "GET", self.name, check_key(key), query=query)
            try:
                page, following = await self._transport.send(call, lambda reply: parse_parts(reply.body))
            except NoSuchKey as error:  # the engine's word for it
                raise call.error(NoSuchUpload, "no such upload", status=error.status, code=error.code) from None
            parts += page
            if not following or not page or following == marker:
                return parts
            marker = following

    async def list_uploads(self, prefix: str = "") -> list[Upload]:
        """Return the uploads in progress under a prefix, by key."""
        uploads: list[Upload] = []
        marker: tuple[str, str] | None = None
        while True:
            query = [("uploads", ""), ("prefix", prefix)]
            if marker is not None:
                query += [("key-marker", marker[0]), ("upload-id-marker", marker[1])]
            call = Call("ListMultipartUploads", "list", "GET", self.name, query=tuple(query))
            page, following = await self._transport.send(call, lambda reply: parse_uploads(reply.body))
            uploads += page
            if following is None or not page or following == marker:
                return uploads
            marker = following

    async def _stored_etag(self, key: str) -> str | None:
        """Return the ETag of what is under a key now."""
        call = Call("HeadObject", "read", "HEAD", self.name, key)
        try:
            return await self._transport.send(call, lambda reply: reply.headers.get("etag", "").strip('"'))
        except NoSuchKey:
            return None


def _part_query(number: int, upload_id: str) -> tuple[tuple[str, str], ...]:
    if not 1 <= number <= MAX_PARTS:  # the engine takes any number, and then can't complete
        raise ValueError(f"part number {number} is not within 1 and {MAX_PARTS}")
    return (("partNumber", str(number)), ("uploadId", upload_id))
