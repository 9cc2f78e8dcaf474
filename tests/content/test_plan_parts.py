"""How a changed file is cut into the parts of an upload."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.upload import (
    MAX_COPY_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    PART_BYTES,
    SINGLE_PUT_BYTES,
    PlannedPart,
    plan_parts,
)

MIB, GIB = 1 << 20, 1 << 30
SMALLEST_PART, LARGEST_PART = 5 * MIB, 5 * GIB  # S3 API, UploadPart
SIZES = st.one_of(
    st.integers(SINGLE_PUT_BYTES + 1, 200 * MIB),
    st.integers(1, MAX_OBJECT_BYTES // GIB).map(lambda gib: gib * GIB),
    st.integers(MAX_PARTS * PART_BYTES - 2, MAX_PARTS * PART_BYTES + 2),
    st.integers(MAX_OBJECT_BYTES - 2, MAX_OBJECT_BYTES),
)
SHARES = st.floats(0, 1)  # of the file's size, so that changes meet files of any size


def plan(size: int, base_size: int, changes: list[tuple[float, int]]) -> tuple[list[PlannedPart], ExtentSet]:
    dirty = ExtentSet()
    for share, length in changes:
        start = int(share * (size - 1))
        dirty.add(start, min(start + length, size))
    dirty.add(base_size, size)  # what is past the base version is always changed
    return plan_parts(size, dirty, base_size), dirty


@given(
    size=SIZES,
    base_share=st.floats(0, 1.5),
    changes=st.lists(st.tuples(SHARES, st.integers(1, 64 * MIB)), max_size=12),
)
@example(size=MAX_OBJECT_BYTES, base_share=0.0, changes=[])
@example(size=MAX_OBJECT_BYTES, base_share=1.0, changes=[(0.5, 1)])
@example(size=SINGLE_PUT_BYTES + 1, base_share=1.0, changes=[(0.0, 1)])
def test_any_plan_is_an_upload_that_s3_takes(size: int, base_share: float, changes: list[tuple[float, int]]) -> None:
    base_size = int(size * base_share)
    parts, dirty = plan(size, base_size, changes)
    assert 1 <= len(parts) <= MAX_PARTS
    assert (parts[0].extent.start, parts[-1].extent.end) == (0, size)
    assert all(left.extent.end == right.extent.start for left, right in itertools.pairwise(parts))
    assert all(SMALLEST_PART <= part.extent.length <= LARGEST_PART for part in parts[:-1])
    assert 0 < parts[-1].extent.length <= LARGEST_PART
    for part in parts:
        if part.is_copy:
            assert not dirty.within(*part.extent)
            assert part.extent.end <= base_size


@given(size=st.integers(SINGLE_PUT_BYTES + 1, 2 * GIB), share=SHARES, length=st.integers(1, 1000))
def test_a_small_change_sends_little(size: int, share: float, length: int) -> None:
    parts, _ = plan(size, size, [(share, length)])
    sent = sum(part.extent.length for part in parts if not part.is_copy)
    assert 0 < sent <= 2 * PART_BYTES


def test_a_new_file_is_sent_in_equal_parts() -> None:
    parts, _ = plan(3 * PART_BYTES + 1, 0, [])
    assert [part.extent.length for part in parts] == [PART_BYTES] * 3 + [1]
    assert not any(part.is_copy for part in parts)


def test_clean_neighbours_are_copied_together() -> None:
    parts, _ = plan(4 * GIB, 4 * GIB, [(0.0, 1)])
    assert parts[0] == PlannedPart(Extent(0, PART_BYTES), is_copy=False)
    assert all(part.is_copy and part.extent.length <= MAX_COPY_BYTES for part in parts[1:])
    assert len(parts) == 1 + 8


@pytest.mark.parametrize("grown", [1, PART_BYTES, 100 * MIB])
def test_an_append_copies_all_whole_parts_before_it(grown: int) -> None:
    base_size = 10 * PART_BYTES + 5
    parts, _ = plan(base_size + grown, base_size, [])
    copied = sum(part.extent.length for part in parts if part.is_copy)
    assert copied == 10 * PART_BYTES
