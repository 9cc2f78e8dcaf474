"""Counting requests."""

from __future__ import annotations

from spacesfs.client.call import OperationClass, RequestRecord
from spacesfs.metrics import RequestCounter, RequestTotals


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
