"""Local copies of files that are being changed: sparse, and only as complete as the changes need."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.errors import NoSpace


class StagingArea:
    """A directory for staged files, and the cap on what they hold together.

    The files have no names, so nothing is left behind by a crash.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def create(self, size_bytes: int = 0) -> StagedFile:
        """Return a new staged file of ``size_bytes``, none of them present."""
        try:
            descriptor = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _staging_error(error) from error
        return StagedFile(self, descriptor, size_bytes)

    def reserve(self, size_bytes: int) -> None:
        """Account for bytes about to be written; negative gives them back.

        Raises:
            NoSpace: They would be over the cap.
        """
        if size_bytes > 0 and self.used_bytes + size_bytes > self.limit_bytes:
            raise NoSpace
        self.used_bytes += size_bytes


class StagedFile:
    """A file's present bytes and which of them differ from its base version.

    Invariant: dirty bytes are present; present bytes lie within ``size``. What is absent is read from the base version,
    which always reaches that far: growing makes the new bytes present (as zeros), and shrinking forgets bytes for good.
    """

    def __init__(self, area: StagingArea, descriptor: int, size_bytes: int) -> None:
        self._area = area
        self._descriptor = descriptor
        self._written = ExtentSet()
        self.present = ExtentSet()
        self.dirty = ExtentSet()
        self.size = size_bytes

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Change bytes; writing past the end leaves zeros in between.

        Raises:
            NoSpace: The staging area is full.
        """
        end = offset + len(data)
        self._store(offset, data)
        if offset > self.size:
            self._grow(offset)
        self.present.add(offset, end)
        self.dirty.add(offset, end)
        self.size = max(self.size, end)

    def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Keep bytes of the base version; they are present, not dirty.

        Raises:
            NoSpace: The staging area is full.
        """
        self._store(offset, data)
        self.present.add(offset, offset + len(data))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with present bytes; what is a hole on disk reads as zeros."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:  # a hole at the end that the disk does not know of
                buffer[done:] = bytes(len(buffer) - done)
                return
            done += count

    def truncate(self, size_bytes: int) -> None:
        """Set the size; new bytes are zeros."""
        if size_bytes > self.size:
            self._grow(size_bytes)
        elif size_bytes < self.size:
            os.ftruncate(self._descriptor, size_bytes)
            self._area.reserve(-sum(extent.length for extent in self._written.within(size_bytes, self.size)))
            for extents in (self._written, self.present, self.dirty):
                extents.remove(size_bytes, self.size)
        self.size = size_bytes

    def gaps(self, extent: Extent) -> list[Extent]:
        """Return what of an extent must come from the base version."""
        return self.present.gaps(extent.start, extent.end)

    def close(self) -> None:
        """Free everything."""
        self._area.reserve(-self._written.total_bytes)
        self._written.clear()
        os.close(self._descriptor)

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        for extents in (self.present, self.dirty, self._written):
            extents.check_invariants()
        assert all(self.present.covers(*extent) for extent in self.dirty)
        assert all(extent.end <= self.size for extent in self.present)

    def _grow(self, size_bytes: int) -> None:
        self.present.add(self.size, size_bytes)
        self.dirty.add(self.size, size_bytes)
        self.size = size_bytes

    def _store(self, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        fresh = sum(gap.length for gap in self._written.gaps(offset, end))
        self._area.reserve(fresh)
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(self._descriptor, view, end - len(view))
                view = view[count:]
        except OSError as error:
            self._area.reserve(-fresh)
            raise _staging_error(error) from error
        self._written.add(offset, end)


def _staging_error(error: OSError) -> NoSpace | OSError:
    return NoSpace() if error.errno in (errno.ENOSPC, errno.EDQUOT) else error
