"""How a file is cut into the parts of an upload: which bytes each part number stands for, and what to do for it. Pure.

Every number has a *cell*, a fixed extent of the file, so that parts can be sent before anybody knows how large the file
will be. Cells grow with the number: small files go up in small pieces, and 5 TiB in 10,000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import accumulate

from spacesfs.content.extents import Extent, ExtentSet

SINGLE_PUT_BYTES = 16 << 20  # up to here one PUT; a multipart upload costs at least three requests
MAX_PARTS = 10_000  # S3 API, UploadPart: partNumber 1 to 10,000
MAX_OBJECT_BYTES = 5 << 40  # S3 API, multipart object
MAX_COPY_BYTES = 256 << 20  # one request copies about 250 MB/s, and several at once are faster, up to some

_GROUP = 1000  # cells of one size
# Multiples of RGW's stripes of 4 MiB. Parts are in memory while they are sent: up to 1 TB they stay below 512 MiB, and
# what is left for 5 TiB is shared by the last three groups.
_CELL_BYTES = tuple(mib << 20 for mib in (8, 16, 32, 64, 128, 256, 512, 1412, 1412, 1412))
_GROUP_STARTS = tuple(accumulate((size * _GROUP for size in _CELL_BYTES), initial=0))


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: ``extent`` of the file, to be copied from the source or else sent."""

    number: int
    extent: Extent
    is_copy: bool


def cell(number: int) -> Extent:
    """Return the extent that a part number, 1 to 10,000, stands for."""
    group, index = divmod(number - 1, _GROUP)
    size = _CELL_BYTES[group]
    start = _GROUP_STARTS[group] + index * size
    return Extent(start, start + size)


def cell_at(offset: int) -> int:
    """Return the number of the cell that holds an offset below 5 TiB."""
    group = bisect_right(_GROUP_STARTS, offset) - 1
    return group * _GROUP + (offset - _GROUP_STARTS[group]) // _CELL_BYTES[group] + 1


def plan_parts(size: int, changed: ExtentSet, source_size: int, used: Container[int] = ()) -> list[PlannedPart]:
    """Cut a file of ``size`` bytes into parts: what is the source's is copied from it, the rest is sent.

    Neighbouring copies are joined, under the number of the first, but not over a number in ``used``: the upload has a
    part of it, and an upload can't be completed without one of its parts. Every part but the last has at least 8 MiB
    (the server wants 5).
    """
    parts: list[PlannedPart] = []
    for number, extent in _cells(size):
        is_copy = extent.start < extent.end <= source_size and not changed.within(*extent)
        last = parts[-1] if parts else None
        is_joined = (
            is_copy
            and last is not None
            and last.is_copy
            and number not in used
            and extent.end - last.extent.start <= MAX_COPY_BYTES
        )
        if is_joined and last is not None:
            parts[-1] = PlannedPart(last.number, Extent(last.extent.start, extent.end), is_copy=True)
        else:
            parts.append(PlannedPart(number, extent, is_copy))
    return parts


def complete_cells(settled_to: int, present: ExtentSet, changed: ExtentSet) -> Iterator[PlannedPart]:
    """Return the cells that can be sent while the file is written: wholly here, changed, and before ``settled_to``."""
    for number, extent in _cells(settled_to):
        if extent == cell(number) and present.covers(*extent) and changed.within(*extent):
            yield PlannedPart(number, extent, is_copy=False)


def _cells(size: int) -> Iterator[tuple[int, Extent]]:
    """Return the cells of a file, the last one cut; an empty file has one, and it is empty."""
    number = 1
    while True:
        start, end = cell(number)
        yield number, Extent(start, min(end, size))
        if end >= size:
            return
        number += 1
