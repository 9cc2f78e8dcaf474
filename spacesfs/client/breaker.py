"""Is the Space there at all? While it is not, calls fail at once instead of each waiting for its own timeout.

    online ── calls go without an answer ──> in doubt ── a probe goes without one too ──> offline
      ^                                         │                                            │
      └───────────── any byte, of a call or of a probe: the server is there ─────────────────┘

Doubt needs three calls in a row that got no answer, or five seconds without any. A reply, even an error, ends it, and
so does each piece of a body that moves. The probe, a request about no object, then decides, so one slow key takes
nothing offline. Cancelled calls say nothing. From doubt on there is one probe at a time, one second after the other; no
call has to wait for one. Once it is offline, calls in line and calls under way end: none of them has heard anything.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio

MISSES_TO_DOUBT = 3
SILENCE_TO_DOUBT_SECONDS = 5.0
PROBE_PAUSE_SECONDS = 1.0


class Breaker:
    """Owns what is known about the server being there. All but `watch` is sync.

    ``probe`` asks the server for anything and tells whether it answered; it ends in its own time and raises nothing.
    """

    def __init__(self, probe: Callable[[], Awaitable[bool]]) -> None:
        self._probe = probe
        self._misses = 0
        self._silent_since = float("inf")
        self._last_heard = float("-inf")
        self._doubt = trio.Event()
        self._offline_since: float | None = None
        self._waiting: set[trio.CancelScope] = set()

    @property
    def offline_since(self) -> float | None:
        """When the Space was found to be away, in seconds since the epoch, or None: it is there, as far as we know."""
        return self._offline_since

    def heard(self) -> None:
        """The server replied, whatever it said, or took or sent a piece of a body."""
        self._last_heard = trio.current_time()
        if self._misses or self._offline_since is not None:
            self._misses = 0
            self._silent_since = float("inf")
            self._offline_since = None
            if self._doubt.is_set():
                self._doubt = trio.Event()

    def missed(self, started: float) -> None:
        """A call that was sent at ``started`` got no answer: no connection, a broken one, or silence."""
        self._misses += 1
        self._silent_since = min(self._silent_since, max(started, self._last_heard))
        silence = trio.current_time() - self._silent_since
        if self._misses >= MISSES_TO_DOUBT or silence >= SILENCE_TO_DOUBT_SECONDS:
            self._doubt.set()

    @contextmanager
    def waiting(self) -> Iterator[trio.CancelScope]:
        """Leave the block early, at an await in it, when the Space goes offline; at once if it is."""
        with trio.CancelScope() as scope:
            if self._offline_since is not None:
                scope.cancel()
            self._waiting.add(scope)
            try:
                yield scope
            finally:
                self._waiting.discard(scope)

    async def watch(self) -> NoReturn:
        """Probe while there is doubt, for as long as the client lives."""
        while True:
            await self._doubt.wait()
            was_answered = await self._probe()
            if was_answered:
                self.heard()
            elif self._doubt.is_set():  # else a call was answered meanwhile
                self._go_offline()
                await trio.sleep(PROBE_PAUSE_SECONDS)

    def _go_offline(self) -> None:
        if self._offline_since is None:
            self._offline_since = time.time()
            for scope in self._waiting:
                scope.cancel()
