"""A bucket in memory, for tests that need what no server does on request: to wait, to fail, or to change in between."""

from __future__ import annotations

import builtins
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import trio

from spacesfs.client.errors import InvalidRange, NoSuchKey, NoSuchUpload, PreconditionFailed
from spacesfs.client.models import (
    Acl,
    CopyResult,
    DeleteFailure,
    ListedObject,
    ListPage,
    ObjectInfo,
    ObjectProperties,
    ObjectVersion,
    Part,
    Upload,
)

Hook = Callable[[str, str], Awaitable[None]]
"""Told of a call and its key before it takes effect; may wait, raise, or change the store."""

Conditions: TypeAlias = Literal["honoured", "ignored", "versioned"]
"""What a PUT does with a condition; a versioned bucket ignores If-None-Match and refuses every If-Match."""

_PLAIN = ObjectProperties()
_PAGE_KEYS = 1000
PIECE_BYTES = 64 << 10
_with = replace  # `copy` has an argument of that name


@dataclass(slots=True)
class _Stored:
    body: bytes
    info: ObjectInfo
    acl: Acl
    tags: str | None


async def _nothing(call: str, key: str) -> None:
    await trio.lowlevel.checkpoint()


class MemoryStore:
    """Objects and multipart uploads.

    Attributes:
        calls: Every call with its key, in order.
        hook: Awaited at the start of every call.
        piece_hook: Awaited after each piece of a body that `get_range` brings.
        late_hook: Awaited when the call has taken effect, before its reply is there.
        in_flight_bytes: Bodies of puts and parts that are being sent; ``peak_bytes`` is the most there ever was.
        conditions: What a PUT does with a condition.
        undeletable: Keys that a multi-object delete may not remove.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.hook: Hook = _nothing
        self.piece_hook: Hook = _nothing
        self.late_hook: Hook = _nothing
        self.in_flight_bytes = self.peak_bytes = 0
        self._received: Counter[str] = Counter()
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.conditions: Conditions = "honoured"
        self.undeletable: set[str] = set()
        self.page_keys = _PAGE_KEYS
        self._objects: dict[str, _Stored] = {}
        self._properties: dict[str, ObjectProperties] = {}
        self._uploads: dict[str, Upload] = {}
        self._clock_ns = 1_700_000_000_123_000_000

    # --- from outside: what another host does, at once

    def names(self) -> list[str]:
        """Return all keys in order."""
        return sorted(self._objects)

    def body(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self._objects[key].body

    def info(self, key: str) -> ObjectInfo:
        """Return what a HEAD tells: whole seconds."""
        info = self._objects[key].info
        return replace(info, last_modified_ns=info.last_modified_ns // 10**9 * 10**9)

    def received(self, key: str) -> int:
        """Return how many bytes of an object `get_range` has brought so far, each as often as it came."""
        return self._received[key]

    def version(self, key: str) -> ObjectVersion:
        """Return the identity of an object."""
        info = self._objects[key].info
        return ObjectVersion(key, info.etag, info.size)

    def set(self, key: str, body: bytes, properties: ObjectProperties = _PLAIN, *, etag: str = "") -> ObjectVersion:
        """Store an object."""
        self._clock_ns += 1_001_000_000
        etag = etag or hashlib.md5(body, usedforsecurity=False).hexdigest()
        told = replace(properties, acl=None, tags=None)
        tag_count = properties.tags.count("=") if properties.tags else 0
        info = ObjectInfo(key, len(body), etag, self._clock_ns, told, tag_count)
        self._objects[key] = _Stored(body, info, properties.acl or "private", properties.tags)
        return ObjectVersion(key, etag, len(body))

    def remove(self, key: str) -> None:
        """Remove an object."""
        self._objects.pop(key, None)

    def count(self) -> Counter[str]:
        """Return how often each call was made."""
        return Counter(call for call, _ in self.calls)

    # --- the calls of a bucket

    def server_time_ns(self) -> int:
        """As `Bucket.server_time_ns`: objects are stored by a clock of their own, which this is long past."""
        return time.time_ns()

    async def head(self, key: str) -> ObjectInfo:
        """As `Bucket.head`."""
        await self._begin("head", key)
        info = replace(self._find(key).info)
        await self.late_hook("head", key)
        return replace(info, last_modified_ns=info.last_modified_ns // 10**9 * 10**9)

    async def get_range(
        self,
        key: str,
        start: int,
        buffer: memoryview,
        *,
        if_match: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        """As `Bucket.get_range`."""
        await self._begin("get_range", key)
        stored = self._find(key)
        if if_match is not None and if_match != stored.info.etag:
            raise PreconditionFailed("another version", key=key)
        if start >= len(stored.body):
            raise InvalidRange("past the end", key=key)
        piece = stored.body[start : start + len(buffer)]
        for done in range(0, len(piece), PIECE_BYTES):
            buffer[done : min(done + PIECE_BYTES, len(piece))] = piece[done : done + PIECE_BYTES]
            self._received[key] += min(PIECE_BYTES, len(piece) - done)
            if on_bytes is not None:
                on_bytes(min(done + PIECE_BYTES, len(piece)))
            await self.piece_hook("get_range", key)
        await self.late_hook("get_range", key)
        return stored.info

    async def put(
        self,
        key: str,
        body: bytes | bytearray | memoryview,
        properties: ObjectProperties = _PLAIN,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """As `Bucket.put`."""
        await self._send("put", key, len(body))
        if not self._meets(key, if_match, is_new=if_none_match):
            raise PreconditionFailed("another version", key=key)
        etag = self.set(key, bytes(body), properties).etag
        await self.late_hook("put", key)
        return etag

    async def create_upload(self, key: str, properties: ObjectProperties = _PLAIN) -> str:
        """As `Bucket.create_upload`."""
        await self._begin("create_upload", key)
        upload_id = f"upload-{len(self.calls)}"
        self.uploads[upload_id] = {}
        self._uploads[upload_id] = Upload(key, upload_id, time.time_ns())
        self._properties[upload_id] = properties
        await self.late_hook("create_upload", key)
        return upload_id

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray | memoryview) -> Part:
        """As `Bucket.upload_part`."""
        await self._send("upload_part", key, len(body))
        part = self._part(upload_id, number, bytes(body))
        await self.late_hook("upload_part", key)
        return part

    async def copy_part(  # noqa: PLR0917 - as the bucket's own
        self,
        key: str,
        upload_id: str,
        number: int,
        source_key: str,
        start: int,
        end: int,
        *,
        source_etag: str | None = None,  # noqa: ARG002 - as the bucket's own
    ) -> Part:
        """As `Bucket.copy_part`: the engine ignores the condition."""
        await self._begin("copy_part", key)
        source = self._find(source_key)
        if end > len(source.body):
            raise InvalidRange("past the end", key=source_key)
        part = self._part(upload_id, number, source.body[start:end])
        await self.late_hook("copy_part", key)
        return part

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part], *, tags: str | None = None) -> str:
        """As `Bucket.complete_upload`."""
        await self._begin("complete_upload", key)
        if upload_id not in self.uploads:
            raise NoSuchUpload("gone", key=key)
        sent = self.uploads.pop(upload_id)
        assert [part.number for part in parts] == sorted(sent), "parts are completed in order, all of them"
        body = b"".join(sent[part.number] for part in parts)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        self.set(key, body, _with(self._properties.pop(upload_id), tags=tags), etag=etag)
        await self.late_hook("complete_upload", key)
        return etag

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """As `Bucket.abort_upload`."""
        await self._begin("abort_upload", key)
        if self.uploads.pop(upload_id, None) is None:
            raise NoSuchUpload("gone", key=key)
        await self.late_hook("abort_upload", key)

    async def list_parts(self, key: str, upload_id: str) -> builtins.list[Part]:
        """As `Bucket.list_parts`."""
        await self._begin("list_parts", key)
        if upload_id not in self.uploads:
            raise NoSuchUpload("gone", key=key)
        parts = sorted(self.uploads[upload_id].items())
        return [Part(number, hashlib.md5(body, usedforsecurity=False).hexdigest(), len(body)) for number, body in parts]

    async def list_uploads(self, prefix: str = "") -> builtins.list[Upload]:
        """As `Bucket.list_uploads`."""
        await self._begin("list_uploads", prefix)
        found = [self._uploads[upload_id] for upload_id in self.uploads]
        return sorted((upload for upload in found if upload.key.startswith(prefix)), key=lambda upload: upload.key)

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source_etag: str | None = None,
        replace: ObjectProperties | None = None,
        acl: Acl | None = None,
    ) -> CopyResult:
        """As `Bucket.copy`."""
        await self._begin("copy", source_key)
        source = self._find(source_key)
        if source_etag is not None and source_etag != source.info.etag:
            raise PreconditionFailed("another version", key=source_key)
        given = replace or _with(source.info.properties, tags=source.tags)
        carried = _with(given, acl=acl or given.acl)
        self.set(target_key, source.body, carried, etag=source.info.etag)
        info = self._objects[target_key].info
        await self.late_hook("copy", source_key)
        return CopyResult(info.etag, info.last_modified_ns)

    async def delete(self, key: str) -> None:
        """As `Bucket.delete`."""
        await self._begin("delete", key)
        self.remove(key)
        await self.late_hook("delete", key)

    async def delete_many(self, keys: Sequence[str]) -> builtins.list[DeleteFailure]:
        """As `Bucket.delete_many`; counts as one call, of the first key."""
        await self._begin("delete_many", keys[0])
        for key in keys:
            if key not in self.undeletable:
                self.remove(key)
        await self.late_hook("delete_many", keys[0])
        return [DeleteFailure(key, "AccessDenied", "no right") for key in keys if key in self.undeletable]

    async def get_acl(self, key: str) -> Acl:
        """As `Bucket.get_acl`."""
        await self._begin("get_acl", key)
        return self._find(key).acl

    async def get_tags(self, key: str) -> str | None:
        """As `Bucket.get_tags`."""
        await self._begin("get_tags", key)
        return self._find(key).tags

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        max_keys: int = _PAGE_KEYS,
        start_after: str | None = None,
        resume: str | None = None,
    ) -> ListPage:
        """As `Bucket.list_page`; names go by code points, as UTF-8 does."""
        await self._begin("list_page", prefix)
        after = resume or start_after or ""
        names: dict[str, ListedObject | None] = {}
        for key in filter(lambda key: key.startswith(prefix), self.names()):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[: cut + 1] if cut >= 0 else key
            if name > after:
                names[name] = self._listed(key) if cut < 0 else None
        shown = sorted(names)[: min(max_keys, self.page_keys)]
        objects = tuple(entry for name in shown if (entry := names[name]) is not None)
        await self.late_hook("list_page", prefix)
        return ListPage(
            objects,
            tuple(name for name in shown if names[name] is None),
            shown[-1] if len(shown) < len(names) else None,
        )

    def resume_after(self, key: str) -> str:
        """As `Bucket.resume_after`."""
        return key

    async def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """As `Bucket.list`."""
        resume: str | None = None
        while True:
            page = await self.list_page(prefix, delimiter=delimiter, resume=resume)
            yield page
            if page.resume is None:
                return
            resume = page.resume

    # --- inside

    async def _begin(self, call: str, key: str) -> None:
        self.calls.append((call, key))
        await self.hook(call, key)
        await trio.lowlevel.checkpoint()

    async def _send(self, call: str, key: str, size: int) -> None:
        self.in_flight_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.in_flight_bytes)
        try:
            await self._begin(call, key)
        finally:
            self.in_flight_bytes -= size

    def _meets(self, key: str, if_match: str | None, *, is_new: bool) -> bool:
        if self.conditions == "versioned":
            return if_match is None
        now = self._objects.get(key)
        is_met = (not is_new or now is None) and (if_match is None or (now is not None and now.info.etag == if_match))
        return is_met or self.conditions == "ignored"

    def _find(self, key: str) -> _Stored:
        try:
            return self._objects[key]
        except KeyError:
            raise NoSuchKey("no such key", key=key) from None

    def _listed(self, key: str) -> ListedObject:
        info = self._objects[key].info
        return ListedObject(key, info.size, info.etag, info.last_modified_ns)

    def _part(self, upload_id: str, number: int, body: bytes) -> Part:
        if upload_id not in self.uploads:
            raise NoSuchUpload("gone")
        self.uploads[upload_id][number] = body
        return Part(number, hashlib.md5(body, usedforsecurity=False).hexdigest(), len(body))


class Gate:
    """Holds calls of one name back until it is opened."""

    def __init__(self, call: str, key: str | None = None) -> None:
        self._call = call
        self._key = key
        self.arrived = trio.Event()
        self.opened = trio.Event()

    async def __call__(self, call: str, key: str) -> None:
        if call == self._call and self._key in (None, key):
            self.arrived.set()
            await self.opened.wait()
