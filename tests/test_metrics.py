"""Counting requests."""

from __future__ import annotations

import pytest

from spacesfs.client.call import OperationClass, RequestRecord
from spacesfs.metrics import Histogram, RequestCounter, RequestTotals


def record(status: int | None, kind: OperationClass = "read", sent: int = 0, received: int = 0) -> RequestRecord:
    return RequestRecord(kind, "GetObject", status, 0.1, sent, received, 1)


def test_what_counts_as_failed_and_throttled() -> None:
    counter = RequestCounter()
    for status in (200, 206, 304, 404, 412, 400, 403, 429, 500, 503, None):
        counter.observe(record(status))
    assert counter.totals["read"] == RequestTotals(sent=11, failed=6, throttled=2)


def test_classes_are_apart_and_bytes_add_up() -> None:
    counter = RequestCounter()
    counter.observe(record(200, "read", received=10))
    counter.observe(record(200, "read", received=5))
    counter.observe(record(200, "write", sent=7))
    assert counter.totals == {
        "read": RequestTotals(sent=2, bytes_received=15),
        "write": RequestTotals(sent=1, bytes_sent=7),
    }


def test_times_are_counted_by_their_bounds() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.002, 0.5, 99.0):
        histogram.observe(seconds)
    before = histogram.copy()
    histogram.observe(2.0)
    counts = before.by_bound()
    assert {bound: count for bound, count in counts.items() if count} == {"0.001": 2, "0.003": 1, "1.0": 1, "inf": 1}
    assert before.seconds == pytest.approx(99.503)
    assert sum(histogram.by_bound().values()) == 6
