"""The staging area and its files, on a real directory."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spacesfs.content.backing import WRITEBACK_BYTES
from spacesfs.content.extents import Extent
from spacesfs.content.gathered import GATHER_BYTES
from spacesfs.content.records import ContentRecord
from spacesfs.content.staged import INLINE_BYTES
from spacesfs.content.staging import StagedFile, StagedFileLost, StagingArea
from spacesfs.errors import NoSpace
from tests.content.staged_bytes import content

MIB = 1 << 20
CAP = 256 * MIB


class Disk:
    """A directory for staged files, areas over it, and the system calls they make."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.nursery = nursery
        self.numbers = itertools.count(1)
        self.written_back = trio.Event()
        self.area = self.open()

    def open(self, limit_bytes: int = CAP, wait_seconds: float = 30) -> StagingArea:
        def spawn(run: Callable[[], Awaitable[None]]) -> None:
            self.nursery.start_soon(self._write_back, run)

        return StagingArea(self.directory, limit_bytes, lambda: next(self.numbers), wait_seconds, spawn)

    async def _write_back(self, run: Callable[[], Awaitable[None]]) -> None:
        await run()
        self.written_back.set()

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def used_bytes(self) -> int:
        os.sync()  # blocks are given out when they are written
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    async with trio.open_nursery() as nursery:
        yield Disk(tmp_path, nursery)


class Calls:
    """Counts the writes that reach the disk, and fails them when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.syncs = 0
        self.error = 0
        monkeypatch.setattr(os, "pwritev", self._pwritev)
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)

    def _pwritev(
        self, descriptor: int, views: Sequence[memoryview], offset: int, real: Callable[..., int] = os.pwritev
    ) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.sizes.append(sum(map(len, views)))
        return real(descriptor, views, offset)

    def _fdatasync(self, descriptor: int, real: Callable[[int], None] = os.fdatasync) -> None:
        self.syncs += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        real(descriptor)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


# --- small contents


async def test_a_small_content_has_no_file(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, b"x" * INLINE_BYTES)
    record = await staged.make_durable()
    assert record == ContentRecord(1, INLINE_BYTES, b"x" * INLINE_BYTES, (), (whole(staged),), (whole(staged),))
    assert disk.names() == []
    assert disk.area.used_bytes == INLINE_BYTES
    staged.write(INLINE_BYTES, b"y")
    assert (await staged.make_durable()).inline is None
    assert disk.names() == ["1"]
    assert (disk.directory / "1").stat().st_mode & 0o777 == 0o600
    assert content(staged) == b"x" * INLINE_BYTES + b"y"
    staged.delete()
    assert (disk.names(), disk.area.used_bytes) == ([], 0)


async def test_a_small_source_is_filled_in_memory(disk: Disk) -> None:
    staged = disk.area.create(100)
    staged.write(50, b"new")
    for gap in staged.gaps(Extent(0, 100)):
        staged.fill(gap.start, b"s" * gap.length)
    record = staged.record()
    assert record.inline == b"s" * 50 + b"new" + b"s" * 47
    assert record.dirty == (Extent(50, 53),)
    assert disk.names() == []


async def test_a_small_source_in_part_goes_to_a_file(disk: Disk) -> None:
    staged = disk.area.create(100)
    staged.write(10, b"a")
    staged.write(50, b"b")
    record = await staged.make_durable()
    assert (record.inline, record.present) == (None, (Extent(10, 11), Extent(50, 51)))
    found = disk.open().restore(record)
    assert content(found, b"s" * 100) == b"s" * 10 + b"a" + b"s" * 39 + b"b" + b"s" * 49


async def test_an_emptied_file_is_small_again_and_its_record_lives_on(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, b"o" * MIB)
    old = await staged.make_durable()
    staged.truncate(0)
    staged.write(0, b"new")
    assert content(disk.open().restore(old)) == b"o" * MIB
    new = await staged.make_durable()
    assert new.inline == b"new"
    staged.trim(old)
    assert disk.names() == ["1"]
    staged.trim(new)
    assert (disk.names(), disk.area.used_bytes) == ([], 3)
    staged.write(0, b"n" * MIB)
    assert content(disk.open().restore(await staged.make_durable())) == b"n" * MIB


# --- gathering


async def test_small_writes_reach_the_disk_in_large_pieces(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    body = random.Random(1).randbytes(4 * MIB)
    for offset in range(0, len(body), 4096):
        staged.write(offset, body[offset : offset + 4096])
        assert whole(staged) in staged.present
    assert calls.sizes == [GATHER_BYTES] * 4
    assert content(staged) == body


async def test_large_writes_are_one_call_each(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    piece = memoryview(bytes(MIB))
    with patch.object(trio.to_thread, "run_sync", side_effect=AssertionError("a hop to a thread")):
        for offset in range(0, 4 * MIB, MIB):
            staged.write(offset, piece)
    staged.write(4 * MIB, b"ten bytes!")
    staged.write(4 * MIB + 10, piece)
    assert calls.sizes == [MIB] * 4 + [MIB + 10]


async def test_gathered_bytes_are_read_and_overwritten(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    body = bytearray(b"a" * 100_000)
    staged.write(0, bytes(body))
    for offset, data in ((5, b"five"), (99_999, b"end"), (0, b"begin")):
        staged.write(offset, data)
        body[offset : offset + len(data)] = data
    assert content(staged) == body
    aside = memoryview(bytearray(50_000))
    await staged.read_aside(60_000 - 9_998, aside)
    assert aside == body[50_002:]
    assert len(calls.sizes) <= 2


async def test_a_full_disk_loses_nothing_that_was_written(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    staged.write(0, b"a" * 300_000)
    calls.error = errno.ENOSPC
    kept = []
    for refused in (lambda: staged.write(0, bytes(MIB)), lambda: staged.write(300_000, bytes(MIB)), staged.record):
        with pytest.raises(NoSpace) as failure:
            refused()
        kept.append(failure.value)  # as a file keeps the error for its next close
    calls.error = 0
    staged.write(300_000, b"b")
    assert content(staged) == b"a" * 300_000 + b"b"
    staged.check_invariants()
    staged.delete()
    assert disk.area.used_bytes == 0


# --- durability


async def test_only_what_came_is_synced(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    await staged.make_durable()
    assert calls.syncs == 0
    staged.write(0, bytes(MIB))
    await staged.make_durable()
    await staged.make_durable()
    assert calls.syncs == 1
    staged.write(5, b"x")
    await staged.make_durable()
    assert calls.syncs == 2


async def test_many_bytes_go_to_the_disk_before_they_are_asked_for(disk: Disk, calls: Calls) -> None:
    staged = disk.area.create()
    for offset in range(0, 3 * WRITEBACK_BYTES, MIB):
        staged.write(offset, bytes(MIB))
        await trio.lowlevel.checkpoint()
    await disk.written_back.wait()
    assert calls.syncs >= 1
    staged.delete()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, OSError)])
async def test_bytes_lost_by_the_disk_are_never_called_durable(
    disk: Disk, calls: Calls, number: int, kind: type[Exception]
) -> None:
    staged = disk.area.create()
    for offset in range(0, WRITEBACK_BYTES, MIB):
        staged.write(offset, bytes(MIB))
    calls.error = number  # found in the background: the kernel tells it once
    await disk.written_back.wait()
    calls.error = 0
    for _ in range(2):
        with pytest.raises(kind):
            await staged.make_durable()
    staged.delete()


async def test_bytes_written_during_a_sync_are_in_the_next_record(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, b"a" * MIB)
    async with trio.open_nursery() as nursery:
        records: list[ContentRecord] = []

        async def make_durable() -> None:
            records.append(await staged.make_durable())

        nursery.start_soon(make_durable)
        await wait_all_tasks_blocked()
        staged.write(MIB, b"b")
        await wait_all_tasks_blocked()
    assert records[0].size == MIB or len(records) == 1
    assert (await staged.make_durable()).size == MIB + 1


# --- after a crash


async def test_a_cut_that_was_not_recorded_did_not_happen(disk: Disk) -> None:
    staged = disk.area.create()
    body = random.Random(2).randbytes(3 * MIB)
    staged.write(0, body)
    record = await staged.make_durable()
    staged.truncate(0)
    staged.truncate(4 * MIB)
    staged.trim(record)
    assert content(staged) == bytes(4 * MIB)
    assert content(disk.open().restore(record)) == body
    cut = await staged.make_durable()
    staged.trim(cut)
    assert disk.used_bytes() == 0
    assert content(disk.open().restore(cut)) == bytes(4 * MIB)


async def test_what_was_let_go_is_there_until_the_journal_knows(disk: Disk) -> None:
    staged = disk.area.create()
    body = random.Random(3).randbytes(8 * MIB)
    staged.write(0, body)
    staged.sent(staged.begin_sending())
    record = await staged.make_durable()
    held = disk.used_bytes()
    staged.let_go(Extent(MIB, 7 * MIB))
    assert content(staged, body) == body
    staged.trim(record)
    assert disk.used_bytes() == held
    assert content(disk.open().restore(record)) == body
    later = await staged.make_durable()
    staged.trim(later)
    assert disk.used_bytes() <= held - 6 * MIB
    assert disk.area.used_bytes == 2 * MIB
    found = disk.open().restore(later)
    assert found.gaps(Extent(0, 8 * MIB)) == [Extent(MIB, 7 * MIB)]
    assert content(found, body) == body


async def test_dirty_bytes_are_not_let_go(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, bytes(MIB))
    with pytest.raises(AssertionError):
        staged.let_go(Extent(0, MIB))
    token = staged.begin_sending()
    staged.let_go(Extent(0, MIB // 2))
    assert staged.only_in_upload(Extent(0, MIB)) == [Extent(0, MIB // 2)]
    assert staged.record().dirty == (Extent(0, MIB),)
    staged.not_sent(token)
    assert staged.only_in_upload(Extent(0, MIB)) == [Extent(0, MIB // 2)]


async def test_bytes_after_the_record_are_freed_by_a_restart(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, b"a" * MIB)
    staged.write(3 * MIB, b"c" * MIB)
    record = await staged.make_durable()
    staged.write(MIB, b"b" * MIB)
    staged.write(4 * MIB, b"d" * 8 * MIB)
    staged.close()
    area = disk.open()
    found = area.restore(record)
    assert area.used_bytes == disk.used_bytes() == 2 * MIB
    assert content(found) == b"a" * MIB + bytes(2 * MIB) + b"c" * MIB


async def test_a_lost_file_is_said_to_be_lost(disk: Disk) -> None:
    staged = disk.area.create()
    staged.write(0, b"a" * MIB)
    record = await staged.make_durable()
    os.truncate(disk.directory / "1", MIB - 1)
    with pytest.raises(StagedFileLost):
        disk.open().restore(record)
    (disk.directory / "1").unlink()
    with pytest.raises(StagedFileLost):
        disk.open().restore(record)


async def test_files_that_nobody_knows_are_swept(disk: Disk) -> None:
    for name in ("7", "8", "journal.db"):
        (disk.directory / name).write_bytes(b"x")
    live = disk.area.create()
    live.write(0, bytes(MIB))
    assert disk.area.sweep({8}) == [7]
    assert disk.names() == ["1", "8", "journal.db"]


# --- limits


async def test_the_cap_is_shared_and_has_a_reserve(disk: Disk) -> None:
    area = disk.open(16 * MIB)
    first, second = area.create(), area.create()
    first.write(0, bytes(14 * MIB))
    second.write(0, bytes(MIB))
    with pytest.raises(NoSpace):
        second.write(MIB, bytes(1))
    assert second.size == MIB
    second.write(5, b"over what is there costs nothing")
    source = area.create(MIB)
    source.fill(0, bytes(MIB))  # a rename brings bytes here, and must not wait for those who wait for it
    with pytest.raises(NoSpace):
        area.create(1)
    for staged in (first, second, source):
        staged.delete()
    assert area.used_bytes == 0


async def test_writers_wait_for_room(disk: Disk, autojump_clock: MockClock) -> None:
    area = disk.open(16 * MIB, wait_seconds=30)
    staged = [area.create() for _ in range(15)]
    for each in staged:
        each.write(0, bytes(MIB))
    done: list[int] = []

    async def write(number: int) -> None:
        await area.wait_for_room(MIB)
        extra = area.create()
        extra.write(0, bytes(MIB))
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(write, number)
        for freed in range(3):
            await trio.sleep(20)  # each time something is freed the patience begins anew
            assert len(done) == freed
            staged.pop().delete()
    assert len(done) == 3
    with pytest.raises(NoSpace):
        await area.wait_for_room(MIB)
    with pytest.raises(NoSpace):
        await area.wait_for_room(16 * MIB)


async def test_holes_are_free(disk: Disk) -> None:
    staged = disk.area.create()
    staged.truncate(1 << 40)
    staged.write(1 << 39, b"middle")
    assert disk.area.used_bytes == 4096  # a block
    buffer = bytearray(b"." * 8)
    staged.read_into((1 << 39) - 1, memoryview(buffer))
    assert buffer == b"\0middle\0"


async def test_only_so_many_descriptors_are_open(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.area._descriptors, "_limit", 3)  # noqa: SLF001 - 500 files would take long
    before = len(os.listdir("/proc/self/fd"))
    files = [disk.area.create() for _ in range(10)]
    for number, staged in enumerate(files):
        staged.write(0, bytes([number]) * MIB)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    assert [content(staged)[:1] for staged in files] == [bytes([number]) for number in range(10)]
    for staged in files:
        staged.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert content(files[0])[:1] == b"\0"


async def test_a_file_may_be_deleted_while_it_is_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    is_deleted = threading.Event()

    def read(*arguments: object, real: Callable[..., int] = os.preadv) -> int:
        assert is_deleted.wait(30)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", read)
    staged = disk.area.create()
    staged.write(0, b"r" * 4 * MIB)
    buffer = memoryview(bytearray(4 * MIB))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(staged.read_aside, 0, buffer)
        await wait_all_tasks_blocked()
        staged.delete()
        is_deleted.set()
    assert buffer == b"r" * 4 * MIB


def whole(staged: StagedFile) -> Extent:
    return Extent(0, staged.size)


async def test_a_larger_cap_lets_who_waits_go_on_and_a_smaller_one_stops_writers(
    disk: Disk, autojump_clock: MockClock
) -> None:
    area = disk.open(limit_bytes=16 * MIB)
    area.take(15 * MIB)

    async def grow() -> None:
        await wait_all_tasks_blocked()
        area.resize(64 * MIB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(grow)
        await area.wait_for_room(8 * MIB)
    area.take(8 * MIB)
    area.resize(16 * MIB)
    with pytest.raises(NoSpace):
        area.take(1)
    with pytest.raises(NoSpace):
        await area.wait_for_room(1)
    area.give(23 * MIB)
    area.take(1)
