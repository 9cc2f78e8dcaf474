"""The directory of staged files, and the cap on what they hold together."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

import trio

from spacesfs.content.backing import BackingFile, Descriptors, Spawn
from spacesfs.content.records import ContentRecord
from spacesfs.content.staged import StagedFile, StagedFileLost
from spacesfs.errors import NoSpace

__all__ = ["StagedFile", "StagedFileLost", "StagingArea"]

_RESERVE_SHARE, _RESERVE_BYTES = 16, 64 << 20
_TIGHT_SHARE = 0.75


class StagingArea:
    """A directory for staged files, named by number, and the cap on what they hold together, in memory or on disk.

    Writers don't get the last sixteenth of the cap (at most 64 MiB). Bringing bytes here so that an object can be
    renamed, replaced or sent takes room too, and is what makes room: at the cap it must not wait for itself.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        next_number: Callable[[], int],
        wait_seconds: float,
        spawn: Spawn,
    ) -> None:
        self.used_bytes = 0
        self._descriptors = Descriptors(directory, spawn)
        self._next_number = next_number
        self._wait_seconds = wait_seconds
        self._numbers: set[int] = set()
        self._freed = trio.Event()
        self.resize(limit_bytes)

    def resize(self, limit_bytes: int) -> None:
        """Hold so much at most from now on. What is there stays; writers wait until it is less."""
        self.limit_bytes = limit_bytes
        self._writers_bytes = limit_bytes - min(limit_bytes // _RESERVE_SHARE, _RESERVE_BYTES)
        self._tell_waiters()

    def create(self, size_bytes: int = 0) -> StagedFile:
        """Return a new staged file of ``size_bytes``, none of them present.

        Raises:
            NoSpace: The area is full to its cap, reserve included.
        """
        number = self._next_number()
        staged = StagedFile(self, BackingFile(self._descriptors, number, is_there=False), number, size_bytes)
        self._numbers.add(number)
        return staged

    def restore(self, record: ContentRecord) -> StagedFile:
        """Return the staged file that a record of the journal describes, as it was then or with later writes in place.

        The cap is not asked: what is there is there.

        Raises:
            StagedFileLost: Its file is missing, or too short.
        """
        backing = BackingFile(self._descriptors, record.number, is_there=True)
        if record.written and (backing.length() or 0) < record.written[-1].end:
            raise StagedFileLost
        staged = StagedFile(self, backing, record.number, 0)
        staged.restore(record)
        self._numbers.add(record.number)
        return staged

    def sweep(self, known: Container[int]) -> list[int]:
        """Remove files that neither ``known`` nor a staged file of this process stands for; return their numbers."""
        gone = []
        for path in self._descriptors.directory.iterdir():
            if not path.name.isdecimal():
                continue
            number = int(path.name)
            if number not in known and number not in self._numbers:
                path.unlink()
                gone.append(number)
        return sorted(gone)

    def is_tight(self) -> bool:
        """Say whether what is here twice should go: less than a quarter of the cap is left to writers."""
        return self.used_bytes > self._writers_bytes * _TIGHT_SHARE

    async def wait_for_room(self, size_bytes: int) -> None:
        """Return when a writer may reserve that many bytes; only until its next await.

        Raises:
            NoSpace: They will never fit, or nothing at all was freed for ``wait_seconds``.
        """
        if self.used_bytes + size_bytes <= self._writers_bytes:  # not the cap is reached: the disk is full
            await self._wait_for_less()
        while self.used_bytes + size_bytes > self._writers_bytes:
            if size_bytes > self._writers_bytes:
                raise NoSpace
            await self._wait_for_less()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _wait_for_less(self) -> None:
        with trio.move_on_after(self._wait_seconds) as scope:
            await self._freed.wait()
        if scope.cancelled_caught:
            raise NoSpace

    # --- for staged files

    def take(self, size_bytes: int) -> None:
        """Reserve bytes for a writer.

        Raises:
            NoSpace: They would be over the cap.
        """
        self._take(size_bytes, self._writers_bytes)

    def take_reserve(self, size_bytes: int) -> None:
        """Reserve bytes that are needed to go on at all.

        Raises:
            NoSpace: They would be over the cap.
        """
        self._take(size_bytes, self.limit_bytes)

    def take_held(self, size_bytes: int) -> None:
        """Account for bytes that are there."""
        self.used_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give bytes back."""
        self.used_bytes -= size_bytes
        if size_bytes:
            self._tell_waiters()

    def _tell_waiters(self) -> None:
        self._freed.set()
        self._freed = trio.Event()

    def forget(self, number: int) -> None:
        """The staged file was deleted."""
        self._numbers.discard(number)

    def _take(self, size_bytes: int, limit_bytes: int) -> None:
        if size_bytes > 0 and self.used_bytes + size_bytes > limit_bytes:
            raise NoSpace
        self.used_bytes += size_bytes
