"""Bytes on their way to a named file: gathered in memory, written in pieces, accounted for in blocks of the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from spacesfs.content.backing import BackingFile
from spacesfs.content.extents import Extent, ExtentSet

GATHER_BYTES = 1 << 20  # what one request of the kernel brings at most; smaller pieces cost more system calls
BLOCK_BYTES = 4096  # what a file system gives out; a single byte takes as much

Account = Callable[[int], None]
"""Reserves bytes, or raises `NoSpace`."""


class GatheredFile:
    """A sparse file whose bytes may be changed anywhere. The last contiguous writes are in memory still.

    Logical and physical size are two things: `cut` and `forget` take extents out of ``written`` and leave the disk as
    it is; `trim` frees it.

    Invariant: the blocks of all bytes written or gathered are accounted for.

    Attributes:
        written: The extents that are in the file.
    """

    def __init__(self, backing: BackingFile, give: Account) -> None:
        self._backing = backing
        self._give = give
        self._held = ExtentSet()
        self._gathered, self._gathered_at = bytearray(), 0
        self.written = ExtentSet()

    def hold(self, start: int, end: int, take: Account) -> None:
        """Account for the blocks of ``[start, end)``.

        Raises:
            NoSpace: As ``take`` does; nothing has changed.
        """
        block = _block_of(start, end)
        if fresh := sum(gap.length for gap in self._held.gaps(*block)):
            take(fresh)
            self._held.add(*block)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put bytes for which `hold` was called.

        Raises:
            NoSpace: The disk is full. What was written or gathered before is kept, or in part overwritten by ``data``.
        """
        end = offset + len(data)
        start, stop = self._gathered_at, self._gathered_at + len(self._gathered)
        if self._gathered and start <= offset and end <= stop:
            self._gathered[offset - start : end - start] = data
        elif self._gathered and offset == stop:
            if end - start < GATHER_BYTES:
                self._gathered += data
            else:
                self._backing.write(start, [self._gathered, data])
                self.written.add(start, end)
                self._gathered = bytearray()
        else:
            self.flush()
            if len(data) >= GATHER_BYTES:
                self._backing.write(offset, [data])
                self.written.add(offset, end)
            else:
                self._gathered, self._gathered_at = bytearray(data), offset

    def flush(self) -> None:
        """Write what is gathered.

        Raises:
            NoSpace: The disk is full; it is gathered still.
        """
        for extent in self._gathered_extents():
            self._backing.write(extent.start, [self._gathered])
            self.written.add(*extent)
            self._gathered = bytearray()

    def begin_read(self, offset: int, buffer: memoryview) -> list[tuple[int, memoryview]]:
        """Fill what is gathered, and with zeros what was never written; return the rest: where it is, where it goes."""
        end = offset + len(buffer)
        start = min(max(offset, self._gathered_at), end)
        stop = max(min(end, self._gathered_at + len(self._gathered)), start)
        if start < stop:
            gathered = memoryview(self._gathered)[start - self._gathered_at : stop - self._gathered_at]
            buffer[start - offset : stop - offset] = gathered
        pieces: list[tuple[int, memoryview]] = []
        for part in ((offset, start), (stop, end)):
            for gap in self.written.gaps(*part):
                buffer[gap.start - offset : gap.end - offset] = bytes(gap.length)
            pieces += [(at, buffer[at - offset : to - offset]) for at, to in self.written.within(*part)]
        return pieces

    def read(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from the file alone."""
        self._backing.read_into(offset, buffer)

    def in_use(self) -> AbstractContextManager[int]:
        """Return a descriptor for another thread."""
        return self._backing.in_use()

    async def sync(self) -> None:
        """As `BackingFile.sync`, for what is not gathered."""
        await self._backing.sync()

    def cut(self, size_bytes: int) -> None:
        """Forget what lies beyond."""
        del self._gathered[max(size_bytes - self._gathered_at, 0) :]
        self.written.remove(size_bytes, max((extent.end for extent in self.written), default=0))

    def forget(self, extent: Extent) -> None:
        """Forget the bytes of an extent.

        Raises:
            NoSpace: The disk is full.
        """
        self.flush()
        self.written.remove(*extent)

    def trim(self, needed: Iterable[Extent]) -> None:
        """Free what is neither needed nor in use; without anything left there is no file."""
        if self.written and self._held.total_bytes - self.written.total_bytes < BLOCK_BYTES:
            return  # not a whole block, as after any sequential write
        kept = blocks_of((*needed, *self.written, *self._gathered_extents()))
        if not kept:
            self.delete()
            return
        kept_end = max(extent.end for extent in kept)
        for extent in [gap for held in self._held for gap in kept.gaps(*held)]:
            if self._backing.free(extent, kept_end):
                self._held.remove(*extent)
                self._give(extent.length)

    def restore(self, written: Iterable[Extent], take: Account) -> None:
        """Be what a journal says was written, and free the rest."""
        for extent in written:
            self.written.add(*extent)
        kept = blocks_of(self.written)
        end = max((extent.end for extent in kept), default=0)
        for gap in kept.gaps(0, end):
            self._backing.free(gap, end)
        self._backing.cut(end)
        for extent in self.written:
            self.hold(*extent, take)

    def close(self) -> None:
        """Free memory and descriptor.

        Raises:
            NoSpace: The disk is full.
        """
        self.flush()
        self._backing.close()

    @property
    def has_file(self) -> bool:
        """Say whether the file was made."""
        return self._backing.is_there

    def delete(self) -> None:
        """Remove the file and give everything back. A new one is made when bytes come again."""
        self._backing.delete()
        self._give(self._held.total_bytes)
        self._gathered = bytearray()
        for extents in (self._held, self.written):
            extents.clear()

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        self._held.check_invariants()
        self.written.check_invariants()
        assert all(self._held.covers(*block) for block in blocks_of((*self.written, *self._gathered_extents())))

    def extents(self) -> list[Extent]:
        """Return what is written or gathered."""
        return [*self.written, *self._gathered_extents()]

    def _gathered_extents(self) -> list[Extent]:
        end = self._gathered_at + len(self._gathered)
        return [Extent(self._gathered_at, end)] if self._gathered else []


def blocks_of(extents: Iterable[Extent]) -> ExtentSet:
    """Return the blocks of the disk that hold these extents."""
    blocks = ExtentSet()
    for start, end in extents:
        blocks.add(*_block_of(start, end))
    return blocks


def _block_of(start: int, end: int) -> tuple[int, int]:
    return start // BLOCK_BYTES * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES
