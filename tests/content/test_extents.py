"""Sets of bytes against Python's own sets."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spacesfs.content.extents import Extent, ExtentSet

EDGES = st.integers(0, 40)  # small, so that extents meet, overlap and vanish


def members(extents: list[Extent]) -> list[int]:
    return [byte for extent in extents for byte in range(*extent)]


class ExtentMachine(RuleBasedStateMachine):
    """Every change is made to an ExtentSet and to a set of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.extents = ExtentSet()
        self.model: set[int] = set()

    @rule(start=EDGES, end=EDGES)
    def add(self, start: int, end: int) -> None:
        self.extents.add(start, end)
        self.model.update(range(start, end))

    @rule(start=EDGES, end=EDGES)
    def remove(self, start: int, end: int) -> None:
        self.extents.remove(start, end)
        self.model.difference_update(range(start, end))

    @rule()
    def clear(self) -> None:
        self.extents.clear()
        self.model.clear()

    @rule(start=EDGES, end=EDGES)
    def look(self, start: int, end: int) -> None:
        wanted = range(start, end)
        assert members(self.extents.within(start, end)) == [byte for byte in wanted if byte in self.model]
        assert members(self.extents.gaps(start, end)) == [byte for byte in wanted if byte not in self.model]
        assert self.extents.covers(start, end) == self.model.issuperset(wanted)
        parts = sorted([*self.extents.within(start, end), *self.extents.gaps(start, end)])
        assert all(extent.length > 0 for extent in parts)
        assert all(left.end == right.start for left, right in itertools.pairwise(parts))

    @invariant()
    def same_bytes(self) -> None:
        self.extents.check_invariants()
        assert members(list(self.extents)) == sorted(self.model)
        assert self.extents.total_bytes == len(self.model)
        assert bool(self.extents) == bool(self.model)


TestExtentSet = ExtentMachine.TestCase
TestExtentSet.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(EDGES, EDGES)))
def test_the_order_of_adding_does_not_matter(edges: list[tuple[int, int]]) -> None:
    forward, backward = ExtentSet(), ExtentSet()
    for start, end in edges:
        forward.add(start, end)
    for start, end in reversed(edges):
        backward.add(start, end)
    assert list(forward) == list(backward)


def test_neighbours_become_one() -> None:
    extents = ExtentSet()
    extents.add(0, 4)
    extents.add(8, 12)
    extents.add(4, 8)
    assert list(extents) == [Extent(0, 12)]
    assert Extent(0, 12).length == 12


def test_a_hole_in_the_middle() -> None:
    extents = ExtentSet()
    extents.add(0, 10)
    extents.remove(4, 6)
    assert list(extents) == [Extent(0, 4), Extent(6, 10)]
    assert extents.gaps(0, 12) == [Extent(4, 6), Extent(10, 12)]
