"""Staged files against a plain bytearray, on a real directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spacesfs.content.extents import Extent
from spacesfs.content.staging import StagedFile, StagingArea
from spacesfs.errors import NoSpace

CAP = 400
OFFSETS = st.integers(0, 120)
PIECES = st.binary(min_size=1, max_size=60)


def content(staged: StagedFile, base: bytes) -> bytes:
    """Return what a reader sees: present bytes from the disk, the others from the base version."""
    found = bytearray(staged.size)
    for gap in staged.gaps(Extent(0, staged.size)):
        found[gap.start : gap.end] = base[gap.start : gap.end]
    for extent in staged.present.within(0, staged.size):
        staged.read_into(extent.start, memoryview(found)[extent.start : extent.end])
    return bytes(found)


class StagedMachine(RuleBasedStateMachine):
    """Two staged files share one area; one of them has a base version, and each a model of its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._home = tempfile.TemporaryDirectory()
        self.area = StagingArea(Path(self._home.name), CAP)

    @initialize(base=st.binary(max_size=100))
    def open(self, base: bytes) -> None:
        self.bases = [base, b""]
        self.staged = [self.area.create(len(base)), self.area.create()]
        self.models = [bytearray(base), bytearray()]
        self.dirty: list[set[int]] = [set(), set()]

    @rule(which=st.integers(0, 1), offset=OFFSETS, data=PIECES)
    def write(self, which: int, offset: int, data: bytes) -> None:
        before = self.seen(which)
        try:
            self.staged[which].write(offset, data)
        except NoSpace:
            assert self.seen(which) == before
            return
        model = self.models[which]
        self.dirty[which].update(range(min(offset, len(model)), offset), range(offset, offset + len(data)))
        model.extend(bytes(max(offset - len(model), 0)))
        model[offset : offset + len(data)] = data

    @rule(which=st.integers(0, 1), size=OFFSETS)
    def truncate(self, which: int, size: int) -> None:
        self.staged[which].truncate(size)
        model = self.models[which]
        self.dirty[which].update(range(len(model), size))
        self.dirty[which] = {byte for byte in self.dirty[which] if byte < size}
        model.extend(bytes(max(size - len(model), 0)))
        del model[size:]

    @rule(which=st.integers(0, 1), start=OFFSETS, length=st.integers(1, 60))
    def fill(self, which: int, start: int, length: int) -> None:
        before = self.seen(which)
        try:
            for gap in self.staged[which].gaps(Extent(start, min(start + length, self.staged[which].size))):
                self.staged[which].fill(gap.start, self.bases[which][gap.start : gap.end])
        except NoSpace:
            pass
        assert self.seen(which)[:3] == before[:3]

    @rule(which=st.integers(0, 1))
    def commit(self, which: int) -> None:
        self.bases[which] = bytes(self.models[which])
        self.staged[which].dirty.clear()
        self.dirty[which].clear()

    @invariant()
    def same_bytes(self) -> None:
        for number, staged in enumerate(getattr(self, "staged", ())):
            staged.check_invariants()
            assert content(staged, self.bases[number]) == self.models[number]
            assert {byte for extent in staged.dirty for byte in range(*extent)} == self.dirty[number]

    @invariant()
    def the_cap_holds(self) -> None:
        assert 0 <= self.area.used_bytes <= CAP

    def seen(self, which: int) -> tuple[bytes, int, list[Extent], list[Extent], int]:
        staged = self.staged[which]
        shown = content(staged, self.bases[which])
        return shown, staged.size, list(staged.dirty), list(staged.present), self.area.used_bytes

    def teardown(self) -> None:
        for staged in getattr(self, "staged", ()):
            staged.close()
        assert self.area.used_bytes == 0
        self._home.cleanup()


TestStagedFile = StagedMachine.TestCase
TestStagedFile.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def area(tmp_path: Path) -> StagingArea:
    return StagingArea(tmp_path, CAP)


def test_nothing_has_a_name(area: StagingArea, tmp_path: Path) -> None:
    staged = area.create()
    staged.write(0, b"secret")
    assert list(tmp_path.iterdir()) == []
    staged.close()


def test_the_cap_is_shared(area: StagingArea) -> None:
    first, second = area.create(), area.create()
    first.write(0, bytes(CAP - 10))
    second.write(0, bytes(10))
    with pytest.raises(NoSpace):
        second.write(10, b"x")
    second.write(5, b"over what is there costs nothing"[:5])
    first.truncate(CAP - 11)
    second.write(10, b"x")
    first.close()
    second.close()
    assert area.used_bytes == 0


def test_holes_are_free(area: StagingArea) -> None:
    staged = area.create()
    staged.truncate(1 << 40)
    staged.write(1 << 39, b"middle")
    assert area.used_bytes == 6
    buffer = bytearray(b"." * 8)
    staged.read_into((1 << 39) - 1, memoryview(buffer))
    assert buffer == b"\0middle\0"
    staged.read_into((1 << 40) - 8, memoryview(buffer))
    assert buffer == bytes(8)
    staged.close()


def test_what_was_cut_off_does_not_come_back(area: StagingArea) -> None:
    staged = area.create(100)
    staged.write(10, b"x" * 50)
    staged.truncate(20)
    staged.truncate(100)
    assert staged.gaps(Extent(0, 100)) == [Extent(0, 10)]
    assert content(staged, b"b" * 100) == b"b" * 10 + b"x" * 10 + bytes(80)
    staged.close()


def test_a_closed_file_frees_its_descriptor(area: StagingArea) -> None:
    before = len(os.listdir("/proc/self/fd"))
    staged = area.create()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    staged.close()
    assert len(os.listdir("/proc/self/fd")) == before
