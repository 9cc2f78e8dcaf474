"""A mount without kernel, server, thread or disk to wait for: in virtual time, with faults and crashes at will."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

from spacesfs.assembly import MountOptions, Parts, assemble
from spacesfs.attributes import AttributeDefaults
from spacesfs.client.client import Bucket
from spacesfs.client.errors import ServerFault
from spacesfs.pending.changes import Change, Rows
from spacesfs.pending.journal import Journal
from spacesfs.pending.schema import Recovered, open_journal
from tests.memory_store import MemoryStore

DEFAULTS = AttributeDefaults(1000, 1000, 0o644, 0o755)
GRACE_SECONDS = 1.0
_MOST_STEPS = 200_000  # of tasks while the clock stands still; a whole test takes fewer


class ForgetfulJournal:
    """The journal's own rows and file, without its thread: a crash takes what was posted and not committed yet."""

    def __init__(self, folder: Path, first_number: int, luck: random.Random) -> None:
        connection, recovered = open_journal(folder)
        connection.execute("PRAGMA synchronous = OFF")
        self.recovered: Recovered = recovered
        self._connection: sqlite3.Connection = connection
        self._waiting: list[Change] = []
        self._has_posted = trio.Event()
        self._luck = luck
        self._next_number = first_number
        self.is_dead = False
        self.is_behind = False

    async def commit(self, *changes: Change) -> None:
        self.post(*changes)
        await trio.sleep(self._luck.choice((0, 0, 0.001)))
        await self._alive()
        self.write()

    def post(self, *changes: Change) -> None:
        if not self.is_dead:
            self._waiting += changes
            self._has_posted.set()

    async def gather(self) -> None:
        """Write what nobody waits for, late."""
        while True:
            await self._has_posted.wait()
            await trio.sleep(0.05)
            self._has_posted = trio.Event()
            await self._alive()
            self.write()

    async def inline(self, number: int) -> bytes:
        await trio.sleep(self._luck.choice((0, 0.001)))
        await self._alive()
        self.write()
        ((body,),) = self._connection.execute("SELECT inline FROM contents WHERE number = ?", (number,)).fetchall()
        assert isinstance(body, bytes)
        return body

    def next_content_number(self) -> int:
        self._next_number += 1
        return self._next_number

    def write(self) -> None:
        """Bring everything to the file."""
        rows, self._waiting = Rows(self._waiting), []
        self._connection.execute("BEGIN IMMEDIATE")
        rows.store(self._connection)
        self._connection.execute("COMMIT")

    def rows(self) -> dict[str, int]:
        """Return how many rows each table has, of those that must be empty when all is done."""
        self.write()
        tables = ("intents", "contents", "uploads", "parts")
        counted = {table: self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608 - names are ours
        return {table: count for table, count in counted.items() if count}

    def die(self) -> None:
        """Take no more."""
        self.is_dead = True
        self._waiting = []

    def close(self) -> None:
        self._connection.close()

    async def _alive(self) -> None:
        if self.is_dead:
            await trio.sleep_forever()


class Weather:
    """What happens to requests: they take their time, and a share of them fails, before or after it took effect."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self.fault_share = 0.0
        self.is_cut = False

    async def before(self, _: str, key: str) -> None:
        await trio.sleep(self._luck.choice((0, 0, 0.01, 0.3)))
        self._fail(key)

    async def after(self, _: str, key: str) -> None:
        self._fail(key)
        await trio.sleep(self._luck.choice((0, 0, 0.01)))

    def _fail(self, key: str) -> None:
        if self.is_cut or (self.fault_share and self._luck.random() < self.fault_share):
            raise ServerFault("out of order", key=key)


class SpinWatch(trio.abc.Instrument):
    """Ends a run in which tasks go on and on while the clock stands still."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._at = -1.0
        self._steps = 0
        self.has_spun = False

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        now = trio.current_time()
        self._steps = self._steps + 1 if now == self._at else 0
        self._at = now
        if self._steps > _MOST_STEPS:
            self.has_spun = True
            self._scope.cancel()


@asynccontextmanager
async def spins_noticed() -> AsyncIterator[None]:
    """Fail if the block goes round and round without the clock going on."""
    with trio.CancelScope() as scope:
        watch = SpinWatch(scope)
        trio.lowlevel.add_instrument(watch)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(watch)
    assert not watch.has_spun, "tasks go round and round without waiting for anything"


@dataclass(frozen=True, slots=True)
class Running:
    """A mount that runs; ``crash`` ends it as kill -9 would."""

    parts: Parts
    journal: ForgetfulJournal
    crash: Callable[[], None]


class Machine:
    """A host with its state folder, and mounts of one Space on it, one after the other."""

    def __init__(self, folder: Path, seed: int, *, is_direct: bool = False) -> None:
        self.store = MemoryStore()
        self.luck = random.Random(seed)
        self.weather = Weather(self.luck)
        self._folder = folder
        self._is_direct = is_direct
        self._starts = 0
        (folder / "staged").mkdir()

    def staged(self) -> list[str]:
        """Return the names of the staged files."""
        return sorted(path.name for path in (self._folder / "staged").iterdir())

    @asynccontextmanager
    async def mounted(self) -> AsyncIterator[Running]:
        """Mount until the block ends or `Running.crash` was called; what is not in the journal then is gone."""
        self._starts += 1
        self.store.hook, self.store.late_hook = self.weather.before, self.weather.after
        self.weather.is_cut = False
        journal = ForgetfulJournal(self._folder, self._starts * 1_000_000, self.luck)
        options = MountOptions(
            prefix="",
            defaults=DEFAULTS,
            memory_bytes=64 << 20,
            staging_bytes=64 << 20,
            ttl_seconds=60.0,
            timeout_seconds=30.0,
            grace_seconds=GRACE_SECONDS,
            is_direct=self._is_direct,
            sends_on_fsync=False,
        )
        try:
            async with trio.open_nursery() as nursery:
                parts = await assemble(
                    cast("Bucket", self.store), cast("Journal", journal), self._folder / "staged", options, nursery
                )

                def crash() -> None:
                    journal.die()
                    self.weather.is_cut = True
                    nursery.cancel_scope.cancel()

                yield Running(parts, journal, crash)
                crash()
        finally:
            journal.close()
