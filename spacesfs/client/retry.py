"""What to retry, when, and what the server's clock says. Pure decisions; `transport.py` does the waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from spacesfs.client.errors import SpacesError

_TOLERATED_SKEW = timedelta(minutes=10)  # servers refuse at 15


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    Before attempt n+1 the pause is random in ``[0, min(cap, base * 2 ** (n - 1), left / 2)]``, and at least what the
    server asked for in Retry-After, which is believed up to ``cap_seconds``. An attempt that was throttled does not
    count as one of ``max_attempts``: those only the deadline ends, since the server is well and will take the call.
    """

    max_attempts: int = 6
    base_seconds: float = 0.2
    cap_seconds: float = 20.0

    def pause_seconds(
        self, error: SpacesError, *, faults: int, left_seconds: float, random: Callable[[], float]
    ) -> float | None:
        """Return how long to wait before the call is sent again, or None to give up.

        Args:
            error: How the last attempt failed, with the number of attempts made.
            faults: How many of them were not throttled.
            left_seconds: What is left until the deadline of the whole call.
            random: Returns numbers in ``[0, 1)``.
        """
        if not error.retryable or faults >= self.max_attempts or left_seconds < self.base_seconds:
            return None
        doubled = self.base_seconds * 2.0 ** min(error.attempts - 1, 30)
        asked = min(error.retry_after_seconds or 0.0, self.cap_seconds)
        pause = max(random() * min(self.cap_seconds, doubled, left_seconds / 2), asked)
        return pause if pause < left_seconds else None


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or a date), None where it makes no sense."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment = _http_date(text)
    return max((moment - now).total_seconds(), 0.0) if moment else None


class ServerClock:
    """The time as the server sees it, so that a wrong local clock does not invalidate every signature."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self, local: datetime) -> datetime:
        """Return the server's time at the local time ``local``."""
        return local + self._offset

    def correct(self, date_header: str | None, local: datetime) -> bool:
        """Learn from the Date of a refused request; True if we were so far off that a retry makes sense."""
        moment = _http_date(date_header or "")
        if moment is None or abs(moment - self.now(local)) <= _TOLERATED_SKEW:
            return False
        self._offset = moment - local
        return True


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
