"""Space on the journal's disk, held back for when there is none: what frees space must be journaled first."""

from __future__ import annotations

import os
import time
from pathlib import Path

RESERVE_BYTES = 4 << 20  # the log up to its checkpoint; after that it is written over and needs no more
_PAUSE_SECONDS = 5.0  # between looks at a full disk


class Reserve:
    """A file that holds blocks until the disk is full. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"
        self._tried = -_PAUSE_SECONDS
        self.is_held = False
        self.remake()

    def release(self) -> bool:
        """Give the blocks to the disk; say whether there were any."""
        was_held = self.is_held
        self._path.unlink(missing_ok=True)
        self.is_held = False
        self._tried = time.monotonic()
        return was_held

    def remake(self) -> None:
        """Take blocks again if there are none and the disk has twice as many; at most every few seconds."""
        if self.is_held or time.monotonic() < self._tried + _PAUSE_SECONDS:
            return
        self._tried = time.monotonic()
        try:
            if not self._path.exists() and free_bytes(self._path.parent) < 2 * RESERVE_BYTES:
                return
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self._path.unlink(missing_ok=True)  # a part of it helps nobody
        else:
            self.is_held = True


def free_bytes(folder: Path) -> int:
    """Return what is left on a folder's disk for us."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
