"""The order of changes: true for each key, in parallel across keys, after a grace, for as long as it takes.

An intent waits for its time, then for what must come first (spacesfs.pending.order), then for whoever still writes
(`is_held`), then for a free slot. Removals gather, so that a thousand go with one request.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import trio

from spacesfs.client.errors import DeadlineExceeded, SpacesError
from spacesfs.content.upload import Busy
from spacesfs.pending.gathering import Gathering
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.keyindex import KeyIndex
from spacesfs.pending.order import Holder, Order, chain
from spacesfs.pending.overlay import Overlay
from spacesfs.tasks import STEPS_A_TURN, give_way, open_team

log = logging.getLogger(__name__)

LARGE_BYTES = 16 << 20
_SMALL_SLOTS, _LARGE_SLOTS = 32, 4  # the client has 16 connections; a large file keeps several busy by itself
_PATIENCE_SECONDS = 15.0  # a file that never rests is sent all the same
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 1.0, 64.0
_SETTLE_POLL_SECONDS = 0.02
_SETTLE_POLL_SECONDS_A_KEY = 5e-6  # some ten times what it takes to look at one


class Performer(Holder, Protocol):
    """Carries out intents, and takes them from the overlay when the Space has confirmed them."""

    async def perform(self, intent: Intent) -> None:
        """Bring one key to what it shall hold."""

    async def remove(self, intents: list[Intent]) -> None:
        """Bring many keys to hold nothing."""

    async def untie(self, intent: Intent) -> None:
        """Break a ring of intents that wait for each other, at this one."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a drain."""

    changes: int
    bytes: int


@dataclass(slots=True)
class _Work:
    """What is known of an intent beside itself. ``due`` and ``latest`` in seconds of trio's clock.

    ``is_of_many``: it was one of many changes that were made at once.
    """

    due: float
    latest: float
    is_hurried: bool = False
    is_of_many: bool = False
    failures: int = 0
    error: Exception | None = None
    is_reported: bool = True


@dataclass(slots=True)
class _Slots:
    limit: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class _Loop:
    """The loop while it runs: who carries out, and the nursery that owns the attempts."""

    performer: Performer
    team: trio.Nursery


class Scheduler:
    """Sees intents into the Space."""

    def __init__(self, overlay: Overlay, grace_seconds: float) -> None:
        self._overlay = overlay
        self._grace_seconds = grace_seconds
        self._work: dict[str, _Work] = {}
        self._queue: list[tuple[float, str]] = []
        self._removals = Gathering()
        self._arriving: deque[tuple[float, Iterator[str]]] = deque()  # due, and keys of whom nothing is known yet
        self._blocked: KeyIndex[str] = KeyIndex()
        self._read_on: set[str] = set()
        self._rings: list[Intent] = []
        self._put_off: list[str] = []
        self._order = Order(overlay)
        self._small, self._large = _Slots(_SMALL_SLOTS), _Slots(_LARGE_SLOTS)
        self._wake = trio.Event()
        self._ended = trio.Event()

    # --- what happened

    def changed(self, key: str, grace_seconds: float | None = None) -> None:
        """The intent of a key was set or replaced; it may go after the grace."""
        now = trio.current_time()
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        work = self._work.get(key)
        if work is None:
            work = self._work[key] = _Work(now + grace, now + grace + _PATIENCE_SECONDS)
        work.due = now if work.is_hurried else min(now + grace, work.latest)
        self._enqueue(key, work)
        self._unblock(key)

    def changed_all(self, keys: Sequence[str], grace_seconds: float | None = None) -> None:
        """As `changed`, of many keys that had no intents; the loop looks at them a few at a time."""
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        self._arriving.append((trio.current_time() + grace, iter(keys)))
        self._wake.set()

    def hurry(self, key: str) -> None:
        """Nobody will add to a change any more, or somebody waits for it: it goes as soon as it can."""
        work = self._work.get(key)
        if work is not None:
            work.due = trio.current_time()
            self._enqueue(key, work)

    def hurry_all(self) -> None:
        """The disk is full: nothing waits for what may come."""
        for key, work in self._work.items():
            if not work.failures:
                self.hurry(key)

    def demand(self, key: str) -> None:
        """As `hurry`, even while a program writes to the file; one that reads what would go is waited for."""
        work = self._work.get(key)
        if work is not None and not work.is_hurried:
            work.is_hurried = True
        self.hurry(key)

    def dropped(self, key: str) -> None:
        """A key has no intent any more."""
        self._work.pop(key, None)
        self._removals.discard(key)
        self._read_on.discard(key)
        self._unblock(key)
        self._announce()

    def failure(self, key: str) -> Exception | None:
        """Return why the last attempt at a key failed, once for each failure: the next close tells it.

        Nothing, if that will pass: a Space that is away or overloaded does not fail those who write to the journal.
        """
        work = self._work.get(key)
        if work is None or work.is_reported:
            return None
        work.is_reported = True
        return work.error

    def attempts(self, key: str) -> tuple[int, str]:
        """Return how often a change failed, and why the last time."""
        work = self._work.get(key)
        if work is None or work.error is None:
            return 0, ""
        return work.failures, str(work.error) or type(work.error).__name__

    def is_busy(self, key: str) -> bool:
        """Say whether a change of a key is in flight."""
        return self._order.is_busy(key)

    # --- draining

    async def settle(self, wanted: Callable[[str], bool]) -> AsyncIterator[Left]:
        """Bring the changes of wanted keys to the Space, those made until now; yield what is left, until nothing is.

        What was removed and is still read stays until then, and is not waited for.

        Raises:
            FsError, SpacesError, OSError: An attempt at one of them failed; all the others were made.
        """
        last = max((intent.order for intent in self._overlay), default=0)
        while self._arriving:
            self._let_arrive()
            await trio.lowlevel.checkpoint()
        left = await self._demand_all([intent.key for intent in self._overlay if wanted(intent.key)])
        failure: Exception | None = None
        failed: set[str] = set()
        while True:
            ended = self._ended
            size = 0
            for number, (key, (work, failures)) in enumerate(list(left.items()), 1):
                intent = self._overlay.get(key)
                if work.failures > failures:
                    failure, work.is_reported = failure or work.error, True
                    failed.add(key)
                    del left[key]
                elif intent is None or intent.order > last or key in self._read_on:
                    del left[key]
                else:
                    size += _size(intent)
                await give_way(number)
            for key in self._waiting_for(failed):
                left.pop(key, None)
            yield Left(len(left), size)
            if not left:
                break
            await ended.wait()
            await trio.sleep(_SETTLE_POLL_SECONDS + len(left) * _SETTLE_POLL_SECONDS_A_KEY)
        if failure is not None:
            raise failure

    async def _demand_all(self, keys: list[str]) -> dict[str, tuple[_Work, int]]:
        """Demand changes; return those that are still to be made, each with how often it failed before."""
        left: dict[str, tuple[_Work, int]] = {}
        for number, key in enumerate(keys, 1):
            work = self._work.get(key)
            if work is not None:
                left[key] = work, work.failures
                self.demand(key)
            await give_way(number)
        return left

    def _waiting_for(self, keys: set[str]) -> set[str]:
        """Return the keys whose changes wait for those of others, also by way of more."""
        found: set[str] = set()
        todo = list(keys)
        while todo:
            waiting = self._blocked.get(chain(todo.pop())) - found - keys
            found |= waiting
            todo += waiting
        return found

    # --- the loop

    async def run(self, performer: Performer) -> None:
        """Carry out what is due; never returns."""
        async with open_team() as team:
            loop = _Loop(performer, team)
            while True:
                self._wake = trio.Event()
                self._let_arrive()
                self._start_due(loop)
                with trio.move_on_at(self._next_due()):
                    await self._wake.wait()

    def _next_due(self) -> float:
        queue = self._queue[0][0] if self._queue and self._has_slot() else float("inf")
        return min(queue, self._removals.due)

    def _has_slot(self) -> bool:
        return self._small.used < self._small.limit

    def _let_arrive(self) -> None:
        """Queue some of the many keys that changed at once."""
        if not self._arriving:
            return
        due, waiting = self._arriving[0]
        keys = list(islice(waiting, STEPS_A_TURN))
        for key in keys:
            if key in self._overlay and key not in self._work:  # else it is gone, or was changed by itself meanwhile
                work = self._work[key] = _Work(due, due + _PATIENCE_SECONDS, is_of_many=True)
                self._enqueue(key, work)
        if not keys:
            self._arriving.popleft()
        self._wake.set()

    def _start_due(self, loop: _Loop) -> None:
        now = trio.current_time()
        for _ in range(STEPS_A_TURN):
            if not (self._queue and self._queue[0][0] <= now and self._has_slot()):
                break
            due, key = heapq.heappop(self._queue)
            work, intent = self._work.get(key), self._overlay.get(key)
            if work is None or intent is None or work.due != due or not self._may_start(loop, intent, work):
                continue
            if isinstance(intent.want, Absent) and intent.base is not None:
                self._gather(key, work, now)
                continue
            slots = self._large if _size(intent) > LARGE_BYTES else self._small
            if slots.used >= slots.limit:
                self._put_off.append(key)
                continue
            loop.team.start_soon(self._run, loop.performer, self._begin([intent], slots), slots)
        if self._removals.is_ripe(now):
            self._start_removals(loop)
        self._untie(loop)

    def _gather(self, key: str, work: _Work, now: float) -> None:
        """Let a removal wait for others until they cease to come; while a directory's objects are copied they do."""
        is_alone = not (work.is_of_many and self._overlay.has_dependents)
        self._removals.add(key, now, now if work.is_hurried and is_alone else now + self._grace_seconds)

    def _start_removals(self, loop: _Loop) -> None:
        batch: list[Intent] = []
        for key in self._removals.take():
            work, intent = self._work.get(key), self._overlay.get(key)
            if work is None or intent is None or not self._may_start(loop, intent, work):
                continue
            if isinstance(intent.want, Absent):
                batch.append(intent)
            else:
                self._enqueue(key, work)
            if len(batch) >= self._removals.most:
                break
        if batch:
            loop.team.start_soon(self._run, loop.performer, self._begin(batch, self._small), self._small)

    def _may_start(self, loop: _Loop, intent: Intent, work: _Work) -> bool:
        """Say whether nothing stands in an intent's way; else see that it is looked at again when that is gone."""
        blocker = self._order.blocker(loop.performer, intent)
        self._read_on.discard(intent.key)
        if blocker is None:
            if not loop.performer.is_held(intent):
                return True
            if isinstance(intent.want, Absent):
                self._note_read_on(intent.key)
            return work.is_hurried and isinstance(intent.want, Present)
        self._blocked.add(chain(blocker), intent.key)
        if blocker in self._read_on:
            self._note_read_on(intent.key)
            return False
        if self._order.is_busy(blocker):
            return False
        if self._order.is_ring(loop.performer, intent.key, blocker):
            self._rings.append(intent)
        first = self._work.get(blocker)
        if first is not None and first.due > work.due and work.is_hurried and not first.failures:
            self.demand(blocker)  # else it has its own grace: what is renamed once may be renamed again, or back
        return False

    def _note_read_on(self, key: str) -> None:
        """A removal waits for somebody who reads what would go; nobody else shall wait for it."""
        self._read_on.add(key)
        self._announce()

    def _untie(self, loop: _Loop) -> None:
        """Break a ring at an intent that copies: that object can be put aside."""
        rings, self._rings = self._rings, []
        for number, intent in enumerate(rings):
            want = intent.want
            is_copy = isinstance(want, Present) and want.source is not None and want.source.key != intent.key
            if is_copy and not self._order.is_busy(intent.key):
                started = self._begin([intent], self._small)
                loop.team.start_soon(self._attempt, loop.performer.untie(intent), started, self._small)
                for other in rings[number + 1 :]:  # of this ring, which is none any more, or of another
                    self.retry(other.key)
                return

    def _begin(self, intents: list[Intent], slots: _Slots) -> list[Intent]:
        slots.used += 1
        for intent in intents:
            self._order.begin(intent)
        return intents

    async def _run(self, performer: Performer, intents: list[Intent], slots: _Slots) -> None:
        is_removal = isinstance(intents[0].want, Absent) and intents[0].base is not None
        await self._attempt(performer.remove(intents) if is_removal else performer.perform(intents[0]), intents, slots)

    async def _attempt(self, attempt: Coroutine[Any, Any, None], intents: list[Intent], slots: _Slots) -> None:
        works = [(intent, self._work.get(intent.key)) for intent in intents]
        try:
            await attempt
            self._removals.went(len(intents))
        except Busy:  # no failure: a program writes without a pause, and goes first
            for _, work in works:
                if work is not None:
                    work.due = trio.current_time() + _RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - whatever it is, the change is kept, shown, and tried again
            if isinstance(error, DeadlineExceeded):
                self._removals.took_too_long(len(works))
            failed: dict[str, _Work] = {}
            for intent, work in works:
                now = self._overlay.get(intent.key)
                is_done = len(works) > 1 and now is None
                is_outdated = now is not None and now.want != intent.want  # what is wanted now was not tried yet
                if work is not None and not is_done and not is_outdated:
                    self._note_failure(work, error)
                    failed[intent.key] = work
            _log_failures(failed, error)
        finally:
            slots.used -= 1
            for intent in intents:
                self._end(intent)
            put_off, self._put_off = self._put_off, []
            for key in put_off:
                self.retry(key)
            self._announce()

    def _end(self, intent: Intent) -> None:
        self._order.end(intent)
        work = self._work.get(intent.key)
        if work is not None and intent.key not in self._overlay:
            del self._work[intent.key]
        else:
            self.retry(intent.key)
        self._unblock(intent.key)

    def _note_failure(self, work: _Work, error: Exception) -> None:
        work.failures += 1
        work.error, work.is_hurried = error, False
        work.is_reported = isinstance(error, SpacesError) and error.retryable  # it passes; the bytes are safe meanwhile
        delay = min(_RETRY_SECONDS * 2.0 ** min(work.failures - 1, 10), _MAX_RETRY_SECONDS)
        work.due = trio.current_time() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - to spread retries, no secret
        work.latest = max(work.latest, work.due)

    def retry(self, key: str) -> None:
        """What a change waited for is gone; its time stays as it was."""
        if key in self._read_on:
            again, self._read_on = self._read_on, set()
            for other in again - {key}:
                self.retry(other)
        work = self._work.get(key)
        if work is not None:
            self._enqueue(key, work)

    def _enqueue(self, key: str, work: _Work) -> None:
        heapq.heappush(self._queue, (work.due, key))
        self._wake.set()

    def _unblock(self, key: str) -> None:
        for waiting in self._blocked.pop(chain(key)):
            self.retry(waiting)

    def _announce(self) -> None:
        self._wake.set()
        self._ended.set()
        self._ended = trio.Event()


def _log_failures(failed: dict[str, _Work], error: Exception) -> None:
    """Tell of changes that one attempt failed to make, the first time loudly."""
    if failed:
        first, others = next(iter(failed)), len(failed) - 1
        level = logging.WARNING if any(work.failures == 1 for work in failed.values()) else logging.INFO
        what = f"{first} and {others} more are" if others else f"{first} is"
        log.log(level, "%s not in the Space yet: %s", what, str(error) or type(error).__name__)


def _size(intent: Intent | None) -> int:
    return intent.want.size if intent is not None and isinstance(intent.want, Present) else 0
