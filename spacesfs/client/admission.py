"""What a call passes before it is sent: the breaker lets it go on or fails it, the limiter says when its turn is."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import NoReturn

import trio

from spacesfs.client.breaker import Breaker
from spacesfs.client.call import Call, OperationClass
from spacesfs.client.errors import DeadlineExceeded, SpacesError, Throttled, Unreachable, Untrusted
from spacesfs.client.limiter import LaneStatistics, Limiter, Turn
from spacesfs.client.retry import Allowance


@dataclass(slots=True)
class Visit:
    """One attempt, from its turn to its end; whoever makes it fills in how it went.

    Attributes:
        turn: Its place in line.
        started: When its turn came.
        was_answered: The head of a reply arrived.
        failure: How it failed; None also for one that was cancelled.
    """

    turn: Turn
    started: float = 0.0
    was_answered: bool = False
    failure: SpacesError | None = None


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """How fast the client may go, and whether the Space is there.

    Attributes:
        lanes: The limits of each class of calls.
        offline_since: When the Space was found to be away, in seconds since the epoch, or None.
    """

    lanes: Mapping[OperationClass, LaneStatistics]
    offline_since: float | None


class Admission:
    """Owns the limiter and the breaker of one endpoint, and teaches them by what becomes of the calls."""

    def __init__(self, connections: int, probe: Callable[[], Awaitable[bool]]) -> None:
        self._limiter = Limiter(connections)
        self._breaker = Breaker(probe)

    @asynccontextmanager
    async def turn(self, call: Call, before: Visit | None, allowance: Allowance) -> AsyncIterator[Visit]:
        """Wait for a call's turn, which lasts for the block, but not longer than until the Space is offline.

        ``before`` is how the call failed, if it was sent already. While the Space throttles every call of its class, or
        after it has throttled this one, the wait is at the expense of ``allowance``; else only the calls ahead make it
        wait, which takes as long as it takes.

        Raises:
            SpacesError: How the call failed before; else `Unreachable`, the Space is offline, or `Throttled`.
        """
        failure = before.failure if before is not None else None
        was_throttled = isinstance(failure, Throttled)
        if self._is_offline():
            raise failure or _offline(call)
        asked = trio.current_time()
        place = before.turn if before is not None else None
        turn = self._limiter.ask(call.operation_class, (call.bucket, call.key), asked, again=place)
        visit = Visit(turn)
        try:
            has_come = await self._comes(turn, asked if was_throttled else math.inf, allowance.throttled_seconds)
            if self._is_offline():
                raise failure or _offline(call)
            if not has_come:
                raise failure or call.error(Throttled, "the Space takes no call of this kind at present")
            visit.started = trio.current_time()
            if was_throttled:
                allowance.throttled_seconds -= visit.started - asked
            yield visit
        finally:
            self._learn(turn, visit)

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Let an attempt go on, but not longer than until the Space is found to be offline.

        Raises:
            Unreachable: It is; nothing was heard from it for a while, by this attempt or any other.
        """
        with self._breaker.waiting() as scope:
            yield
        if scope.cancelled_caught:
            raise _offline(call)

    def heard(self) -> None:
        """Bytes of a call moved: the server is there."""
        self._breaker.heard()

    async def pause(self, seconds: float) -> None:
        """Wait before an attempt is repeated; not longer than until the Space is found to be offline."""
        with self._breaker.waiting():
            await trio.sleep(seconds)

    async def watch(self) -> NoReturn:
        """Notice when the Space goes and returns; one task of the client's does this as long as it lives."""
        await self._breaker.watch()

    def statistics(self) -> ClientStatistics:
        """Return how it is now."""
        return ClientStatistics(self._limiter.statistics(), self._breaker.offline_since)

    def _is_offline(self) -> bool:
        return self._breaker.offline_since is not None

    async def _comes(self, turn: Turn, throttled_since: float, seconds: float) -> bool:
        """Wait until a call may be sent; False if it went offline or is throttled for longer than so many seconds."""
        asked = trio.current_time()
        with self._breaker.waiting():
            while not turn.granted.is_set():
                now = trio.current_time()
                since = min(throttled_since, max(asked, turn.lane.refused_since), now)
                if since + seconds <= now:
                    return False
                with trio.move_on_at(since + seconds):  # then it may be in line for a better reason
                    await turn.granted.wait()
            if turn.starts_at > trio.current_time():
                await trio.sleep_until(turn.starts_at)
            return True
        return False

    def _learn(self, turn: Turn, visit: Visit) -> None:
        failure = visit.failure
        if isinstance(failure, Unreachable | DeadlineExceeded) and not isinstance(failure, Untrusted):
            self._breaker.missed(visit.started)
        self._limiter.end(
            turn,
            trio.current_time(),
            was_answered=visit.was_answered,
            was_throttled=isinstance(failure, Throttled),
            retry_after_seconds=(failure.retry_after_seconds or 0.0) if failure is not None else 0.0,
        )


def _offline(call: Call) -> Unreachable:
    return call.error(Unreachable, "the Space can't be reached at present; it is being probed")
