"""Named files on the local disk that hold staged bytes; only so many of them are open at once."""

from __future__ import annotations

import ctypes
import errno
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from spacesfs.content.extents import Extent
from spacesfs.errors import NoSpace

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task whose owner is elsewhere."""

MAX_DESCRIPTORS = 500  # half of what a process may usually open; sockets and the other half are not ours
WRITEBACK_BYTES = 32 << 20  # the sync of 1 GiB written at 250 MB/s then takes 0.03 s, else 1 s (495 MB/s disk)
_PUNCH = 0x01 | 0x02  # linux/falloc.h: FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # 64-bit offsets, on 32-bit machines too
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Descriptors:
    """The backing files of one directory that are open: the ones used last."""

    def __init__(self, directory: Path, spawn: Spawn, limit: int = MAX_DESCRIPTORS) -> None:
        self.directory = directory
        self.spawn = spawn
        self._limit = limit
        self._open: OrderedDict[BackingFile, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, file: BackingFile) -> int:
        """Return the descriptor of a file, opened if need be; it is good until another one is asked for."""
        descriptor = self._open.get(file)
        if descriptor is None:
            if len(self._open) >= self._limit:
                self.close(next(iter(self._open)))
            descriptor = self._open[file] = file.open()
        else:
            self._open.move_to_end(file)
        return descriptor

    def close(self, file: BackingFile) -> None:
        """Close a file's descriptor, if it is open."""
        if (descriptor := self._open.pop(file, None)) is not None:
            os.close(descriptor)


class BackingFile:
    """The file of one number. It is made by its first use, and again by the first use after `delete`.

    What is written counts as durable only after `sync`. Of many bytes most are brought to the disk before somebody asks
    for that. An error of the disk stays: the kernel tells it once and then takes the pages for clean.
    """

    def __init__(self, descriptors: Descriptors, number: int, *, is_there: bool) -> None:
        self._descriptors = descriptors
        self._path = descriptors.directory / str(number)
        self._is_there = self._name_is_durable = is_there
        self._writes = self._synced_writes = 0
        self._waiting_bytes = 0
        self._is_writing_back = False
        self._deletions = 0
        self._failure: OSError | None = None

    def open(self) -> int:
        """Return a new descriptor, for `Descriptors` to keep."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        with staging_errors():
            descriptor = os.open(self._path, flags if self._is_there else flags | os.O_CREAT | os.O_EXCL, 0o600)
        self._is_there = True
        return descriptor

    def write(self, offset: int, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write pieces one after the other.

        Raises:
            NoSpace: The disk or a quota is full; some of the bytes may have been written.
        """
        views = [memoryview(piece) for piece in pieces]
        self._writes += 1
        try:
            with staging_errors():
                while views:
                    count = os.pwritev(self._descriptors.get(self), views, offset)
                    offset += count
                    self._waiting_bytes += count
                    while views and count >= len(views[0]):
                        count -= len(views.pop(0))
                    if count:
                        views[0] = views[0][count:]
        finally:
            for view in views:  # an error that somebody keeps would keep them, and no bytearray grows under a view
                view.release()
        if self._waiting_bytes >= WRITEBACK_BYTES and not self._is_writing_back:
            self._is_writing_back = True
            self._descriptors.spawn(self._write_back)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer``, all of which was written once."""
        read_pieces(self._descriptors.get(self), [(offset, buffer)])

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Return a descriptor of its own that is good for the time of the block, for another thread."""
        descriptor = os.dup(self._descriptors.get(self))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    async def sync(self) -> None:
        """Return when all that was written is on stable storage, the file's name too.

        Raises:
            NoSpace, OSError: The disk has lost bytes, now or earlier.
        """
        with staging_errors():
            if self._failure is not None:
                raise self._failure
            if self._synced_writes == self._writes:
                return
            writes, deletions = self._writes, self._deletions
            directory = None if self._name_is_durable else self._descriptors.directory
            self._waiting_bytes = 0
            try:
                with self.in_use() as descriptor:
                    await trio.to_thread.run_sync(_sync, descriptor, directory)
            except OSError as error:
                if self._deletions == deletions and error.errno not in {errno.EMFILE, errno.ENFILE}:
                    self._failure = error
                raise
        if self._deletions == deletions:
            self._name_is_durable = True
            self._synced_writes = max(self._synced_writes, writes)

    async def _write_back(self) -> None:
        try:
            while self._waiting_bytes >= WRITEBACK_BYTES:
                await self.sync()
        except (NoSpace, OSError):
            return  # kept: whoever asks for durability is told
        finally:
            self._is_writing_back = False

    def free(self, extent: Extent, kept_end: int) -> bool:
        """Give blocks back to the disk, of a file that is needed up to ``kept_end``; say False where that can't be."""
        if not self._is_there:
            return True
        if extent.start >= kept_end:
            self.cut(kept_end)
            return True
        if _fallocate(self._descriptors.get(self), _PUNCH, extent.start, extent.length) == 0:
            return True
        error = ctypes.get_errno()
        if error in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False  # the file system has no holes
        raise OSError(error, os.strerror(error))

    def cut(self, size_bytes: int) -> None:
        """Make the file reach exactly that far."""
        os.ftruncate(self._descriptors.get(self), size_bytes)

    def length(self) -> int | None:
        """Return how far the file reaches, None if it is not there."""
        try:
            return self._path.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Close the descriptor; the next use opens it again."""
        self._descriptors.close(self)

    @property
    def is_there(self) -> bool:
        """Say whether the file was made."""
        return self._is_there

    def delete(self) -> None:
        """Remove the file, if it was made; another thread that has it in use may end that."""
        self._descriptors.close(self)
        if self._is_there:
            self._path.unlink(missing_ok=True)
        self._is_there = self._name_is_durable = False
        self._synced_writes = self._writes
        self._waiting_bytes = 0
        self._deletions += 1
        self._failure = None


def read_pieces(descriptor: int, pieces: Sequence[tuple[int, memoryview]]) -> None:
    """Fill buffers from offsets of a file.

    Raises:
        OSError: The disk failed, or has less than was written.
    """
    for offset, buffer in pieces:
        done = 0
        while done < len(buffer):
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise OSError(errno.EIO, "a staged file is shorter than what was written to it")
            done += count


@contextmanager
def staging_errors() -> Iterator[None]:
    """Turn a full disk into `NoSpace`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace from error
        raise


def _sync(descriptor: int, directory: Path | None) -> None:
    os.fdatasync(descriptor)
    if directory is not None:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
