"""What is fetched in advance: more and more of a file read in order, nothing of one read at random."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.readahead import ReadAhead, ReadAheadOptions

KIB, MIB = 1 << 10, 1 << 20
OPTIONS = ReadAheadOptions(first_window_bytes=2 * MIB, max_window_bytes=16 * MIB, slack_bytes=MIB)


def read_in_order(ahead: ReadAhead, *, size: int, step: int, start: int = 0) -> list[Extent]:
    plans = (ahead.observe(Extent(offset, offset + step)) for offset in range(start, start + size, step))
    return [plan for plan in plans if plan is not None]


def test_a_file_read_in_order_is_fetched_once_and_in_order() -> None:
    plans = read_in_order(ReadAhead(OPTIONS), size=64 * MIB, step=128 * KIB)
    assert plans[0].start <= 128 * KIB
    assert all(left.end == right.start for left, right in itertools.pairwise(plans))
    assert plans[-1].end >= 64 * MIB + OPTIONS.max_window_bytes // 2


def test_the_window_grows_to_its_cap() -> None:
    ahead = ReadAhead(OPTIONS)
    distances = []
    for offset in range(0, 32 * MIB, 128 * KIB):
        plan = ahead.observe(Extent(offset, offset + 128 * KIB))
        if plan is not None:
            distances.append(plan.end - offset - 128 * KIB)
    assert distances[0] == OPTIONS.first_window_bytes
    assert max(distances) == distances[-1] == OPTIONS.max_window_bytes


def test_a_jump_closes_the_window() -> None:
    ahead = ReadAhead(OPTIONS)
    read_in_order(ahead, size=8 * MIB, step=128 * KIB)
    assert ahead.observe(Extent(500 * MIB, 500 * MIB + 4 * KIB)) is None
    again = ahead.observe(Extent(500 * MIB + 4 * KIB, 500 * MIB + 8 * KIB))
    assert again == Extent(500 * MIB + 8 * KIB, 500 * MIB + 8 * KIB + OPTIONS.first_window_bytes)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=50, unique=True))
def test_random_reads_fetch_nothing_in_advance(offsets: list[int]) -> None:
    ahead = ReadAhead(OPTIONS)
    position = 0
    for offset in offsets:
        read = Extent(offset * 8 * MIB + 3 * MIB, offset * 8 * MIB + 3 * MIB + 4 * KIB)
        plan = ahead.observe(read)
        if abs(read.start - position) > OPTIONS.slack_bytes:
            assert plan is None
        position = read.end


def test_reads_that_overtake_one_another_still_go_on() -> None:
    ahead = ReadAhead(OPTIONS)
    planned = ExtentSet()
    offsets = [offset for pair in range(0, 32 * MIB, 256 * KIB) for offset in (pair + 128 * KIB, pair)]
    for offset in offsets:
        plan = ahead.observe(Extent(offset, offset + 128 * KIB))
        if plan is not None:
            assert not planned.within(*plan)
            planned.add(*plan)
    assert planned.covers(4 * MIB, 32 * MIB)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 8)), min_size=1, max_size=80))
def test_nothing_is_planned_twice_between_jumps(steps: list[tuple[int, int]]) -> None:
    ahead = ReadAhead(OPTIONS)
    planned = ExtentSet()
    position = 100 * MIB
    ahead.observe(Extent(position - KIB, position))
    for shift, length in steps:
        start = position + shift * 128 * KIB
        read = Extent(start, start + length * 128 * KIB)
        position = max(position, read.end)
        plan = ahead.observe(read)
        if plan is not None:
            assert plan.length > 0
            assert plan.end - position <= OPTIONS.max_window_bytes
            assert not planned.within(*plan)
            planned.add(*plan)
