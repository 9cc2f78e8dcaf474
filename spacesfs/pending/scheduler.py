"""The order of changes: per key as asked, in parallel across keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from spacesfs.client.models import ObjectInfo
from spacesfs.pending.executor import Executor
from spacesfs.pending.intents import Intent, keys_of, must_wait

Confirmed = Callable[[Intent, ObjectInfo | None], None]
"""Hears of every change that the Space confirmed, and what it holds now; called before ``acknowledge`` returns."""


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """One change that was asked for and is not yet done; the keys are those it had when asked for."""

    intent: Intent
    keys: tuple[str, ...]
    done: trio.Event


class Scheduler:
    """Takes changes and sees them into the Space.

    Invariant: a key has at most one change in flight, and changes that share a key run in the order of ``acknowledge``.
    """

    def __init__(self, executor: Executor, confirmed: Confirmed) -> None:
        self._executor = executor
        self._confirmed = confirmed
        self._in_flight: list[_Change] = []

    async def acknowledge(self, intent: Intent) -> None:
        """Return when a change is safe, which at this durability (``space``) is when the Space confirmed it.

        Raises:
            FsError, SpacesError: The change was not made; nothing of it is remembered.
        """
        async with self._turn(intent):
            self._confirmed(intent, await self._executor.perform(intent))

    @asynccontextmanager
    async def _turn(self, intent: Intent) -> AsyncIterator[None]:
        keys = keys_of(intent)
        earlier = [change for change in self._in_flight if must_wait(intent, keys, change.intent, change.keys)]
        change = _Change(intent, keys, trio.Event())
        self._in_flight.append(change)
        try:
            for other in earlier:
                await other.done.wait()
            yield
        finally:
            self._in_flight.remove(change)
            change.done.set()
