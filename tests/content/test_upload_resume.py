"""Uploads that go on after a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spacesfs.client.errors import ServerFault
from spacesfs.content.extents import Extent
from spacesfs.content.records import UploadRecord
from spacesfs.content.upload import OnlyInUpload
from tests.content.uploading import BODY, CELL, MIB, OLD, MemoryBench

Make = Callable[..., MemoryBench]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_bench(base: bytes = b"", budget_bytes: int = 4 * CELL) -> MemoryBench:
        return MemoryBench(tmp_path, base, budget_bytes)

    return make_bench


@pytest.fixture
def bench(make: Make) -> MemoryBench:
    made = make()
    made.write(0, BODY)
    return made


async def test_an_upload_is_resumed(bench: MemoryBench) -> None:
    await bench.pump()
    content = await bench.staged.make_durable()
    record = bench.journal.records[1]
    assert record == bench.upload.record()
    bench.restart(content)
    await bench.upload.resume(record, bench.listed(), bench.source, None)
    assert bench.has_all(Extent(0, 5 * CELL))
    await bench.finish()
    assert bench.memory.body("k") == BODY
    assert bench.memory.count()["upload_part"] == 6
    assert bench.is_clean()


async def test_parts_that_the_journal_missed_are_found(bench: MemoryBench) -> None:
    await bench.pump()
    record = bench.journal.records[1]
    bench.restart(await bench.staged.make_durable())
    without = UploadRecord(record.key, record.content, record.upload_id, record.started)
    await bench.upload.resume(without, bench.listed(), bench.source, None)
    await bench.finish()
    assert bench.memory.count()["upload_part"] == 6
    assert bench.memory.body("k") == BODY


async def test_parts_changed_before_the_crash_are_sent_again(bench: MemoryBench) -> None:
    await bench.pump()
    content = await bench.staged.make_durable()
    bench.write(2 * CELL, bytes(MIB))  # reaches the file, and no record
    bench.restart(content)
    await bench.upload.resume(bench.journal.records[1], bench.listed(), bench.source, None)
    assert not bench.has_all(Extent(2 * CELL, 3 * CELL))
    await bench.finish()
    assert bench.memory.body("k") == bench.body()
    assert bench.memory.count()["upload_part"] == 5 + 2


async def test_parts_that_were_let_go_are_believed(bench: MemoryBench) -> None:
    await bench.pump()
    bench.token = bench.staged.begin_sending()
    bench.staged.let_go(Extent(CELL, 4 * CELL))
    content = await bench.staged.make_durable()
    bench.staged.trim(content)
    bench.restart(content)
    bench.token = 0
    await bench.upload.resume(bench.journal.records[1], bench.listed(), bench.source, None)
    assert bench.staged.only_in_upload(Extent(0, 5 * CELL)) == [Extent(CELL, 4 * CELL)]
    assert bench.has_all(Extent(CELL, 4 * CELL))
    await bench.finish()
    assert bench.memory.body("k") == BODY
    assert bench.memory.count()["upload_part"] == 6


async def test_copies_are_resumed(make: Make) -> None:
    bench = make(OLD)
    bench.write(5, b"patch")

    async def fail() -> None:
        raise ServerFault("away")

    bench.when_checked = fail
    with pytest.raises(ServerFault):
        await bench.finish()
    bench.restart(await bench.staged.make_durable())
    bench.write(15 * CELL, b"and now this")
    await bench.upload.resume(bench.journal.records[1], bench.listed(), bench.source, bench.base)
    bench.when_checked = None
    await bench.finish()
    assert bench.memory.body("k") == bench.body(OLD)
    assert bench.memory.count()["copy_part"] == 1 + 2
    assert bench.is_clean()


async def test_a_part_of_a_change_that_was_lost_is_no_hindrance(make: Make) -> None:
    bench = make(OLD)
    bench.write(5, b"recorded")
    content = await bench.staged.make_durable()
    bench.write(10 * CELL, b"not recorded")

    async def fail() -> None:
        raise ServerFault("away")

    bench.when_checked = fail
    with pytest.raises(ServerFault):
        await bench.finish()
    bench.restart(content)
    await bench.upload.resume(bench.journal.records[1], bench.listed(), bench.source, bench.base)
    bench.when_checked = None
    await bench.finish()
    assert bench.memory.body("k") == OLD[:5] + b"recorded" + OLD[13:]
    assert bench.memory.count()["create_upload"] == 1
    assert bench.is_clean()


@pytest.mark.parametrize("how", ["cut", "vanished"])
async def test_an_upload_that_has_the_only_copy_is_not_thrown_away(bench: MemoryBench, how: str) -> None:
    await bench.pump()
    bench.token = bench.staged.begin_sending()
    bench.staged.let_go(Extent(CELL, 2 * CELL))
    if how == "cut":
        bench.staged.truncate(4 * CELL)
    else:
        bench.memory.uploads.clear()
    with pytest.raises(OnlyInUpload):
        await bench.finish()
    assert bench.memory.count()["abort_upload"] == 0
    assert bench.memory.names() == []
