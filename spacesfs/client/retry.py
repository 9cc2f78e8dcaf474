"""What to retry, when, and what the server's clock says. Pure decisions; `transport.py` does the waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from spacesfs.client.errors import SpacesError, Throttled

LONGEST_RETRY_AFTER_SECONDS = 60.0  # a server's Retry-After is believed up to here

_TOLERATED_SKEW = timedelta(minutes=10)  # servers refuse at 15
_BELIEVED_SKEW = timedelta(days=31)  # certificates live for some months, so with a clock that is further off TLS fails


@dataclass(slots=True)
class Allowance:
    """What a call may still take, in seconds.

    Time that the Space makes a call wait by throttling it has a budget of its own, since the server is well and will
    take the call: a busy Space must not fail a program, but a task must have an end.

    Attributes:
        seconds: Until the call's deadline; for attempts, and for pauses after a fault.
        throttled_seconds: For attempts that were throttled, the pauses after them, and the wait for the next turn.
    """

    seconds: float
    throttled_seconds: float

    def left(self, error: SpacesError) -> float:
        """Return what is left for a call that failed so."""
        return self.throttled_seconds if isinstance(error, Throttled) else self.seconds

    def spend(self, error: SpacesError, seconds: float) -> None:
        """Take off the time that a failure has cost."""
        if isinstance(error, Throttled):
            self.throttled_seconds -= seconds
        else:
            self.seconds -= seconds


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    Before attempt n+1 the pause is random in ``[0, min(cap, base * 2 ** (n - 1), left / 2)]``, and at least what the
    server asked for in Retry-After; after a fault that is believed up to ``cap_seconds``. An attempt that was throttled
    does not count as one of ``max_attempts``: those only their `Allowance` ends.
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
            left_seconds: What is left of the call's allowance for such failures.
            random: Returns numbers in ``[0, 1)``.
        """
        if not error.retryable or faults >= self.max_attempts or left_seconds < self.base_seconds:
            return None
        doubled = self.base_seconds * 2.0 ** min(error.attempts - 1, 30)
        asked = error.retry_after_seconds or 0.0
        if not isinstance(error, Throttled):
            asked = min(asked, self.cap_seconds)
        pause = max(random() * min(self.cap_seconds, doubled, left_seconds / 2), asked)
        return pause if pause < left_seconds else None


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or a date), None where it makes no sense.

    Never more than ``LONGEST_RETRY_AFTER_SECONDS``; ``now`` is the server's time.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_SECONDS)
    moment = _http_date(text)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_SECONDS) if moment else None


class ServerClock:
    """The time as the server sees it, so that a wrong local clock does not invalidate every signature.

    A server is believed as long as it is within 31 days of the local clock; what is further off is nonsense from
    somebody in between, or a clock that must be set.
    """

    def __init__(self) -> None:
        self._offset = timedelta(0)
        self._heard = ""
        self._lead = timedelta(seconds=1)

    def now(self, local: datetime) -> datetime:
        """Return the server's time at the local time ``local``."""
        return local + self._offset

    def hear(self, date_header: str, local: datetime) -> None:
        """Note the Date of any reply, which has whole seconds."""
        if date_header == self._heard:
            return  # what is known is nearer to the truth
        moment = _http_date(date_header)
        if moment is not None and abs(moment - local) <= _BELIEVED_SKEW:
            self._heard, self._lead = date_header, moment - local + timedelta(seconds=1)

    def latest(self, local: datetime) -> datetime:
        """Return the latest time that the server's clock may show; by what it said last, else by the local one."""
        return local + self._lead

    def correct(self, date_header: str | None, local: datetime) -> bool:
        """Learn from the Date of a refused request; True if we were so far off that a retry makes sense."""
        moment = _http_date(date_header or "")
        if moment is None or abs(moment - self.now(local)) <= _TOLERATED_SKEW or abs(moment - local) > _BELIEVED_SKEW:
            return False
        self._offset = moment - local
        return True


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
