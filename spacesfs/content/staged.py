"""Local copies of files that are being changed: sparse, and only as complete as the changes need.

What the journal names must outlive what is done later and not yet recorded. So nothing here destroys bytes when the
file is cut or let go: their extents leave the sets, and only `StagedFile.trim`, told what the journal holds by now,
frees the disk. Writing over recorded bytes is allowed: whoever reads them after a crash finds the old or the new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from spacesfs.content.backing import BackingFile, read_pieces
from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.gathered import Account, GatheredFile
from spacesfs.content.records import ContentRecord
from spacesfs.errors import StaleFile

INLINE_BYTES = 64 << 10  # in the journal itself: its commit is one fsync, a file of its own would be two more


class StagedFileLost(StaleFile):
    """Bytes that the journal names are not on the disk any more."""


class Area(Protocol):
    """What is needed of the staging area here."""

    def take(self, size_bytes: int) -> None:
        """Reserve bytes for a writer, or raise `NoSpace`."""

    def take_reserve(self, size_bytes: int) -> None:
        """Reserve bytes that are needed to go on at all, or raise `NoSpace`."""

    def take_held(self, size_bytes: int) -> None:
        """Account for bytes that are there."""

    def give(self, size_bytes: int) -> None:
        """Give bytes back."""

    def forget(self, number: int) -> None:
        """The staged file was deleted."""


class StagedFile:
    """A file's present bytes and which of them differ from its source, the object it was made from.

    Up to ``INLINE_BYTES`` all is in memory, beyond it in the file of that number. All methods that are not async are
    atomic; the async ones may overlap with any of them.

    Invariants: written bytes are present, present ones lie within ``size``. Dirty bytes are present, but for those that
    were let go while an open upload has them. Growing makes the new bytes present, as zeros.

    Attributes:
        changes: Grows whenever the bytes or the size change; not by `fill`.
        on_change: Told of each such change beforehand: start and end of what differs; cutting reports to the old end.
    """

    def __init__(self, area: Area, backing: BackingFile, number: int, size_bytes: int) -> None:
        self._area = area
        self.number = number
        self.size = size_bytes
        self.changes = 0
        self.on_change: Callable[[int, int], None] | None = None
        self.present = ExtentSet()
        self.dirty = ExtentSet()
        self._sending = ExtentSet()
        self._sendings = 0
        self._disk = GatheredFile(backing, area.give)
        self._memory: bytearray | None = None  # all bytes, of a small content; then the file has none that count
        if size_bytes <= INLINE_BYTES:
            area.take_reserve(size_bytes)
            self._memory = bytearray(size_bytes)

    @property
    def has_file(self) -> bool:
        """Say whether there is a file of its own."""
        return self._disk.has_file

    @property
    def written(self) -> ExtentSet:
        """The extents that are in the file."""
        return self._disk.written

    # --- bytes

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Change bytes; writing past the end leaves zeros in between.

        Raises:
            NoSpace: The area is full, and nothing has changed; or the disk is, and bytes that were here before may be
                overwritten in part.
        """
        if not data:
            return
        end = offset + len(data)
        self._make_room(offset, end, self._area.take)
        self._tell(min(offset, self.size), end)
        try:
            self._put(offset, data)
        except BaseException:
            for extent in self.present.within(offset, end):
                self.dirty.add(*extent)
            raise
        self._soil(min(offset, self.size), end)
        self.size = max(self.size, end)

    def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Keep bytes of the source, which were missing; they are present, not dirty.

        Raises:
            NoSpace: The area is full to its cap, or the disk is.
        """
        end = offset + len(data)
        self._make_room(offset, end, self._area.take_reserve)
        self._put(offset, data)
        self.present.add(offset, end)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with present bytes; what was never written is zeros."""
        for start, piece in self._begin_read(offset, buffer):
            self._disk.read(start, piece)

    async def read_aside(self, offset: int, buffer: memoryview) -> None:
        """As `read_into`, with the disk read in a thread: for the many bytes of a part.

        Writes go on meanwhile; ``changes`` tells whether there were any.
        """
        if pieces := self._begin_read(offset, buffer):
            with self._disk.in_use() as descriptor:
                await trio.to_thread.run_sync(read_pieces, descriptor, pieces)

    def truncate(self, size_bytes: int) -> None:
        """Set the size; new bytes are zeros. No disk is freed: see `trim`.

        Raises:
            NoSpace: The area is full, and nothing has changed.
        """
        old = self.size
        if size_bytes > old:
            if self._memory is not None:
                self._grow_memory(self._memory, size_bytes, self._area.take)
            self._tell(old, size_bytes)
            self._soil(old, size_bytes)
        elif size_bytes < old:
            self._tell(size_bytes, old)
            for extents in (self.present, self.dirty, self._sending):
                extents.remove(size_bytes, old)
            self._disk.cut(size_bytes)
            if self._memory is not None:
                self._area.give(old - size_bytes)
                del self._memory[size_bytes:]
            elif size_bytes == 0:
                self._memory = bytearray()
        self.size = size_bytes

    def gaps(self, extent: Extent) -> list[Extent]:
        """Return what of an extent is not here."""
        return self.present.gaps(extent.start, extent.end)

    # --- durability

    def record(self) -> ContentRecord:
        """Return what the journal is to keep. It may name bytes that only `make_durable` brings to stable storage.

        Raises:
            NoSpace: The area is full to its cap, or the disk is.
        """
        if self._memory is not None and not self.present.covers(0, self.size):
            self._leave_memory(self._memory, self._area.take_reserve)
        self._disk.flush()
        inline = None if self._memory is None else bytes(self._memory)
        written, present = tuple(self.written), tuple(self.present)
        return ContentRecord(self.number, self.size, inline, written, present, tuple(self.changed()))

    async def make_durable(self) -> ContentRecord:
        """Bring all bytes to stable storage; return the record of them. Those written meanwhile are not in it.

        Raises:
            NoSpace, OSError: The area or the disk is full, or the disk failed.
        """
        record = self.record()
        if record.inline is None:
            await self._disk.sync()
        return record

    def trim(self, record: ContentRecord) -> None:
        """Free what is neither in use nor in ``record``, the last that the journal has committed."""
        self._disk.trim(record.written)

    def let_go(self, extent: Extent) -> None:
        """Forget bytes that can be had elsewhere: from the source or, if they are being sent, from an open upload.

        The disk is freed by the next `trim`. Of a content in memory nothing is forgotten.
        """
        assert not self.dirty.within(*extent), "the only copy"
        if self._memory is None:
            self._disk.forget(extent)
            self.present.remove(*extent)

    def close(self) -> None:
        """Free memory and descriptor; the next use opens the file again.

        Raises:
            NoSpace: The disk is full.
        """
        self._disk.close()

    def delete(self) -> None:
        """Remove the file and give everything back; the staged file is of no use then."""
        self._disk.delete()
        self._area.give(len(self._memory or b""))
        self._memory = None
        self._area.forget(self.number)

    # --- sending

    def begin_sending(self) -> int:
        """Put the dirty bytes aside as being sent, so that later writes collect anew; return the token for the end."""
        assert not self._sending, "one sending at a time"
        self._sending, self.dirty = self.dirty, self._sending
        self._sendings += 1
        return self._sendings

    def sent(self, token: int) -> None:
        """What was put aside is in the source now: clean."""
        assert token == self._sendings, "not the sending under way"
        self._sending.clear()

    def not_sent(self, token: int) -> None:
        """What was put aside is dirty again."""
        assert token == self._sendings, "not the sending under way"
        for extent in self._sending:
            self.dirty.add(*extent)
        self._sending.clear()

    def changed(self) -> ExtentSet:
        """Return all that differs from the source: dirty, or being sent. To be looked at, not to be changed."""
        if not self._sending:
            return self.dirty
        changed = ExtentSet()
        for extent in (*self.dirty, *self._sending):
            changed.add(*extent)
        return changed

    def only_in_upload(self, extent: Extent) -> list[Extent]:
        """Return what of an extent was let go while it differed from the source: only the open upload has it."""
        gaps = self.gaps(extent)
        return [part for gap in gaps for changed in (self._sending, self.dirty) for part in changed.within(*gap)]

    # --- for the area and for tests

    def restore(self, record: ContentRecord) -> None:
        """Become what a record says, and free what it does not name; for a staged file just made, of no size.

        What the file holds counts as dirty, even where the record says it is the source's.

        Raises:
            OSError: The file is not there.
        """
        for extent in record.present:
            self.present.add(*extent)
        for extent in (*record.dirty, *record.written):  # clean bytes may have been written over and not recorded
            self.dirty.add(*extent)
        self.size = record.size
        if record.inline is not None:
            self._memory = bytearray(record.inline)
            self.present.add(0, record.size)
        else:
            is_small = record.size <= INLINE_BYTES and not record.written
            self._memory = bytearray(record.size) if is_small else None
        self._area.take_held(len(self._memory or b""))
        if record.written:
            self._disk.restore(record.written, self._area.take_held)
        else:
            self._disk.delete()

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        self._disk.check_invariants()
        for extents in (self.present, self.dirty, self._sending):
            extents.check_invariants()
            assert all(extent.end <= self.size for extent in extents)
        on_disk = self._disk.extents()
        assert all(self.present.covers(*extent) for extent in (*self.dirty, *on_disk))
        if self._memory is not None:
            assert len(self._memory) == self.size <= INLINE_BYTES
            assert not on_disk

    # --- inside

    def _tell(self, start: int, end: int) -> None:
        self.changes += 1
        if self.on_change is not None:
            self.on_change(start, end)

    def _soil(self, start: int, end: int) -> None:
        self.present.add(start, end)
        self.dirty.add(start, end)

    def _begin_read(self, offset: int, buffer: memoryview) -> list[tuple[int, memoryview]]:
        if self._memory is None:
            return self._disk.begin_read(offset, buffer)
        buffer[:] = memoryview(self._memory)[offset : offset + len(buffer)]
        return []

    def _put(self, offset: int, data: bytes | memoryview) -> None:
        if self._memory is None:
            self._disk.write(offset, data)
        else:
            self._memory[offset : offset + len(data)] = data

    def _make_room(self, start: int, end: int, take: Account) -> None:
        if self._memory is not None:
            self._grow_memory(self._memory, end, take)
        if self._memory is None:
            self._disk.hold(start, end, take)

    def _grow_memory(self, memory: bytearray, size_bytes: int, take: Account) -> None:
        """Make the memory reach that far, or leave it for the file."""
        if size_bytes > INLINE_BYTES:
            self._leave_memory(memory, take)
        elif size_bytes > len(memory):
            take(size_bytes - len(memory))
            memory.extend(bytes(size_bytes - len(memory)))

    def _leave_memory(self, memory: bytearray, take: Account) -> None:
        extents = list(self.present)
        for extent in extents:
            self._disk.hold(*extent, take)
        try:
            for start, end in extents:
                self._disk.write(start, memory[start:end])
        except BaseException:
            self._disk.cut(0)
            raise
        self._memory = None
        self._area.give(len(memory))
