"""Staged files against plain bytes: any changes, records, sendings and crashes, on a real directory."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.records import ContentRecord
from spacesfs.content.staging import StagedFile, StagingArea
from spacesfs.errors import NoSpace
from tests.content.staged_bytes import content, mask

CAP = 250_000
OFFSETS = st.one_of(st.integers(0, 60_000), st.sampled_from([0, 4096, 8192, 10_000, 20_000, 40_960]))
LENGTHS = st.one_of(st.integers(1, 25_000), st.sampled_from([1, 4096, 10_000, 20_000]))
WHICH = st.integers(0, 1)


class Model:
    """What one staged file should be, and what the journal knows of it."""

    def __init__(self, staged: StagedFile, base: bytes) -> None:
        self.staged = staged
        self.base = base
        self.body = bytearray(base)
        self.dirty = bytearray(len(base))  # 1 for each dirty byte
        self.sending: tuple[int, bytes, bytearray] | None = None
        self.told = (0, 0)
        self.record: ContentRecord | None = None
        self.recorded = b""
        self.recorded_base = b""
        self.later: list[tuple[int, bytes]] = []
        self.watch(staged)

    def watch(self, staged: StagedFile) -> None:
        self.staged = staged
        staged.on_change = self._tell

    def _tell(self, start: int, end: int) -> None:
        self.told = (start, end)

    def commit(self, record: ContentRecord) -> None:
        self.record, self.recorded, self.recorded_base = record, bytes(self.body), self.base
        self.later = []

    def resize(self, size: int) -> None:
        grown = max(size - len(self.body), 0)
        self.body.extend(bytes(grown))
        self.dirty.extend(b"\1" * grown)
        del self.body[size:], self.dirty[size:]
        if self.sending:
            del self.sending[2][size:]

    def may_be_found(self, body: bytes) -> bool:
        """Say whether each byte is the recorded one or one that was written later."""
        return len(body) == len(self.recorded) and all(
            found == recorded
            or any(start <= at < start + len(data) and data[at - start] == found for start, data in self.later)
            for at, (found, recorded) in enumerate(zip(body, self.recorded, strict=True))
        )


class StagedMachine(RuleBasedStateMachine):
    """Two staged files share one area; the first was made from an object, the second is new."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes = [
            patch("spacesfs.content.staged.INLINE_BYTES", 10_000),
            patch("spacesfs.content.gathered.GATHER_BYTES", 20_000),
        ]
        for size in self._sizes:
            size.start()
        self._homes = [tempfile.TemporaryDirectory()]
        self._numbers = itertools.count(1)
        self.area = self.make_area()

    def make_area(self) -> StagingArea:
        return StagingArea(Path(self._homes[-1].name), CAP, lambda: next(self._numbers), 0.0, lambda _: None)

    @initialize(size=OFFSETS)
    def open(self, size: int) -> None:
        base = bytes(range(1, 251)) * (size // 250)
        self.files = [Model(self.area.create(len(base)), base), Model(self.area.create(), b"")]

    @rule(which=WHICH, offset=OFFSETS, length=LENGTHS, byte=st.integers(0, 255))
    def write(self, which: int, offset: int, length: int, byte: int) -> None:
        file, data = self.files[which], bytes([byte]) * length
        before = bytes(file.body)
        try:
            file.staged.write(offset, data)
        except NoSpace:
            assert self.seen(file) == before
            return
        file.later.append((offset, data))
        file.resize(max(offset, len(file.body)))
        file.body[offset : offset + length] = data
        file.dirty[offset : offset + length] = b"\1" * length
        self.was_told(file, before)

    @rule(which=WHICH, length=LENGTHS, byte=st.integers(0, 255))
    def append(self, which: int, length: int, byte: int) -> None:
        if len(self.files[which].body) < 100_000:
            self.write(which, len(self.files[which].body), length, byte)

    @rule(which=WHICH, size=OFFSETS)
    def truncate(self, which: int, size: int) -> None:
        file = self.files[which]
        before = bytes(file.body)
        try:
            file.staged.truncate(size)
        except NoSpace:
            assert self.seen(file) == before
            return
        file.resize(size)
        self.was_told(file, before)

    @rule(which=WHICH, start=OFFSETS, length=LENGTHS)
    def fill(self, which: int, start: int, length: int) -> None:
        file = self.files[which]
        changes = file.staged.changes
        try:
            for gap in file.staged.gaps(Extent(start, max(start, min(start + length, file.staged.size)))):
                file.staged.fill(gap.start, file.base[gap.start : gap.end])
        except NoSpace:
            pass
        assert file.staged.changes == changes

    @rule(which=WHICH)
    def make_durable(self, which: int) -> None:
        try:
            self.files[which].commit(trio.run(self.files[which].staged.make_durable))
        except NoSpace:
            return

    @rule(which=WHICH)
    def trim(self, which: int) -> None:
        file = self.files[which]
        if file.record is not None:
            file.staged.trim(file.record)

    @rule(which=WHICH, size=OFFSETS)
    def truncate_and_trim(self, which: int, size: int) -> None:
        """A cut that the journal has not learned of, when something else of the file is committed."""
        self.truncate(which, size)
        self.trim(which)

    @rule(which=WHICH)
    def close(self, which: int) -> None:
        self.files[which].staged.close()

    @rule(which=WHICH)
    def begin_sending(self, which: int) -> None:
        file = self.files[which]
        if file.sending is None:
            file.sending = (file.staged.begin_sending(), bytes(file.body), file.dirty)
            file.dirty = bytearray(len(file.body))

    @rule(which=WHICH, is_sent=st.booleans())
    def end_sending(self, which: int, is_sent: bool) -> None:
        file = self.files[which]
        if file.sending is None:
            return
        token, body, dirty = file.sending
        file.sending = None
        if is_sent:
            file.staged.sent(token)
            file.base = body
            file.commit(file.staged.record())  # the journal learns of the new source and of what differs in one step
            return
        file.staged.not_sent(token)
        for at, was_dirty in enumerate(dirty):
            file.dirty[at] |= was_dirty

    @rule(which=WHICH, start=OFFSETS, length=LENGTHS)
    def let_go(self, which: int, start: int, length: int) -> None:
        file = self.files[which]
        changed = ExtentSet()
        for extent in file.staged.record().dirty:
            changed.add(*extent)
        for clean in changed.gaps(start, max(start, min(start + length, file.staged.size))):
            file.staged.let_go(clean)

    @rule()
    def crash(self) -> None:
        """Begin anew from the last records and the files as they are; what was only gathered in memory is gone."""
        old = self._homes[-1]
        self._homes.append(tempfile.TemporaryDirectory())
        shutil.copytree(old.name, self._homes[-1].name, dirs_exist_ok=True)
        for file in self.files:
            file.staged.delete()
        assert self.area.used_bytes == 0
        assert list(Path(old.name).iterdir()) == []
        self.area = self.make_area()
        known = [file.record.number for file in self.files if file.record is not None]
        self.area.sweep(known)
        for file in self.files:
            if file.record is None:
                file.__init__(self.area.create(len(file.base)), file.base)  # type: ignore[misc]
                continue
            file.watch(self.area.restore(file.record))
            file.base, file.sending = file.recorded_base, None
            found = content(file.staged, file.base)
            assert file.may_be_found(found)
            file.body = bytearray(found)
            file.dirty = mask((*file.record.dirty, *file.record.written), len(found))
            file.commit(file.record)

    @invariant()
    def same_bytes(self) -> None:
        for file in getattr(self, "files", ()):
            file.staged.check_invariants()
            assert self.seen(file) == file.body
            assert mask(file.staged.dirty, len(file.body)) == file.dirty

    @invariant()
    def the_cap_holds(self) -> None:
        assert 0 <= self.area.used_bytes <= CAP

    def seen(self, file: Model) -> bytes:
        return content(file.staged, file.base)

    def was_told(self, file: Model, before: bytes) -> None:
        """Assert that all that differs lies within what `on_change` told."""
        start, end = file.told
        assert file.body[:start] == before[:start]
        assert file.body[end:] == before[end:]
        assert end >= max(len(before), len(file.body)) or len(before) == len(file.body)

    def teardown(self) -> None:
        for file in getattr(self, "files", ()):
            file.staged.delete()
        assert self.area.used_bytes == 0
        for home in self._homes:
            assert list(Path(home.name).iterdir()) == [] or home is not self._homes[-1]
            home.cleanup()
        for size in self._sizes:
            size.stop()


TestStagedFile = StagedMachine.TestCase
TestStagedFile.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
