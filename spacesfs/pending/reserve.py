"""Space on the journal's disk, held back for when there is none: what frees space must be journaled first."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 4 << 20  # the log up to its checkpoint; after that it is written over and needs no more
FULL_BYTES = 256 << 10  # with less than this left a disk is full: SQLite's smallest needs fit into it


class Reserve:
    """A file that holds blocks until the disk is full. One that a full disk kept from being made is made later.

    Used by one thread.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"
        self.is_held = False
        if free_bytes(folder) < FULL_BYTES:
            self.release()  # to open a journal takes some blocks, too
        else:
            self.hold()

    def release(self) -> None:
        """Give the blocks to the disk."""
        with suppress(OSError):  # a disk that can't even do that says so when the journal is written
            self._path.unlink(missing_ok=True)
        self.is_held = False

    def hold(self, waiting_bytes: int = 0) -> bool:
        """Take blocks if there are none and the disk has twice as many and ``waiting_bytes``; say whether we have them.

        A disk that fails for other reasons than being full is taken for one with room: the journal will find out.
        """
        if self.is_held:
            return True
        try:
            if not self._path.exists() and free_bytes(self._path.parent) < 2 * RESERVE_BYTES + waiting_bytes:
                return False
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.release()  # a part of it helps nobody
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)
        self.is_held = True
        return True


def free_bytes(folder: Path) -> int:
    """Return what is left on a folder's disk for us."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
