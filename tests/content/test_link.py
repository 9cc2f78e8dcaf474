"""What a read out of order fetches follows from what the line does."""

from __future__ import annotations

import pytest

from spacesfs.cache.pages import GRAIN_BYTES
from spacesfs.content.link import MAX_RANDOM_BYTES, Link

MIB = 1 << 20


@pytest.mark.parametrize(
    ("round_trip", "rate", "size"),
    [
        (0.001, 200 * MIB, GRAIN_BYTES),  # near, and not fast enough for more
        (0.002, 600 * MIB, MIB),
        (0.020, 4 * MIB, GRAIN_BYTES),  # far and slow
        (0.020, 30 * MIB, 512 << 10),
        (0.200, 100 * MIB, MAX_RANDOM_BYTES),
    ],
)
def test_what_fits_into_a_round_trip(round_trip: float, rate: float, size: int) -> None:
    link = Link()
    for _ in range(10):
        link.note(round_trip, 4 * MIB / rate, 4 * MIB)
    assert link.random_bytes == size


def test_the_first_read_is_long_enough_to_learn_from() -> None:
    link = Link()
    link.note(0.02, 0.01, link.random_bytes)
    assert link.bytes_per_second > 0


def test_a_reply_that_met_a_queue_is_no_distance() -> None:
    link = Link()
    for seconds in (5.0, 0.01, 3.0):
        link.note(seconds, 0.1, MIB)
    assert link.round_trip_seconds == 0.01


def test_a_line_that_gets_longer_is_noticed() -> None:
    link = Link()
    link.note(0.001, 0.1, MIB)
    for _ in range(40):
        link.note(0.05, 0.1, MIB)
    assert link.round_trip_seconds == 0.05


def test_small_bodies_say_nothing_of_the_rate() -> None:
    link = Link()
    link.note(0.01, 0.000001, 4096)
    assert link.bytes_per_second == 0
