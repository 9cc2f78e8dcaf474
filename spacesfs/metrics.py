"""What is counted. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
