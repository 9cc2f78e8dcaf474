"""From a changed file to an object: what to send, what to copy inside the Space, and the upload that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, PreconditionFailed, SpacesError
from spacesfs.client.hashing import md5_hex, multipart_etag
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion, Part
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.errors import FileTooBig
from spacesfs.tasks import open_team

SINGLE_PUT_BYTES = 16 << 20  # up to here one PUT; a multipart upload costs at least three requests
PART_BYTES = 8 << 20  # a multiple of RGW's 4 MiB stripes
MAX_PARTS = 10_000  # S3 API, UploadPart: partNumber 1 to 10,000
MAX_COPY_BYTES = (
    512 << 20
)  # the server copies about 250 MB/s per request: longer parts copy no faster, shorter ones in parallel
MAX_OBJECT_BYTES = 5 << 40  # S3 API, multipart object
_ABORT_SECONDS = 10.0


class UploadStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def put(
        self,
        key: str,
        body: bytes | bytearray | memoryview,
        properties: ObjectProperties = ...,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Store an object in one request; return its ETag."""

    async def create_upload(self, key: str, properties: ObjectProperties = ...) -> str:
        """Begin a multipart upload; return its id."""

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray | memoryview) -> Part:
        """Send one part."""

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
    ) -> Part:
        """Copy one part from another object inside the Space."""

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part], *, tags: str | None = None) -> str:
        """End a multipart upload, and tag the object; return its ETag."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw a multipart upload away."""


class Source(Protocol):
    """The file that is uploaded."""

    def note_attempt(self, etag: str) -> None:
        """The next request may make an object of this ETag, whatever its reply says."""

    async def read_all(self, extent: Extent) -> memoryview:
        """Return the bytes of an extent, from wherever they are."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: ``extent`` of the file, to be copied from the base version or else sent."""

    extent: Extent
    is_copy: bool


def plan_parts(size: int, dirty: ExtentSet, base_size: int) -> list[PlannedPart]:
    """Cut a file of ``size`` bytes into parts: what is clean is copied from the base version, the rest is sent.

    The cuts lie on a grid of equal parts, large enough that 10,000 do; so every part but the last has at least 8 MiB
    (the server wants 5). Neighbouring copies are joined up to 512 MiB.
    """
    stripes = -(-size // (MAX_PARTS * (4 << 20)))
    grid = max(PART_BYTES, stripes * (4 << 20))
    parts: list[PlannedPart] = []
    for start in range(0, size, grid):
        extent = Extent(start, min(start + grid, size))
        is_copy = extent.end <= base_size and not dirty.within(*extent)
        last = parts[-1] if parts else None
        if is_copy and last and last.is_copy and extent.end - last.extent.start <= MAX_COPY_BYTES:
            parts[-1] = PlannedPart(Extent(last.extent.start, extent.end), is_copy=True)
        else:
            parts.append(PlannedPart(extent, is_copy))
    return parts


class Uploader:
    """Uploads files; parts go in parallel, as far as the memory budget lets them."""

    def __init__(self, store: UploadStore, budget: ByteBudget) -> None:
        self._store = store
        self._budget = budget

    async def put_small(
        self, key: str, source: Source, size: int, properties: ObjectProperties, *, is_new: bool
    ) -> str:
        """Store a file of up to ``SINGLE_PUT_BYTES`` in one request; return the ETag.

        Raises:
            PreconditionFailed: ``is_new``, and the key is taken.
        """
        async with self._budget.reserve(size):
            body = await source.read_all(Extent(0, size))
            source.note_attempt(await md5_hex(body))
            return await self._store.put(key, body, properties, if_none_match=is_new)

    async def put_parts(
        self,
        key: str,
        source: Source,
        parts: list[PlannedPart],
        properties: ObjectProperties,
        base: ObjectVersion | None,
    ) -> str:
        """Store a file by a multipart upload; return the ETag. A failed upload is aborted.

        Raises:
            PreconditionFailed: The base version was replaced meanwhile, or without one the key was taken.
        """
        if parts[-1].extent.end > MAX_OBJECT_BYTES:
            raise FileTooBig
        upload_id = await self._store.create_upload(key, properties)
        try:
            done = await self._send(key, upload_id, source, parts, base)
            await self._check(key, base)
            source.note_attempt(multipart_etag([part.etag for part in done]))
            return await self._store.complete_upload(key, upload_id, done, tags=properties.tags)
        except BaseException:
            await self._abort(key, upload_id)
            raise

    async def _send(
        self, key: str, upload_id: str, source: Source, parts: list[PlannedPart], base: ObjectVersion | None
    ) -> list[Part]:
        done: dict[int, Part] = {}

        async def copy(number: int, extent: Extent) -> None:
            assert base is not None, "only a base version is copied from"
            done[number] = await self._store.copy_part(
                key, upload_id, number, base.key, extent.start, extent.end, source_etag=base.etag
            )

        async def send(number: int, extent: Extent, has_room: trio.Event) -> None:
            async with self._budget.reserve(extent.length):
                has_room.set()
                done[number] = await self._store.upload_part(key, upload_id, number, await source.read_all(extent))

        async with open_team() as team:
            for number, part in enumerate(parts, start=1):
                if part.is_copy:
                    team.start_soon(copy, number, part.extent)
                else:
                    has_room = trio.Event()
                    team.start_soon(send, number, part.extent, has_room)
                    await (
                        has_room.wait()
                    )  # the budget paces the loop: a file of 10,000 parts does not become as many tasks
        return [done[number] for number in sorted(done)]

    async def _check(self, key: str, base: ObjectVersion | None) -> None:
        """Compare just before the end: the engine behind Spaces ignores conditions on part copies and on completion."""
        try:
            now = await self._store.head(key if base is None else base.key)
        except NoSuchKey:
            if base is None:
                return
            raise
        if base is None or now.etag != base.etag:
            raise PreconditionFailed(f"{now.key} was changed during the upload", key=now.key)

    async def _abort(self, key: str, upload_id: str) -> None:
        with trio.move_on_after(_ABORT_SECONDS, shield=True):
            try:
                await self._store.abort_upload(key, upload_id)
            except SpacesError:
                return  # the Space removes what was left after 30 days; the upload's own error matters more
