"""Removals wait for others, so that a thousand go with one request."""

from __future__ import annotations

from collections.abc import Iterator

MAX_REMOVALS = 1000  # S3 API, DeleteObjects: keys a request
_MOST_GATHERING_SECONDS = 30.0  # while they keep coming


class Gathering:
    """Keys to be removed together once no more of them come, or there are enough. Times in seconds of trio's clock."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        self._due = float("inf")
        self._latest = float("inf")
        self._most = MAX_REMOVALS

    def add(self, key: str, now: float, quiet_until: float) -> None:
        """Add a key, which may go then unless others come."""
        if not self._keys:
            self._latest = now + _MOST_GATHERING_SECONDS
        self._keys[key] = None
        self._due = min(quiet_until, self._latest)

    def discard(self, key: str) -> None:
        """Take a key away."""
        self._keys.pop(key, None)

    @property
    def due(self) -> float:
        """When they go."""
        return self._due if self._keys else float("inf")

    def is_ripe(self, now: float) -> bool:
        """Say whether they go now."""
        return self.due <= now or len(self._keys) >= self._most

    def take(self) -> Iterator[str]:
        """Yield the keys, which are not gathered any more then."""
        while self._keys:
            key = next(iter(self._keys))
            del self._keys[key]
            yield key

    @property
    def most(self) -> int:
        """How many may go together."""
        return self._most

    def went(self, count: int) -> None:
        """So many were removed together: twice as many may be."""
        self._most = min(max(2 * count, self._most), MAX_REMOVALS)

    def took_too_long(self, count: int) -> None:
        """So many could not be removed in time: the answer to one request for all comes when the last is removed."""
        if count > 1:
            self._most = max(count // 2, 1)
