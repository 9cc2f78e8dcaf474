"""How many bytes a second may come and go, on all connections together."""

from __future__ import annotations

import trio

_SLICE_SECONDS = (
    0.1  # what is read or written in one go while there is a limit: so nobody has long to wait for the others
)


class Pace:
    """The limit of one direction: who has moved bytes waits until they are paid for. It may be changed at any time."""

    def __init__(self, bytes_per_second: int = 0) -> None:
        self._limit = bytes_per_second
        self._free_at = 0.0

    @property
    def bytes_per_second(self) -> int:
        """The limit; 0 for none."""
        return self._limit

    def set(self, bytes_per_second: int) -> None:
        """Set the limit, 0 for none. It holds for what is moved from now on."""
        self._limit = bytes_per_second
        self._free_at = 0.0

    def slice_bytes(self, most: int) -> int:
        """Return how much may be moved in one go, ``most`` at most."""
        return min(most, max(int(self._limit * _SLICE_SECONDS), 1)) if self._limit else most

    async def pay(self, count: int) -> None:
        """Wait for as long as ``count`` bytes take, behind those who came first."""
        if self._limit:
            self._free_at = max(self._free_at, trio.current_time()) + count / self._limit
            await trio.sleep_until(self._free_at)


class Bandwidth:
    """The limits of both directions: ``down`` from the Space, ``up`` to it. In bytes of HTTP, before TLS."""

    def __init__(self, down: int = 0, up: int = 0) -> None:
        self.down = Pace(down)
        self.up = Pace(up)
