"""The journal: what is acknowledged, on stable storage before anybody is told.

One file in the state folder holds intents, small contents and where the others are staged, open uploads, and facts. It
is written by a thread of its own (spacesfs.pending.writer), so nothing here blocks the event loop.
"""

from __future__ import annotations

import time
from pathlib import Path

import trio

from spacesfs.errors import MountError
from spacesfs.pending.changes import Change, SaveFact
from spacesfs.pending.reserve import Reserve
from spacesfs.pending.schema import Recovered, open_journal
from spacesfs.pending.statedir import Identity
from spacesfs.pending.writer import Closing, JournalStatistics, Reading, Request, Submission, Waiter, Writer

_GATHER_SECONDS = 0.05
_NUMBERS_AHEAD = 1 << 16  # contents' numbers that one row lays claim to
_NEXT_NUMBER = ".next-number"
_IDENTITY = ".identity"


class Journal:
    """The journal of one mount. Its methods are called from one event loop, except ``open``."""

    def __init__(self, writer: Writer, recovered: Recovered) -> None:
        self._writer = writer
        self._is_closed = False
        self._is_gathering = False
        self._posted: list[Request] = []
        self._has_posted = trio.Event()
        claimed = int(recovered.facts.pop(_NEXT_NUMBER, 0))
        self.recovered = recovered
        # The clock keeps numbers of a journal that was lost, whose staged files may be left, from being used again.
        self._next_number = max(claimed, *recovered.contents, *recovered.uploads, int(time.time()) << 20) + 1
        self._claimed = 0

    @classmethod
    def open(cls, folder: Path, identity: Identity) -> Journal:
        """Open the journal in a folder that this process has claimed, or begin one. Blocks; starts the thread.

        Raises:
            MountError: It can't be opened, is of a newer schema or of another Space.
        """
        try:
            reserve = Reserve(folder)
        except OSError as error:
            raise MountError(f"can't open the journal in {folder}: {error.strerror}") from error
        connection, recovered = open_journal(folder)
        spoken = f"{identity.endpoint} {identity.bucket}:{identity.prefix}"
        found = recovered.facts.pop(_IDENTITY, None)
        if found not in (None, spoken):
            connection.close()
            raise MountError(f"the journal in {folder} belongs to {found}, not to {spoken}")
        writer = Writer(folder, connection, reserve)
        journal = cls(writer, recovered)
        writer.start()
        if found is None:
            journal.post(SaveFact(_IDENTITY, spoken))
        return journal

    async def commit(self, *changes: Change) -> None:
        """Make changes, all or none of them; return when they are on stable storage.

        Whoever is cancelled meanwhile has asked for them all the same. After a failure, too, they are kept and tried
        again with whatever comes next, so that the journal gets to what was asked for.

        Raises:
            NoSpace: The disk is full.
            FsError: The journal can't be written.
            TypeError, ValueError, OverflowError: A change can't be stored; none of them is made.
        """
        waiter = Waiter()
        self._submit(Submission(changes, waiter))
        await waiter.wait()

    def post(self, *changes: Change) -> None:
        """Make changes, in order with all others; nobody waits, and failures show in ``statistics``."""
        if not self._is_gathering:
            self._submit(Submission(changes, None))
            return
        self._posted.append(Submission(changes, None))
        self._has_posted.set()

    @property
    def is_behind(self) -> bool:
        """Say whether something that was asked for is not stored although it was tried: the disk is full."""
        return self._writer.is_behind

    async def gather(self) -> None:
        """Let posted changes wait for one that somebody waits for, but not for long; never returns.

        Each that went by itself would wake the thread, and cost an fsync that others have to sit out.
        """
        self._is_gathering = True
        try:
            while True:
                await self._has_posted.wait()
                await trio.sleep(_GATHER_SECONDS)
                self._has_posted = trio.Event()
                if self._posted:
                    self._submit()
        finally:
            self._is_gathering = False

    async def inline(self, number: int) -> bytes:
        """Return the bytes of a small content, as of all changes asked for so far.

        Raises:
            FsError: They aren't there, or can't be read.
        """
        waiter = Waiter()
        self._submit(Reading(number, waiter))
        return await waiter.wait()

    def next_content_number(self) -> int:
        """Return a number that no content of this journal ever had."""
        number = self._next_number
        self._next_number += 1
        if number >= self._claimed:  # the claim is stored before, or together with, the first row that has the number
            self._claimed = number + _NUMBERS_AHEAD
            self.post(SaveFact(_NEXT_NUMBER, str(self._claimed)))
        return number

    def statistics(self) -> JournalStatistics:
        """Return how things are."""
        return self._writer.statistics()

    async def aclose(self) -> None:
        """Commit all that was asked for, and end the thread.

        Raises:
            NoSpace, FsError: Changes could not be written.
        """
        if self._is_closed:
            return
        waiter = Waiter()
        self._submit(Closing(waiter))
        self._is_closed = True
        await waiter.wait()

    def _submit(self, *requests: Request) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("the journal is closed")
        self._writer.requests.put((*self._posted, *requests))
        self._posted.clear()
