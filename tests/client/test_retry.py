"""What is retried, after how long, and what a server's clock teaches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.client.errors import (
    AccessDenied,
    BadReply,
    DeadlineExceeded,
    IntegrityError,
    NoSuchKey,
    NotConnected,
    PreconditionFailed,
    ServerFault,
    SpacesError,
    Throttled,
    Unreachable,
    Untrusted,
)
from spacesfs.client.retry import (
    LONGEST_RETRY_AFTER_SECONDS,
    Allowance,
    RetryPolicy,
    ServerClock,
    parse_retry_after,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
RETRYABLE = (BadReply, DeadlineExceeded, IntegrityError, NotConnected, ServerFault, Throttled, Unreachable)
FINAL = (AccessDenied, NoSuchKey, PreconditionFailed, Untrusted)


def failed(kind: type[SpacesError], attempts: int = 1, retry_after: float | None = None) -> SpacesError:
    error = kind("failed", retry_after_seconds=retry_after)
    error.attempts = attempts
    return error


def pause(error: SpacesError, *, faults: int | None = None, left: float = 1000.0, luck: float = 0.5) -> float | None:
    policy = RetryPolicy(max_attempts=5, base_seconds=1.0, cap_seconds=6.0)
    faults = error.attempts if faults is None else faults
    return policy.pause_seconds(error, faults=faults, left_seconds=left, random=lambda: luck)


def test_backoff_doubles_up_to_the_cap() -> None:
    assert [pause(failed(ServerFault, attempts)) for attempts in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 3.0]


def test_attempts_are_counted() -> None:
    assert pause(failed(ServerFault, 4)) is not None
    assert pause(failed(ServerFault, 5)) is None


def test_throttled_attempts_do_not_count() -> None:
    assert pause(failed(Throttled, 50), faults=4) == 3
    assert pause(failed(Throttled, 50), faults=5) is None


@pytest.mark.parametrize("kind", RETRYABLE)
def test_what_is_retried(kind: type[SpacesError]) -> None:
    assert pause(failed(kind)) is not None


@pytest.mark.parametrize("kind", FINAL)
def test_what_is_final(kind: type[SpacesError]) -> None:
    assert pause(failed(kind)) is None


def test_the_server_may_ask_for_more_time_but_not_for_ever() -> None:
    assert pause(failed(Throttled, retry_after=40)) == 40
    assert pause(failed(ServerFault, retry_after=4)) == 4
    assert pause(failed(ServerFault, retry_after=40)) == 6
    assert pause(failed(Throttled, 4, retry_after=1)) == 3


def test_nothing_is_begun_past_the_deadline() -> None:
    assert pause(failed(Throttled, retry_after=4), left=4.1) == 4
    assert pause(failed(Throttled, retry_after=4), left=4.0) is None
    assert pause(failed(ServerFault), left=0.9) is None


def test_late_pauses_leave_time_for_the_attempt() -> None:
    assert pause(failed(ServerFault, 4), left=4.0) == 1.0


@given(
    attempts=st.integers(1, 5000),
    luck=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, LONGEST_RETRY_AFTER_SECONDS),
)
def test_pauses_stay_within_bounds(attempts: int, luck: float, asked: float | None) -> None:
    policy = RetryPolicy()
    error = failed(Throttled, attempts, asked)
    chosen = policy.pause_seconds(error, faults=0, left_seconds=1e9, random=lambda: luck)
    assert chosen is not None
    assert (asked or 0.0) <= chosen <= max(policy.cap_seconds, asked or 0.0)


def test_throttled_time_has_a_budget_of_its_own() -> None:
    allowance = Allowance(30.0, 300.0)
    allowance.spend(failed(Throttled), 100)
    allowance.spend(failed(ServerFault), 10)
    assert (allowance.left(failed(Throttled)), allowance.left(failed(Unreachable))) == (200, 20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("20", 20.0),
        ("120", LONGEST_RETRY_AFTER_SECONDS),
        ("9" * 5000, LONGEST_RETRY_AFTER_SECONDS),
        (format_datetime(NOW + timedelta(seconds=50), usegmt=True), 50.0),
        (format_datetime(NOW + timedelta(days=50), usegmt=True), LONGEST_RETRY_AFTER_SECONDS),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after(text: str | None, expected: float | None) -> None:
    assert parse_retry_after(text, NOW) == expected


def test_a_wrong_local_clock_is_corrected_once() -> None:
    clock = ServerClock()
    server = format_datetime(NOW + timedelta(hours=2), usegmt=True)
    assert clock.now(NOW) == NOW
    assert clock.correct(server, NOW)
    assert clock.now(NOW) == NOW + timedelta(hours=2)
    assert not clock.correct(server, NOW)


@pytest.mark.parametrize("days", [-31, -1, 1, 31])
def test_a_server_is_believed_within_a_month(days: int) -> None:
    clock = ServerClock()
    assert clock.correct(format_datetime(NOW + timedelta(days=days), usegmt=True), NOW)
    assert clock.now(NOW) == NOW + timedelta(days=days)


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        format_datetime(NOW + timedelta(minutes=9), usegmt=True),
        format_datetime(NOW + timedelta(days=32), usegmt=True),
        format_datetime(NOW - timedelta(days=32), usegmt=True),
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
    ],
)
def test_a_good_clock_stays_as_it_is(date: str | None) -> None:
    clock = ServerClock()
    assert not clock.correct(date, NOW)
    assert clock.now(NOW) == NOW
