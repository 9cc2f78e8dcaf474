"""Half-open byte ranges, and sets of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Extent(NamedTuple):
    """The bytes ``[start, end)`` of a file."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes in the extent."""
        return self.end - self.start


class ExtentSet:
    """A set of bytes, kept as disjoint extents in ascending order that never touch each other.

    Changes and look-ups take logarithmic time plus the extents they touch.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total_bytes = 0

    def __iter__(self) -> Iterator[Extent]:
        return map(Extent, self._starts, self._ends)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, end: int) -> None:
        """Put the bytes ``[start, end)`` in the set."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._replace(first, last, [(start, end)])

    def remove(self, start: int, end: int) -> None:
        """Take the bytes ``[start, end)`` out of the set."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        rest = [(self._starts[first], start), (end, self._ends[last - 1])]
        self._replace(first, last, [extent for extent in rest if extent[0] < extent[1]])

    def clear(self) -> None:
        """Empty the set."""
        self._replace(0, len(self._starts), [])

    def within(self, start: int, end: int) -> list[Extent]:
        """Return the parts of ``[start, end)`` that are in the set."""
        if start >= end:
            return []
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return [Extent(max(start, self._starts[i]), min(end, self._ends[i])) for i in range(first, last)]

    def gaps(self, start: int, end: int) -> list[Extent]:
        """Return the parts of ``[start, end)`` that are not in the set."""
        gaps = []
        for extent in self.within(start, end):
            if start < extent.start:
                gaps.append(Extent(start, extent.start))
            start = extent.end
        if start < end:
            gaps.append(Extent(start, end))
        return gaps

    def covers(self, start: int, end: int) -> bool:
        """Say whether all of ``[start, end)`` is in the set."""
        return not self.gaps(start, end)

    def check_invariants(self) -> None:
        """Assert what the class promises of its form."""
        flat = [edge for extent in self for edge in extent]
        assert flat == sorted(set(flat)), "extents overlap, touch, or are empty"
        assert self.total_bytes == sum(extent.length for extent in self)

    def _replace(self, first: int, last: int, extents: list[tuple[int, int]]) -> None:
        self.total_bytes -= sum(self._ends[first:last]) - sum(self._starts[first:last])
        self.total_bytes += sum(end - start for start, end in extents)
        self._starts[first:last] = [start for start, _ in extents]
        self._ends[first:last] = [end for _, end in extents]
