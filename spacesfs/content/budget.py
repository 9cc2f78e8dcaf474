"""Memory permits: a buffer is paid for before it is filled, so memory has a cap and its users wait for one another."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio


class ByteBudget:
    """A number of bytes that tasks borrow and give back, served in the order of asking.

    Invariant: ``0 <= used_bytes <= limit_bytes``; after `resize` from the time on when what was lent before has come
    back, and who asked for more before gets it alone.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold ``size_bytes`` for the time of the block; more than the whole budget is cut to it, and so runs alone."""
        size_bytes = min(size_bytes, self.limit_bytes)
        await self._acquire(size_bytes)
        try:
            yield
        finally:
            self._release(size_bytes)

    def resize(self, limit_bytes: int) -> None:
        """Lend so much at most from now on."""
        self.limit_bytes = limit_bytes
        self._wake()

    def has_room(self, size_bytes: int) -> bool:
        """Say whether ``size_bytes`` could be had at once, without overtaking anybody."""
        return not self._waiting and self.used_bytes + size_bytes <= self.limit_bytes

    def try_reserve(self, size_bytes: int) -> AbstractAsyncContextManager[None] | None:
        """Take ``size_bytes`` if they can be had at once; return the block that holds them until it ends, or None."""
        if not self.has_room(size_bytes):
            return None
        self.used_bytes += size_bytes
        return self._held(size_bytes)

    @asynccontextmanager
    async def _held(self, size_bytes: int) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._release(size_bytes)

    async def _acquire(self, size_bytes: int) -> None:
        if self.has_room(size_bytes):
            self.used_bytes += size_bytes
            return
        turn = trio.Event()
        self._waiting.append((size_bytes, turn))
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self._release(size_bytes)
            else:
                self._waiting.remove((size_bytes, turn))
                self._wake()
            raise

    def _release(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        self._wake()

    def _wake(self) -> None:
        while self._waiting and (not self.used_bytes or self.used_bytes + self._waiting[0][0] <= self.limit_bytes):
            size_bytes, turn = self._waiting.popleft()
            self.used_bytes += size_bytes
            turn.set()
