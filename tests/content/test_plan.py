"""How a file is cut into the parts of an upload."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.plan import (
    MAX_COPY_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    SINGLE_PUT_BYTES,
    PlannedPart,
    cell,
    cell_at,
    complete_cells,
    plan_parts,
)

MIB, GIB = 1 << 20, 1 << 30
SMALLEST_PART, LARGEST_PART = 5 * MIB, 5 * GIB  # S3 API, UploadPart
SIZES = st.one_of(
    st.integers(1, 200 * MIB),
    st.integers(1, MAX_OBJECT_BYTES // GIB).map(lambda gib: gib * GIB),
    st.integers(1, MAX_PARTS).map(lambda number: cell(number).start).filter(lambda end: 0 < end <= MAX_OBJECT_BYTES),
    st.integers(MAX_OBJECT_BYTES - 2, MAX_OBJECT_BYTES),
)
SHARES = st.floats(0, 1)  # of the file's size, so that changes meet files of any size
CHANGES = st.lists(st.tuples(SHARES, st.integers(1, 64 * MIB)), max_size=12)
NUMBERS = st.sets(st.integers(1, 60), max_size=12)


def extents_of(size: int, changes: list[tuple[float, int]]) -> ExtentSet:
    extents = ExtentSet()
    for share, length in changes:
        start = int(share * (size - 1))
        extents.add(start, min(start + length, size))
    return extents


def plan(size: int, source_size: int, changes: list[tuple[float, int]]) -> list[PlannedPart]:
    changed = extents_of(size, changes)
    changed.add(source_size, size)  # what is past the source is always changed
    return plan_parts(size, changed, source_size)


def test_cells_cover_five_tebibytes() -> None:
    cells = [cell(number) for number in range(1, MAX_PARTS + 1)]
    assert cells[0].start == 0
    assert all(left.end == right.start for left, right in itertools.pairwise(cells))
    assert cells[-1].end >= MAX_OBJECT_BYTES
    assert all(8 * MIB <= each.length <= LARGEST_PART and each.length % (4 * MIB) == 0 for each in cells)
    assert all(left.length <= right.length for left, right in itertools.pairwise(cells))
    assert cell_at(10**12) <= MAX_PARTS
    assert cell(cell_at(10**12)).length <= 512 * MIB


@given(offset=st.integers(0, MAX_OBJECT_BYTES - 1))
def test_each_offset_has_a_cell(offset: int) -> None:
    extent = cell(cell_at(offset))
    assert extent.start <= offset < extent.end


@settings(deadline=None)  # 10,000 parts are looked at one by one
@given(size=SIZES, source_share=st.floats(0, 1.5), changes=CHANGES, used=NUMBERS)
@example(size=MAX_OBJECT_BYTES, source_share=0.0, changes=[], used=set())
@example(size=MAX_OBJECT_BYTES, source_share=1.0, changes=[(0.5, 1)], used=set())
@example(size=SINGLE_PUT_BYTES + 1, source_share=1.0, changes=[(0.0, 1)], used={1, 2})
def test_any_plan_is_an_upload_that_s3_takes(
    size: int, source_share: float, changes: list[tuple[float, int]], used: set[int]
) -> None:
    source_size = int(size * source_share)
    changed = extents_of(size, changes)
    changed.add(source_size, size)
    parts = plan_parts(size, changed, source_size, used)
    assert (parts[0].extent.start, parts[-1].extent.end) == (0, size)
    assert all(left.extent.end == right.extent.start for left, right in itertools.pairwise(parts))
    assert all(left.number < right.number for left, right in itertools.pairwise(parts))
    assert parts[0].number >= 1
    assert parts[-1].number <= MAX_PARTS
    assert all(SMALLEST_PART <= part.extent.length <= LARGEST_PART for part in parts[:-1])
    assert 0 < parts[-1].extent.length <= LARGEST_PART
    assert {number for number in used if cell(number).start < size} <= {part.number for part in parts}
    for part in parts:
        assert part.extent.start == cell(part.number).start
        if part.is_copy:
            assert not changed.within(*part.extent)
            assert part.extent.end <= source_size
        else:
            assert part.extent.end == min(cell(part.number).end, size)
            assert changed.within(*part.extent)


@given(size=st.integers(SINGLE_PUT_BYTES + 1, 2 * GIB), share=SHARES, length=st.integers(1, 1000))
def test_a_small_change_sends_little(size: int, share: float, length: int) -> None:
    sent = sum(part.extent.length for part in plan(size, size, [(share, length)]) if not part.is_copy)
    assert 0 < sent <= 16 * MIB


@given(size=st.integers(1, 200 * MIB), settled=SHARES, here=CHANGES, changes=CHANGES)
def test_complete_cells_are_as_they_will_be_planned(
    size: int, settled: float, here: list[tuple[float, int]], changes: list[tuple[float, int]]
) -> None:
    present, changed = extents_of(size, [*here, *changes]), extents_of(size, changes)
    settled_to = int(size * settled)
    cells = list(complete_cells(settled_to, present, changed))
    planned = plan_parts(size, changed, size)
    assert all(part in planned for part in cells)
    assert all(part.extent.end <= settled_to and present.covers(*part.extent) for part in cells)
    whole = [part for part in planned if not part.is_copy and part.extent.end <= settled_to]
    assert len(cells) >= sum(present.covers(*part.extent) for part in whole if part.extent == cell(part.number))


def test_an_empty_file_is_one_empty_part() -> None:
    assert plan_parts(0, ExtentSet(), 0) == [PlannedPart(1, Extent(0, 0), is_copy=False)]


def test_clean_neighbours_are_copied_together() -> None:
    parts = plan(4 * GIB, 4 * GIB, [(0.0, 1)])
    assert parts[0] == PlannedPart(1, Extent(0, 8 * MIB), is_copy=False)
    assert all(part.is_copy and part.extent.length <= MAX_COPY_BYTES for part in parts[1:])
    assert len(parts) == 1 + 4 * GIB // MAX_COPY_BYTES


@pytest.mark.parametrize("grown", [1, 8 * MIB, 100 * MIB])
def test_an_append_copies_all_whole_parts_before_it(grown: int) -> None:
    source_size = 80 * MIB + 5
    copied = sum(part.extent.length for part in plan(source_size + grown, source_size, []) if part.is_copy)
    assert copied == 80 * MIB


def test_a_joined_copy_is_split_by_a_change() -> None:
    before = plan(100 * MIB, 100 * MIB, [])
    assert [part.number for part in before] == [1]
    after = plan(100 * MIB, 100 * MIB, [(0.5, 1)])
    assert [(part.number, part.is_copy) for part in after] == [(1, True), (7, False), (8, True)]
