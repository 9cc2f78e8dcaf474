"""What tests look at in a staged file."""

from __future__ import annotations

from collections.abc import Iterable

from spacesfs.content.extents import Extent
from spacesfs.content.staging import StagedFile


def content(staged: StagedFile, base: bytes = b"") -> bytes:
    """Return what a reader sees: present bytes, the others from the base version."""
    found = bytearray(b"\xaa" * staged.size)  # so that zeros are seen to be written
    for gap in staged.gaps(Extent(0, staged.size)):
        assert gap.end <= len(base), "what is not here is in the base version"
        found[gap.start : gap.end] = base[gap.start : gap.end]
    for extent in staged.present.within(0, staged.size):
        staged.read_into(extent.start, memoryview(found)[extent.start : extent.end])
    return bytes(found)


def mask(extents: Iterable[Extent], size: int) -> bytearray:
    """Return a byte for each of the file: 1 where it is in an extent."""
    marks = bytearray(size)
    for extent in extents:
        marks[extent.start : extent.end] = b"\1" * extent.length
    return marks
