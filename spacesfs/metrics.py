"""What is counted. Imports nothing of ours."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

THROTTLED = (429, 503)
FIRST_FAILURE = 400


class Request(Protocol):
    """One request to the Space, as the client reports it."""

    @property
    def operation_class(self) -> str:
        """What limits are counted by: read, write or list."""

    @property
    def status(self) -> int | None:
        """HTTP status, or None when no reply came."""

    @property
    def bytes_sent(self) -> int:
        """Of the request's body."""

    @property
    def bytes_received(self) -> int:
        """Of the reply's body."""


@dataclass(slots=True)
class RequestTotals:
    """Requests of one class; failed and throttled ones are among the sent. An answer "not there" is no failure."""

    sent: int = 0
    failed: int = 0
    throttled: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class RequestCounter:
    """Counts requests by class."""

    def __init__(self) -> None:
        self.totals: dict[str, RequestTotals] = {}

    def observe(self, request: Request) -> None:
        """Count one request."""
        totals = self.totals.setdefault(request.operation_class, RequestTotals())
        totals.sent += 1
        totals.bytes_sent += request.bytes_sent
        totals.bytes_received += request.bytes_received
        if request.status in THROTTLED:
            totals.throttled += 1
        if request.status is None or (request.status >= FIRST_FAILURE and request.status not in (404, 412)):
            totals.failed += 1


BOUNDS_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(slots=True)
class Histogram:
    """How often something took how long.

    Attributes:
        counts: One number for each of ``BOUNDS_SECONDS``, of what took no longer than that but longer than the bound
            before; and one for all that took longer than the last.
        seconds: All together.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds

    def by_bound(self) -> dict[str, int]:
        """Return the counts by the bounds as text, with "inf" for the last."""
        return dict(zip([*map(str, BOUNDS_SECONDS), "inf"], self.counts, strict=True))

    def copy(self) -> Histogram:
        """Return how it is now."""
        return Histogram(list(self.counts), self.seconds)


@dataclass(slots=True)
class ReadTotals:
    """What reading took so far.

    Attributes:
        hits: Reads whose bytes were all in memory; ``misses`` had to wait for some.
        requests: To the Space; ``ahead_requests`` of them before anybody asked, ``cancelled_requests`` given up.
        fetched_bytes: What they brought.
    """

    hits: int = 0
    misses: int = 0
    requests: int = 0
    ahead_requests: int = 0
    cancelled_requests: int = 0
    fetched_bytes: int = 0

    def copy(self) -> Self:
        """Return how it is now."""
        return replace(self)


@dataclass(frozen=True, slots=True)
class ReaderStatistics:
    """How reading goes.

    Attributes:
        totals: Counts since the mount began.
        waits: How long reads waited for bytes, in seconds.
        fetches: How long requests took, in seconds.
        fetching_bytes: On their way now; ``ahead_requests`` of them were not asked for yet.
        readers: Handles that were read from and are open; ``window_bytes`` is the furthest that one fetches ahead.
        request_bytes: How long requests are at present when reading in order; ``random_bytes`` at the least when not.
        round_trip_seconds, bytes_per_second: What the line does.
    """

    totals: ReadTotals
    waits: Histogram
    fetches: Histogram
    fetching_bytes: int
    ahead_requests: int
    readers: int
    window_bytes: int
    request_bytes: int
    random_bytes: int
    round_trip_seconds: float
    bytes_per_second: float
