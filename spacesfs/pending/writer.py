"""The journal's thread: takes what waits, writes it in one transaction, wakes those who wait.

Whatever is asked for while a transaction is under way goes into the next one, together, so many share one fsync. A
transaction that fails is not forgotten: its rows are held and go with the next ones.

When the disk is full the reserve is released for changes that need next to nothing. Those with contents of files have
to wait, and so has what builds upon them, until there is room or later changes have made them small.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import trio

from spacesfs.errors import FsError, NoSpace
from spacesfs.pending.changes import Change, Rows
from spacesfs.pending.reserve import FULL_BYTES, Reserve, free_bytes
from spacesfs.pending.schema import FILE_NAME, primary_code, reopen, roll_back

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0  # until rows that failed are tried again when nothing else comes
_TRANSACTIONS_TO_TIDY = 256
_FREE_PAGES = 4096  # 16 MiB that the file may hold unused
_PAGES_A_TIME = 1024  # given back at once: some milliseconds
_FULL = "The journal's disk is full."


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """What the journal has done since it was opened.

    Attributes:
        transactions: Committed; each is one fsync.
        commits: Calls of ``commit`` and ``post`` that they held.
        rows: That they wrote or removed.
        file_bytes: Of the file and its log.
        waiting: Calls whose changes are not on stable storage yet, and rows held after a failure.
        degraded: Why rows can't be written now; None: they can.
    """

    transactions: int
    commits: int
    rows: int
    file_bytes: int
    waiting: int
    degraded: str | None


@dataclass(slots=True)
class Waiter:
    """Somebody in the event loop who waits for the thread. The outcome is set before the event is."""

    token: trio.lowlevel.TrioToken = field(default_factory=trio.lowlevel.current_trio_token)
    event: trio.Event = field(default_factory=trio.Event)
    error: BaseException | None = None
    value: bytes = b""

    async def wait(self) -> bytes:
        """Return the value, or raise the error, when the outcome is there."""
        await self.event.wait()
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Submission:
    """Changes of one call, in their order."""

    changes: tuple[Change, ...]
    waiter: Waiter | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A wish for the inline bytes of a content."""

    number: int
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Closing:
    """The last thing that is asked for."""

    waiter: Waiter


Request: TypeAlias = Submission | Reading | Closing


class Writer:
    """The thread: takes what waits, writes it in one transaction, wakes those who wait."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, reserve: Reserve) -> None:
        self.requests: queue.SimpleQueue[tuple[Request, ...]] = queue.SimpleQueue()
        self._folder = folder
        self._connection: sqlite3.Connection | None = connection
        self._reserve = reserve
        self._held: list[Rows] = []  # failed; no two touch the same row
        self._in_hand = 0
        self._transactions = self._commits = self._rows = 0
        self._failure: Exception | None = None  # while rows are held

    def start(self) -> None:
        """Begin. The thread doesn't keep a process alive that never closes the journal, as after a crash."""
        threading.Thread(target=self._run, name="journal", daemon=True).start()

    def statistics(self) -> JournalStatistics:
        """Return how things are; from any thread."""
        size = 0
        for suffix in ("", "-wal"):
            with suppress(OSError):
                size += os.stat(self._folder / f"{FILE_NAME}{suffix}").st_size
        waiting = self.requests.qsize() + self._in_hand + sum(map(len, tuple(self._held)))
        degraded = str(self._failure) if self._failure is not None else None
        return JournalStatistics(self._transactions, self._commits, self._rows, size, waiting, degraded)

    @property
    def is_behind(self) -> bool:
        """Say whether rows that were asked for can't be written yet."""
        return self._failure is not None

    def _run(self) -> None:
        closing: Closing | None = None
        while closing is None:
            requests = self._take()
            try:
                closing = self._round(requests)
            except Exception as error:
                log.exception("the journal failed")
                closing = self._fail(requests, error)
        self._finish(closing)

    def _take(self) -> list[Request]:
        """Return all that waits, at least one; nothing when held rows should be tried again."""
        try:
            requests = list(self.requests.get(timeout=_RETRY_SECONDS if self._held else None))
        except queue.Empty:
            return []
        with suppress(queue.Empty):
            while True:
                requests.extend(self.requests.get_nowait())
        return requests

    def _round(self, requests: list[Request]) -> Closing | None:
        closing: Closing | None = None
        pairs: list[tuple[Rows, Waiter | None]] = []
        answered: list[Waiter] = []
        self._in_hand = len(requests)
        for request in requests:
            match request:
                case Submission(changes, waiter):
                    try:
                        pairs.append((Rows(changes), waiter))
                    except Exception as error:  # noqa: BLE001 - what is wrong with one is not to hit the others
                        _refuse(error, waiter, answered)
                case Reading(number, waiter):
                    self._answer(number, waiter, [rows for rows, _ in pairs])
                    answered.append(waiter)
                case Closing():
                    closing = request
        if pairs or self._held:
            answered += self._write(pairs)
        self._in_hand = 0
        _wake(answered)
        self._tidy()
        return closing

    def _fail(self, requests: list[Request], error: Exception) -> Closing | None:
        """After a bug tell all who wait: whether their changes are stored nobody knows."""
        self._in_hand = 0
        waiters = [request.waiter for request in requests if request.waiter is not None]
        for waiter in waiters:
            waiter.error = FsError(f"The journal failed: {error}")
        closing = next((request for request in requests if isinstance(request, Closing)), None)
        _wake([waiter for waiter in waiters if closing is None or waiter is not closing.waiter])
        return closing

    def _write(self, pairs: list[tuple[Rows, Waiter | None]]) -> list[Waiter]:
        """Write rows of calls after those held, and return who waited; an outcome is set for each."""
        batches = [rows for rows, _ in pairs]
        error: Exception | None = NoSpace(_FULL)
        if self._reserve.hold(sum(rows.inline_bytes for rows in self._held)):
            error = self._transact(_fold([*self._held, *batches]), len(batches))
        failed: list[Rows] = []
        if error is None:
            self._held = []
        else:
            failed = self._write_what_fits(batches, error)
        unwritten = set(map(id, failed))
        waiters = []
        for rows, waiter in pairs:
            if waiter is not None:
                waiter.error = _told(error) if error is not None and id(rows) in unwritten else None
                waiters.append(waiter)
        self._note(error if self._held else None)
        return waiters

    def _write_what_fits(self, batches: list[Rows], error: Exception) -> list[Rows]:
        """After a failure write what the reserve is for, hold the rest, and return those of ``batches`` not written."""
        if not isinstance(error, NoSpace):
            self._held = [_fold([*self._held, *batches])]
            return batches
        self._reserve.release()
        groups = [_Group(rows, [], rows.touched()) for rows in self._held]
        for rows in batches:
            _join(groups, rows)
        drops = [group for group in groups if group.rows.only_drops_contents]
        small = [group for group in groups if not group.rows.inline_bytes and group not in drops]
        written = self._write_groups(small)
        if len(written) + len(drops) == len(groups):  # else what is held may be what frees a content
            written |= self._write_groups(drops)
        groups = [group for group in groups if id(group) not in written]
        self._held = [group.rows for group in groups]
        return [rows for group in groups for rows in group.members]

    def _write_groups(self, groups: list[_Group]) -> set[int]:
        """Write groups, together or else as many of the smallest as there is room for; return the ids of those."""
        if not groups or self._transact(_fold([group.rows for group in groups]), _calls(groups)) is None:
            return set(map(id, groups))
        written: set[int] = set()
        for group in sorted(groups, key=lambda group: len(group.rows)):
            if len(groups) == 1 or self._transact(group.rows, _calls([group])) is not None:
                break
            written.add(id(group))
        return written

    def _transact(self, rows: Rows, calls: int) -> Exception | None:
        """Write rows in one transaction; return what went wrong, if anything did."""
        try:
            if self._connection is None:
                self._connection = reopen(self._folder)
            self._connection.execute("BEGIN IMMEDIATE")
            rows.store(self._connection)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            return self._recover(error)
        self._transactions += 1
        self._commits += calls
        self._rows += len(rows)
        return None

    def _recover(self, error: sqlite3.Error | OSError) -> Exception:
        """Make the connection usable after a failure, and return the failure as the caller should see it."""
        is_full = isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_FULL
        if isinstance(error, OSError):
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        elif primary_code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            is_full = free_bytes(self._folder) < FULL_BYTES  # SQLite says this of fsync and of its shared memory
        if self._connection is not None:
            roll_back(self._connection)
            if not is_full or self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None
        failure = NoSpace(_FULL) if is_full else FsError(f"The journal can't be written: {error}")
        failure.__cause__ = error
        return failure

    def _answer(self, number: int, waiter: Waiter, batches: list[Rows]) -> None:
        try:
            waiter.value = self._inline(number, batches)
        except (sqlite3.Error, OSError) as error:
            waiter.error = FsError(f"The journal can't be read: {error}")
            waiter.error.__cause__ = error
        except FsError as error:
            waiter.error = error

    def _inline(self, number: int, batches: list[Rows]) -> bytes:
        for rows in reversed([*self._held, *batches]):
            if number in rows.contents:
                row = rows.contents[number]
                found = row[1] if row else None
                break
        else:
            if self._connection is None:
                self._connection = reopen(self._folder)
            select = "SELECT inline FROM contents WHERE number = ?"
            (found,) = self._connection.execute(select, (number,)).fetchone() or (None,)
        if found is None:
            raise FsError(f"The journal has no bytes of content {number}.")
        return found

    def _note(self, error: Exception | None) -> None:
        """Say once that rows can't be written, and once that they can again."""
        if error is not None and str(error) != str(self._failure):
            log.warning("%s What was asked for is kept in memory and tried again.", error)
        elif self._failure is not None and error is None:
            log.info("the journal is written again")
        self._failure = error

    def _tidy(self) -> None:
        """Give unused pages of the file back now and then, a few at a time."""
        is_time = self._transactions % _TRANSACTIONS_TO_TIDY == 0
        if not is_time or self._held or self._connection is None or not self.requests.empty():
            return
        with suppress(sqlite3.Error):
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free > _FREE_PAGES:
                self._connection.execute(f"PRAGMA incremental_vacuum({_PAGES_A_TIME})").fetchall()

    def _finish(self, closing: Closing) -> None:
        closing.waiter.error = self._failure
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()  # with a checkpoint
        _wake([closing.waiter])


@dataclass(slots=True)
class _Group:
    """Rows that belong together because they touch the same ones, and those of this round among them."""

    rows: Rows
    members: list[Rows]
    touched: set[str | int]


def _calls(groups: list[_Group]) -> int:
    return sum(len(group.members) for group in groups)


def _join(groups: list[_Group], rows: Rows) -> None:
    """Add rows to the groups that they touch, which become one, or as one more."""
    touched = rows.touched()
    related = [group for group in groups if not touched.isdisjoint(group.touched)]
    for group in related:
        groups.remove(group)
    members = [member for group in related for member in group.members]
    together = _fold([*(group.rows for group in related), rows])
    groups.append(_Group(together, [*members, rows], touched.union(*(group.touched for group in related))))


def _fold(batches: list[Rows]) -> Rows:
    if len(batches) == 1:
        return batches[0]
    together = Rows()
    for rows in batches:
        together.merge(rows)
    return together


def _told(error: Exception) -> Exception:
    """Return the error anew for each who is told: a raised exception gathers tracebacks."""
    told = type(error)(*error.args)
    told.__cause__ = error.__cause__
    return told


def _refuse(error: Exception, waiter: Waiter | None, answered: list[Waiter]) -> None:
    if waiter is None:
        log.error("changes that can't be stored", exc_info=error)
        return
    waiter.error = error
    answered.append(waiter)


def _wake(waiters: list[Waiter]) -> None:
    """Let those who wait go on, with one call into each event loop (there is one)."""
    for token in {waiter.token for waiter in waiters}:
        events = [waiter.event for waiter in waiters if waiter.token is token]
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(_set_all, events)


def _set_all(events: list[trio.Event]) -> None:
    for event in events:
        event.set()
