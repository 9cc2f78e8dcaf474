"""What a call passes before it is sent: the breaker lets it go on or fails it, the limiter says when its turn is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import trio

from spacesfs.client.breaker import Breaker
from spacesfs.client.call import Call, OperationClass
from spacesfs.client.errors import DeadlineExceeded, SpacesError, Throttled, Unreachable, Untrusted
from spacesfs.client.limiter import LaneStatistics, Limiter, Turn


@dataclass(slots=True)
class Visit:
    """One attempt, from its turn to its end; whoever makes it fills in how it went.

    Attributes:
        started: When its turn came.
        was_answered: The head of a reply arrived.
        failure: How it failed; None also for one that was cancelled.
    """

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
    async def turn(self, call: Call, failure: SpacesError | None) -> AsyncIterator[Visit]:
        """Wait for a call's turn, which lasts for the block.

        ``failure`` is how the call failed before, if it was sent already.

        Raises:
            SpacesError: ``failure``, or without one `Unreachable`: the Space is offline.
        """
        offline = call.error(Unreachable, "the Space can't be reached at present; it is being probed")
        if self._is_offline():
            raise failure if failure is not None else offline
        turn = self._limiter.ask(call.operation_class, (call.bucket, call.key), trio.current_time())
        visit = Visit()
        try:
            await self._wait(turn)
            if self._is_offline() or not turn.granted.is_set():
                raise failure if failure is not None else offline
            visit.started = trio.current_time()
            yield visit
        finally:
            self._learn(turn, visit)

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

    async def _wait(self, turn: Turn) -> None:
        with self._breaker.waiting():
            if not turn.granted.is_set():
                await turn.granted.wait()
            if turn.starts_at > trio.current_time():
                await trio.sleep_until(turn.starts_at)

    def _learn(self, turn: Turn, visit: Visit) -> None:
        failure = visit.failure
        if visit.was_answered:
            self._breaker.heard()
        elif isinstance(failure, Unreachable | DeadlineExceeded) and not isinstance(failure, Untrusted):
            self._breaker.missed(visit.started)
        self._limiter.end(
            turn,
            trio.current_time(),
            was_answered=visit.was_answered,
            was_throttled=isinstance(failure, Throttled),
            retry_after_seconds=(failure.retry_after_seconds or 0.0) if failure is not None else 0.0,
        )
