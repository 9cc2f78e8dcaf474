"""What the line to the Space does, learned from the requests that read."""

from __future__ import annotations

from collections import deque

from spacesfs.cache.pages import GRAIN_BYTES

MAX_RANDOM_BYTES = 4 << 20

_REMEMBERED = 32  # requests; the quickest of them tells the distance, for any may have met a queue
_LEAST_BYTES = 512 << 10  # of a body whose time says something about the rate
_WEIGHT = 0.2  # of the newest rate in the mean


class Link:
    """How long a reply takes to begin, and how fast a body comes then, on one of several connections at work.

    Attributes:
        round_trip_seconds: From asking to the first byte of a body; 0 while nothing is known.
        bytes_per_second: 0 while nothing is known.
    """

    def __init__(self) -> None:
        self._firsts: deque[float] = deque(maxlen=_REMEMBERED)
        self.round_trip_seconds = 0.0
        self.bytes_per_second = 0.0

    def note(self, first_byte_seconds: float, body_seconds: float, size: int) -> None:
        """Learn from a reply: when it began after it was asked for, and how long its body took from then on."""
        self._firsts.append(first_byte_seconds)
        self.round_trip_seconds = min(self._firsts)
        if size >= _LEAST_BYTES and body_seconds > 0:
            rate = size / body_seconds
            weight = _WEIGHT if self.bytes_per_second else 1.0
            self.bytes_per_second += weight * (rate - self.bytes_per_second)

    @property
    def random_bytes(self) -> int:
        """What a read out of order should fetch: a power of two whose transfer takes at most a round trip.

        So what nobody asked for comes while the next read waits for its first byte, and often answers one after it.
        """
        if not self.bytes_per_second:
            return _LEAST_BYTES  # the first one tells
        size = GRAIN_BYTES
        while size < MAX_RANDOM_BYTES and 2 * size <= self.round_trip_seconds * self.bytes_per_second:
            size *= 2
        return size
