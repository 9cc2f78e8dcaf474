"""Which reads are a stream, and how far ahead of it to fetch."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.content.extents import Extent
from spacesfs.content.readahead import ReadAhead, ReadAheadOptions, Stream

KIB, MIB = 1 << 10, 1 << 20
OPTIONS = ReadAheadOptions(first_window_bytes=4 * MIB, max_window_bytes=16 * MIB, slack_bytes=MIB, streams=4)


def reads(start: int, count: int, *, length: int = 128 * KIB, step: int = 128 * KIB) -> list[Extent]:
    return [Extent(start + number * step, start + number * step + length) for number in range(count)]


def observe(ahead: ReadAhead, extents: list[Extent]) -> list[Stream]:
    return [ahead.observe(extent) for extent in extents]


def test_the_second_of_two_reads_in_order_makes_a_stream() -> None:
    first, second = observe(ReadAhead(OPTIONS), reads(0, 2))
    assert first is second
    assert first.is_steady
    assert first.target == 256 * KIB + OPTIONS.first_window_bytes


def test_reads_that_overtake_one_another_are_one_stream() -> None:
    extents = reads(0, 64)
    for pair in range(2, 64, 2):
        extents[pair], extents[pair + 1] = extents[pair + 1], extents[pair]
    streams = observe(ReadAhead(OPTIONS), extents)
    assert len(set(map(id, streams))) == 1
    assert streams[-1].position == 64 * 128 * KIB


def test_small_skips_are_a_stream_soon() -> None:
    streams = observe(ReadAhead(OPTIONS), reads(0, 5, length=64 * KIB, step=256 * KIB))
    assert len(set(map(id, streams))) == 1
    assert streams[-1].is_steady


@pytest.mark.parametrize("count", [2, 3, 4])
def test_interleaved_streams_are_told_apart(count: int) -> None:
    ahead = ReadAhead(OPTIONS)
    extents = [reads(stream * 100 * MIB, 20) for stream in range(count)]
    for turn in range(20):
        for stream in range(count):
            ahead.observe(extents[stream][turn])
    assert sorted(stream.position for stream in ahead.streams) == [
        stream * 100 * MIB + 20 * 128 * KIB for stream in range(count)
    ]
    assert all(stream.is_steady for stream in ahead.streams)


def test_a_step_back_stays_in_the_stream_and_a_leap_does_not() -> None:
    ahead = ReadAhead(OPTIONS)
    stream = observe(ahead, reads(50 * MIB, 20))[-1]
    position = stream.position
    assert ahead.observe(Extent(position - 512 * KIB, position - 384 * KIB)) is stream
    assert stream.position == position
    leap = ahead.observe(Extent(0, 128 * KIB))
    assert leap is not stream
    assert not leap.is_steady
    assert ahead.observe(Extent(position, position + KIB)) is stream


def test_random_reads_are_no_stream() -> None:
    ahead, rng = ReadAhead(OPTIONS), random.Random(7)
    for _ in range(300):
        offset = rng.randrange(1 << 18) * 4096
        assert not ahead.observe(Extent(offset, offset + 4096)).is_steady


def test_old_streams_give_way() -> None:
    ahead = ReadAhead(OPTIONS)
    for number in range(100):
        ahead.observe(Extent(number * 10 * MIB, number * 10 * MIB + 1))
    assert len(ahead.streams) == OPTIONS.streams


def test_waiting_widens_the_window_once_for_each_half_of_it() -> None:
    ahead = ReadAhead(OPTIONS)
    stream = observe(ahead, reads(0, 2))[-1]
    sizes = []
    for extent in reads(256 * KIB, 400):
        ahead.observe(extent)
        stream.widen()  # it waits each time
        sizes.append(stream.window_bytes)
    assert sizes[0] == 2 * OPTIONS.first_window_bytes
    assert sizes[:3] == sizes[:1] * 3
    assert sizes[-1] == max(sizes) == OPTIONS.max_window_bytes


def test_want_of_memory_narrows_the_window_to_one_request() -> None:
    stream = observe(ReadAhead(OPTIONS), reads(0, 2))[-1]
    for _ in range(10):
        stream.narrow(MIB)
    assert stream.window_bytes == MIB


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 16)), min_size=1, max_size=60))
def test_no_pattern_reaches_too_far(steps: list[tuple[int, int]]) -> None:
    ahead = ReadAhead(OPTIONS)
    for start, length in steps:
        read = Extent(start * 64 * KIB, start * 64 * KIB + length * 64 * KIB)
        stream = ahead.observe(read)
        stream.widen()
        assert stream is ahead.streams[0]
        assert stream.position >= read.end
        assert stream.reached >= stream.position
        assert stream.target - stream.position <= OPTIONS.max_window_bytes
        assert len(ahead.streams) <= OPTIONS.streams
