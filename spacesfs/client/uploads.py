"""Files and streams into a Space: one PUT up to 8 MiB, beyond it a multipart upload whose parts go in parallel.

Each part is verified by its MD5, and the whole by the ETag that the parts make. An upload that fails or is cancelled is
aborted. `abort_uploads` removes what others left behind.
"""

from __future__ import annotations

import errno
import itertools
import mimetypes
import os
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import trio

from spacesfs.client.buffers import PIECE_BYTES, STRIPE_BYTES, Buffers
from spacesfs.client.downloads import Progress, no_progress
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import IntegrityError, NoSuchUpload, TooLarge
from spacesfs.client.hashing import Body
from spacesfs.client.localfile import on_disk, read_exactly
from spacesfs.client.models import ObjectProperties, ObjectVersion, Part, Upload
from spacesfs.client.multipart import MAX_PARTS, MultipartCalls
from spacesfs.client.objects import ObjectCalls
from spacesfs.tasks import open_team

MAX_OBJECT_BYTES = 5 << 40  # S3 API, multipart object
DAY_SECONDS = 86_400.0

_SECOND_NS = 1_000_000_000
# Of a stream whose end nobody knows: parts grow, so that 10,000 of them reach 2.8 TB and short streams need no memory.
# The last count is one over, to see whether there is more.
_GROWTH = ((1000, PIECE_BYTES), (4000, 8 * PIECE_BYTES), (5001, 64 * PIECE_BYTES))


def guess_type(name: str) -> str | None:
    """Return the content type that a name's ending stands for, or None."""
    kind, encoding = mimetypes.guess_type(name, strict=False)
    return f"application/{encoding}" if encoding else kind  # a compressed file is served as what it is


class UploadCalls(ObjectCalls, MultipartCalls):
    """Calls that send more than one request should hold."""

    async def upload_file(
        self,
        key: str,
        path: Path,
        properties: ObjectProperties | None = None,
        *,
        overwrite: bool = True,
        customer_key: CustomerKey | None = None,
        buffers: Buffers | None = None,
        on_bytes: Progress = no_progress,
    ) -> ObjectVersion:
        """Store a file as an object.

        Args:
            key: The object's name.
            path: A regular file; `upload_stream` takes pipes and devices.
            properties: What the object carries; without a content type the one that the file's name stands for.
            overwrite: Replace an object that is there. If not, we look before the first byte is sent, and then the
                server does in one step where it honours conditions (up to 8 MiB), or we once more after the last byte.
            customer_key: Encrypt the object under this key.
            buffers: Memory to use; by default 64 MiB of its own.
            on_bytes: Is told of the progress.

        Raises:
            OSError: The file can't be read.
            PreconditionFailed: The object is there and shall not be replaced.
            IntegrityError: The file was changed while it was sent, or the server has other bytes.
            TooLarge: The file is over 5 TB.
            InvalidRequest, KeyTooLong, AccessDenied, QuotaExceeded
        """
        properties = _typed(properties, path.name)
        with _LocalSource(path) as source:
            if source.size > MAX_OBJECT_BYTES:
                raise TooLarge(f"{path} has {source.size} bytes; an object can have {MAX_OBJECT_BYTES}", key=key)
            job = _Job(key, properties, customer_key, buffers or Buffers(), on_bytes, is_new=not overwrite)
            if source.size <= PIECE_BYTES:
                async with job.buffers.borrow(source.size) as buffer:
                    await source.fill(buffer)
                    source.check()
                    return await self._put_whole(job, buffer)
            stripes = -(-source.size // (MAX_PARTS * STRIPE_BYTES))
            part_bytes = max(PIECE_BYTES, stripes * STRIPE_BYTES)
            return await self._put_parts(job, source, itertools.repeat(part_bytes))

    async def upload_stream(
        self,
        key: str,
        chunks: AsyncIterable[Body],
        properties: ObjectProperties | None = None,
        *,
        overwrite: bool = True,
        customer_key: CustomerKey | None = None,
        buffers: Buffers | None = None,
        on_bytes: Progress = no_progress,
    ) -> ObjectVersion:
        """Store what a stream of unknown length gives as an object, which appears when the stream has ended.

        What the stream raises comes out here, and no object appears. Arguments and errors are those of `upload_file`,
        but that an object can have 2.8 TB here.
        """
        job = _Job(key, _typed(properties, key), customer_key, buffers or Buffers(), on_bytes, is_new=not overwrite)
        source = _StreamSource(chunks)
        try:
            async with job.buffers.borrow() as buffer:
                filled = await source.fill(buffer)
                if filled < len(buffer):
                    return await self._put_whole(job, buffer[:filled])
                source.put_back(bytes(buffer))
            return await self._put_parts(job, source, _growing())
        finally:
            await source.close()

    async def abort_uploads(self, prefix: str = "", *, older_than_seconds: float = DAY_SECONDS) -> list[Upload]:
        """Abort the uploads under a prefix that nobody works on any more; return them.

        An upload counts as alive while its creation or its newest part is less than ``older_than_seconds`` old, by the
        server's clock.

        Raises:
            NoSuchBucket, AccessDenied
        """
        aborted: list[Upload] = []

        async def abort(upload: Upload) -> None:
            with suppress(NoSuchUpload):  # completed or aborted meanwhile
                await self.abort_upload(upload.key, upload.upload_id)
                aborted.append(upload)

        async with open_team() as team:
            for upload in await self.idle_uploads(prefix, older_than_seconds=older_than_seconds):
                team.start_soon(abort, upload)
        return sorted(aborted, key=_by_key_and_age)

    async def idle_uploads(self, prefix: str = "", *, older_than_seconds: float = DAY_SECONDS) -> list[Upload]:
        """Return the uploads that `abort_uploads` would abort, by key.

        Raises:
            NoSuchBucket, AccessDenied
        """
        uploads = await self.list_uploads(prefix)
        before_ns = self.server_time_ns() - round(older_than_seconds * _SECOND_NS)
        idle: list[Upload] = []

        async def look(upload: Upload) -> None:
            with suppress(NoSuchUpload):  # completed or aborted meanwhile
                parts = await self.list_parts(upload.key, upload.upload_id)
                if all(part.modified_ns <= before_ns for part in parts):
                    idle.append(upload)

        async with open_team() as team:
            for upload in uploads:
                if upload.initiated_ns <= before_ns:
                    team.start_soon(look, upload)
        return sorted(idle, key=_by_key_and_age)

    async def _put_whole(self, job: _Job, body: memoryview) -> ObjectVersion:
        if job.is_new:
            await self.check_absent(job.key)
        etag = await self.put(job.key, body, job.properties, if_none_match=job.is_new, customer_key=job.customer_key)
        job.on_bytes(len(body))
        return ObjectVersion(job.key, etag, len(body))

    async def _put_parts(self, job: _Job, source: _Source, sizes: Iterable[int]) -> ObjectVersion:
        """Send parts of the given sizes until the source has no more; abort if anything goes wrong."""
        if job.is_new:
            await self.check_absent(job.key)
        upload_id = await self.create_upload(job.key, job.properties, customer_key=job.customer_key)
        try:
            parts = await self._send_parts(job, source, sizes, upload_id)
            source.check()
            if job.is_new:
                await self.check_absent(job.key)
            etag = await self.complete_upload(job.key, upload_id, parts, tags=job.properties.tags)
        except BaseException:
            await self.abandon_upload(job.key, upload_id)
            raise
        return ObjectVersion(job.key, etag, sum(part.size for part in parts))

    async def _send_parts(self, job: _Job, source: _Source, sizes: Iterable[int], upload_id: str) -> list[Part]:
        parts: list[Part] = []

        async def send(number: int, size: int, is_read: trio.Event, counts: list[int]) -> None:
            async with job.buffers.borrow(size) as buffer:
                counts.append(await source.fill(buffer))
                is_read.set()
                if counts[0] and number > MAX_PARTS:
                    raise TooLarge(f"{job.key!r}: the stream has more than an object can hold", key=job.key)
                if counts[0]:
                    body = buffer[: counts[0]]
                    parts.append(
                        await self.upload_part(job.key, upload_id, number, body, customer_key=job.customer_key)
                    )
                    job.on_bytes(len(body))

        async with open_team() as team:
            for number, size in enumerate(sizes, start=1):
                is_read, counts = trio.Event(), list[int]()
                team.start_soon(send, number, size, is_read, counts)
                await is_read.wait()  # the source is read in order, the parts go out side by side
                if counts[0] < size:
                    break
        return parts


@dataclass(frozen=True, slots=True)
class _Job:
    """What to make, and with which means."""

    key: str
    properties: ObjectProperties
    customer_key: CustomerKey | None
    buffers: Buffers
    on_bytes: Progress
    is_new: bool


class _Source(Protocol):
    """Where the bytes come from, in order."""

    async def fill(self, buffer: memoryview) -> int:
        """Fill a buffer; return how many bytes there were, fewer only at the end."""

    def check(self) -> None:
        """Make sure that what was read is all, and of one state of the source; raises `IntegrityError`."""


class _LocalSource:
    """A file, as it was when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not let us wait
        self._status = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._status.st_mode):
            os.close(self._descriptor)
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        self._read_bytes = 0
        self.size = self._status.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    async def fill(self, buffer: memoryview) -> int:
        wanted = buffer[: self.size - self._read_bytes]
        try:
            count = await on_disk(read_exactly, self._descriptor, wanted, self._read_bytes, size=len(wanted))
        except OSError as error:
            error.filename = str(self._path)
            raise
        self._read_bytes += count
        return count

    def check(self) -> None:
        now = os.fstat(self._descriptor)
        before = (self.size, self._status.st_mtime_ns)
        if self._read_bytes != self.size or (now.st_size, now.st_mtime_ns) != before:
            raise IntegrityError(f"{self._path} was changed while it was sent")


class _StreamSource:
    """What a stream gives, in pieces of any size."""

    def __init__(self, chunks: AsyncIterable[Body]) -> None:
        self._chunks = aiter(chunks)
        self._ahead: deque[memoryview] = deque()

    async def fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            if not self._ahead:
                try:
                    self._ahead.append(memoryview(await anext(self._chunks)).cast("B"))
                except StopAsyncIteration:
                    break
            chunk = self._ahead.popleft()
            piece = chunk[: len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            if len(piece) < len(chunk):
                self._ahead.appendleft(chunk[len(piece) :])
        return filled

    async def close(self) -> None:
        """End a generator, which must not be left to the garbage collector."""
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()

    def put_back(self, data: bytes) -> None:
        """Give these bytes once more."""
        self._ahead.appendleft(memoryview(data))

    def check(self) -> None:
        """A stream is what it gives."""


def _growing() -> Iterator[int]:
    """Return the sizes of the parts of a stream whose end nobody knows; after the last one the end is near."""
    for count, size in _GROWTH:
        yield from itertools.repeat(size, count)


def _by_key_and_age(upload: Upload) -> tuple[str, int]:
    return upload.key, upload.initiated_ns


def _typed(properties: ObjectProperties | None, name: str) -> ObjectProperties:
    """Return properties with a content type, if one can be told from the name."""
    given = properties or ObjectProperties()
    return given if given.content_type else replace(given, content_type=guess_type(name))
