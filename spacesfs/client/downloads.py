"""Whole objects and ranges out of a Space: as a stream, into memory, into a file.

A stream asks for pieces of 8 MiB, some ahead of its reader, all of one version: a change of the object ends it in
`PreconditionFailed`, never in bytes of two versions. Each piece is a call of its own, retried by itself. What is read
from start to end is compared with the object's MD5 where its ETag is one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from spacesfs.client.buffers import PIECE_BYTES, Buffers, Loan
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import IntegrityError, InvalidRange, SpacesError
from spacesfs.client.localfile import NewFile, local_target, on_disk
from spacesfs.client.models import ObjectInfo
from spacesfs.client.objects import ObjectCalls
from spacesfs.tasks import open_team

Progress = Callable[[int], None]
"""Is told of each number of bytes that was moved; must not block or raise."""


def no_progress(_: int) -> None:
    """Tell nobody."""


class DownloadCalls(ObjectCalls):
    """Calls that move more than one reply should hold."""

    @asynccontextmanager
    async def stream(
        self,
        key: str,
        start: int = 0,
        end: int | None = None,
        *,
        version_id: str | None = None,
        customer_key: CustomerKey | None = None,
        buffers: Buffers | None = None,
        size_hint: int = PIECE_BYTES,
    ) -> AsyncIterator[ObjectStream]:
        """Open the bytes ``[start, end)`` of an object for reading in order; errors come out of the block.

        Args:
            key: The object.
            start: Offset of the first byte.
            end: Offset after the last byte, clipped to the object's size; None for the end of the object.
            version_id: Read this version, not the latest.
            customer_key: The key that the object is encrypted under.
            buffers: Memory to use; by default 64 MiB of its own. Never share it with where the bytes go on to: each
                side would wait for what the other holds.
            size_hint: How many bytes there will be, if a listing has told; saves memory, and may be wrong.

        Raises:
            ValueError: There is no such range.
            InvalidRange: The object ends before ``start``.
            PreconditionFailed: The object was replaced meanwhile.
            IntegrityError: All bytes of the object were read, and they are not those that its ETag promises.
            NoSuchKey, AccessDenied
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"there are no bytes from {start} to {end}")
        read = partial(self.get_range, key, version_id=version_id, customer_key=customer_key)
        room = buffers or Buffers()
        first = await room.lend(min(PIECE_BYTES, max(size_hint, 1) if end is None else end - start))
        try:
            try:
                info = await read(start, first.view)
            except InvalidRange:
                info = await self.head(key, version_id=version_id, customer_key=customer_key)
                if start or info.size:
                    raise
            end = info.size if end is None else min(end, info.size)
            after = start + len(first.view)
            if after >= end:
                yield ObjectStream(info, end - start, first)
                return
            async with open_team() as team:
                rest = _Pieces(read, room, team)
                team.start_soon(rest.feed, after, end, info.etag)
                yield ObjectStream(info, end - start, first, rest)
                team.cancel_scope.cancel()
        finally:
            first.end()

    async def get(
        self, key: str, *, version_id: str | None = None, customer_key: CustomerKey | None = None
    ) -> tuple[ObjectInfo, bytes]:
        """Return an object's description and all its bytes, verified; mind its size.

        Raises:
            PreconditionFailed, IntegrityError, NoSuchKey, AccessDenied: As `stream`.
        """
        async with self.stream(key, version_id=version_id, customer_key=customer_key) as stream:
            pieces = [bytes(piece) async for piece in stream]
        return stream.info, pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def download_file(
        self,
        key: str,
        path: Path,
        start: int = 0,
        end: int | None = None,
        *,
        overwrite: bool = False,
        version_id: str | None = None,
        customer_key: CustomerKey | None = None,
        buffers: Buffers | None = None,
        on_bytes: Progress = no_progress,
    ) -> ObjectInfo:
        """Store the bytes ``[start, end)`` of an object in a file, which appears when it is whole and verified.

        Args:
            key: The object.
            path: The file, or a directory that exists: there it gets the last part of the key for its name.
            start: As with `stream`.
            end: As with `stream`.
            overwrite: Replace a file that is there.
            version_id: As with `stream`.
            customer_key: As with `stream`.
            buffers: As with `stream`.
            on_bytes: Is told of the progress.

        Raises:
            FileExistsError: The file is there.
            OSError: It can't be written.
            ValueError, InvalidRange, PreconditionFailed, IntegrityError, NoSuchKey, AccessDenied: As `stream`.
        """
        reading = self.stream(key, start, end, version_id=version_id, customer_key=customer_key, buffers=buffers)
        with NewFile(local_target(path, key), overwrite=overwrite) as file:
            info = await copy_to_file(reading, file, on_bytes)
            await on_disk(file.commit)
        return info


async def copy_to_file(
    reading: AbstractAsyncContextManager[ObjectStream], file: NewFile, on_bytes: Progress = no_progress
) -> ObjectInfo:
    """Write what `DownloadCalls.stream` opens to a file, which is then still to be committed.

    Raises:
        SpacesError: As the stream.
        OSError: The disk is full.
    """
    async with reading as stream:
        async for piece in stream:
            await on_disk(file.write, piece, size=len(piece))
            on_bytes(len(piece))
    return stream.info


class ObjectStream:
    """The bytes of an object, piece by piece and in order. A piece is only valid until the next one is asked for.

    Attributes:
        info: The object's description.
        size: How many bytes the stream has in all.
    """

    def __init__(self, info: ObjectInfo, size: int, first: Loan, rest: _Pieces | None = None) -> None:
        self.info = info
        self.size = size
        self._first = first
        self._rest = rest
        self._left = size
        self._md5 = hashlib.md5(usedforsecurity=False) if info.md5 and size == info.size else None

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        if not self._left:
            self._release()
            self._verify()
            raise StopAsyncIteration
        if self._left == self.size:
            piece = self._first.view[: self.size]
        else:
            self._release()
            assert self._rest is not None, "there is more than the first piece"
            piece = await self._rest.next()
        if self._md5 is not None:
            await on_disk(self._md5.update, piece, size=len(piece))
        self._left -= len(piece)
        return piece

    def _release(self) -> None:
        """Let the buffer of the last piece go."""
        self._first.end()
        if self._rest is not None:
            self._rest.release()

    def _verify(self) -> None:
        if self._md5 is not None and self._md5.hexdigest() != self.info.md5:
            got, promised = self._md5.hexdigest(), self.info.md5
            raise IntegrityError(
                f"{self.info.key!r}: received bytes of MD5 {got}, promised {promised}", key=self.info.key
            )


@dataclass(slots=True, eq=False)
class _Piece:
    """One range on its way: a task fills it, and holds its buffer until it is released.

    Attributes:
        is_admitted: It has a buffer.
        is_over: ``view`` is there, or ``error``.
        is_released: The reader has done with it.
    """

    start: int
    length: int
    view: memoryview = field(default_factory=lambda: memoryview(b""))
    error: SpacesError | None = None
    is_admitted: trio.Event = field(default_factory=trio.Event)
    is_over: trio.Event = field(default_factory=trio.Event)
    is_released: trio.Event = field(default_factory=trio.Event)


class _Pieces:
    """Fetches pieces ahead of one reader, as far as the buffers reach."""

    def __init__(self, read: Callable[..., Awaitable[ObjectInfo]], buffers: Buffers, team: trio.Nursery) -> None:
        self._read = read
        self._buffers = buffers
        self._team = team
        self._coming: deque[_Piece] = deque()
        self._has_more = trio.Event()
        self._given: _Piece | None = None

    async def feed(self, start: int, end: int, etag: str) -> None:
        """Fetch pieces, each as soon as there is a buffer for it."""
        for at in range(start, end, PIECE_BYTES):
            piece = self._begin(at, min(PIECE_BYTES, end - at), etag)
            await piece.is_admitted.wait()

    async def next(self) -> memoryview:
        """Return the next piece; the one before it must be released.

        Raises:
            SpacesError: It can't be had.
        """
        while not self._coming:
            await self._has_more.wait()
        self._given = piece = self._coming.popleft()
        await piece.is_over.wait()
        if piece.error is not None:
            raise piece.error
        return piece.view

    def release(self) -> None:
        """Let the buffer of the piece go that the reader had."""
        if self._given is not None:
            self._given.is_released.set()
            self._given = None

    def _begin(self, start: int, length: int, etag: str) -> _Piece:
        piece = _Piece(start, length)
        self._coming.append(piece)
        self._has_more.set()
        self._has_more = trio.Event()
        self._team.start_soon(self._fetch, piece, etag)
        return piece

    async def _fetch(self, piece: _Piece, etag: str) -> None:
        async with self._buffers.borrow(piece.length) as buffer:
            piece.is_admitted.set()
            try:
                await self._read(piece.start, buffer, if_match=etag)
            except SpacesError as error:
                piece.error = error
            else:
                piece.view = buffer
            piece.is_over.set()
            await piece.is_released.wait()
