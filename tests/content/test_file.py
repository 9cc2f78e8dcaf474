"""The content of one inode: any pattern of changes, commits in between, and readers that go on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from spacesfs.cache.pages import PageCache
from spacesfs.client.errors import ServerFault
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.file import KEPT_BYTES, FileFactory, OpenFile
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import FileReader, PageReader
from spacesfs.content.staging import StagingArea
from spacesfs.content.upload import Uploader
from spacesfs.errors import Conflict, NoSpace, StaleFile
from tests.memory_store import Gate, MemoryStore

MIB = 1 << 20


class Bench:
    """Files over a store in memory and a real staging directory."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.store = MemoryStore()
        self.staging = StagingArea(directory, 64 * MIB)
        budget = ByteBudget(64 * MIB)
        pages = PageReader(self.store, PageCache(64 * MIB), budget, nursery.start_soon)
        self.factory = FileFactory(self.store, self.staging, Uploader(self.store, budget), pages, ReadAheadOptions())
        self.reader: FileReader = self.factory.reader()

    def existing(self, body: bytes) -> OpenFile:
        return self.factory.existing(self.store.set("k", body))

    async def read(self, file: OpenFile, offset: int = 0, length: int = 1 << 30) -> bytes:
        return bytes(await file.read(self.reader, offset, length))


async def commit(file: OpenFile, key: str = "k") -> ObjectVersion | None:
    return await file.commit(lambda: key, ObjectProperties())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(tmp_path, nursery)


@pytest.mark.parametrize("seed", range(8))
async def test_any_pattern_of_changes(bench: Bench, seed: int) -> None:
    """Random changes against a bytearray, over a base of several pages, with a commit now and then."""
    luck = random.Random(seed)
    model = bytearray(luck.randbytes(luck.choice([0, 10, 3 * MIB])))
    file = bench.existing(bytes(model)) if model else bench.factory.new(None)
    for _ in range(40):
        step = luck.choice(["write", "write", "append", "truncate", "read", "commit"])
        offset = luck.randrange(len(model) + 100)
        if step in ("write", "append"):
            data = luck.randbytes(luck.choice([1, 4096, 300_000]))
            offset = len(model) if step == "append" else offset
            assert await file.write(offset, data) == len(data)
            model.extend(bytes(max(offset - len(model), 0)))
            model[offset : offset + len(data)] = data
        elif step == "truncate":
            await file.truncate(offset)
            model = model[:offset] + bytes(offset - len(model[:offset]))
        elif step == "commit":
            await commit(file)
            assert bench.store.body("k") == model
            assert not file.is_dirty
        length = luck.choice([1, 5000, 2 * MIB])
        assert await bench.read(file, offset, length) == model[offset : offset + length]
        assert file.size == len(model)
    await commit(file)
    assert bench.store.body("k") == model
    file.drop_staged()
    assert bench.staging.used_bytes == 0
    assert await bench.read(file) == model


async def test_a_large_file_is_edited_in_place(bench: Bench) -> None:
    body = bytearray(random.Random(3).randbytes(20 * MIB))
    file = bench.existing(bytes(body))
    await file.write(10 * MIB, b"here")
    await file.truncate(19 * MIB)
    await file.write(19 * MIB + 10, b"end")
    body = body[: 19 * MIB] + bytes(10) + b"end"
    body[10 * MIB : 10 * MIB + 4] = b"here"
    await commit(file)
    assert bench.store.body("k") == body
    assert bench.store.count()["copy_part"] == 1
    assert await bench.read(file) == body


async def test_empty_is_dirty_but_not_written(bench: Bench) -> None:
    file = bench.factory.new(None)
    assert (file.size, file.is_dirty, file.has_written) == (0, True, False)
    old = bench.existing(b"old")
    await old.clear()
    assert (old.size, old.is_dirty, old.has_written) == (0, True, False)
    await old.write(0, b"x")
    assert old.has_written
    await commit(old)
    assert (old.is_dirty, old.has_written) == (False, False)


async def test_a_clean_file_is_not_sent(bench: Bench) -> None:
    file = bench.existing(b"x")
    await file.truncate(1)
    assert await commit(file) is None
    assert file.base == bench.store.version("k")
    assert bench.store.count()["put"] == 0


async def test_commit_tells_the_version_that_is_there(bench: Bench) -> None:
    file = bench.factory.new(None)
    await file.write(0, b"bytes")
    assert await commit(file) == bench.store.version("k") == file.base
    await file.write(5, b"!")
    assert await commit(file) == ObjectVersion("k", bench.store.info("k").etag, 6)


@pytest.mark.parametrize("size", [10, 17 * MIB])
async def test_a_commit_over_another_version_is_a_conflict(bench: Bench, size: int) -> None:
    file = bench.existing(bytes(size))
    await file.write(0, b"ours")
    theirs = bench.store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await commit(file)
    assert bench.store.version("k") == theirs
    assert file.is_dirty
    assert (await bench.read(file, 0, 4)) == b"ours"


@pytest.mark.parametrize("size", [10, 17 * MIB])
async def test_a_new_file_over_somebody_elses_is_a_conflict(bench: Bench, size: int) -> None:
    file = bench.factory.new(None)
    await file.write(size - 1, b"x")
    theirs = bench.store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await commit(file)
    assert bench.store.version("k") == theirs
    assert bench.store.uploads == {}


async def test_a_failed_commit_loses_nothing(bench: Bench) -> None:
    file = bench.existing(b"old")
    await file.write(0, b"new")

    async def fail(call: str, key: str) -> None:
        if call == "put":
            raise ServerFault("out of order")

    bench.store.hook = fail
    with pytest.raises(ServerFault):
        await commit(file)
    assert (file.is_dirty, await bench.read(file)) == (True, b"new")
    bench.store.hook = Gate("nothing")
    await commit(file)
    assert bench.store.body("k") == b"new"


@pytest.mark.parametrize(("call", "size"), [("put", 10), ("complete_upload", 17 * MIB)])
@pytest.mark.parametrize("is_new", [False, True])
async def test_a_reply_that_was_lost_is_no_conflict_with_ourselves(
    bench: Bench, call: str, size: int, is_new: bool
) -> None:
    file = bench.factory.new(None) if is_new else bench.existing(b"old")
    await file.write(0, b"new" * size)

    async def lose(name: str, key: str) -> None:
        if name == call:
            raise ServerFault("the reply was lost")

    bench.store.late_hook = lose
    with pytest.raises(ServerFault):
        await commit(file)
    assert bench.store.body("k") == b"new" * size
    bench.store.late_hook = Gate("nothing")
    await file.write(0, b"more")
    await commit(file)
    assert (file.is_dirty, file.base) == (False, bench.store.version("k"))
    assert bench.store.body("k")[:6] == b"moreew"


async def test_a_commit_cancelled_when_it_had_arrived_is_no_conflict_either(bench: Bench) -> None:
    file = bench.factory.new(None)
    await file.write(0, b"new")
    bench.store.late_hook = gate = Gate("put")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit, file)
        await gate.arrived.wait()
        nursery.cancel_scope.cancel()
    bench.store.late_hook = Gate("nothing")
    await commit(file)
    assert (file.is_dirty, file.base) == (False, bench.store.version("k"))


async def test_a_full_staging_area_changes_nothing(bench: Bench) -> None:
    file = bench.existing(b"old content")
    await file.write(0, b"new")
    with pytest.raises(NoSpace):
        await file.write(0, bytes(65 * MIB))
    assert await bench.read(file) == b"new content"
    await commit(file)
    assert bench.store.body("k") == b"new content"


async def test_reading_past_the_end(bench: Bench) -> None:
    file = bench.existing(b"0123456789")
    assert await bench.read(file, 10, 5) == await bench.read(file, 1000, 5) == b""
    assert await bench.read(file, 8, 5) == b"89"
    await file.truncate(5)
    assert await bench.read(file, 3, 10) == b"34"


async def test_a_file_truncated_while_it_is_read(bench: Bench) -> None:
    file = bench.existing(b"x" * (17 * MIB))
    await file.write(0, b"y")
    bench.store.hook = gate = Gate("get_range")
    found: list[bytes] = []

    async def read() -> None:
        found.append(await bench.read(file, 0, MIB))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.fail_after(10):
            await gate.arrived.wait()
        await file.truncate(10)
        gate.opened.set()
    assert found == [b"y" + b"x" * 9]


async def test_a_first_write_that_failed_may_be_tried_again(bench: Bench) -> None:
    file = bench.existing(b"first one")

    async def fail(call: str, key: str) -> None:
        if call == "get_range":
            raise ServerFault("out of order")

    bench.store.hook = fail
    with pytest.raises(ServerFault):
        await file.write(2, b"OURS")
    assert not file.is_dirty
    bench.store.hook = Gate("nothing")
    await file.write(2, b"OURS")
    bench.store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await commit(file)
    await file.detach()
    await commit(file, "kept")
    assert bench.store.body("kept") == b"fiOURSone"


async def test_kept_bytes_outlive_their_object(bench: Bench) -> None:
    file = bench.existing(b"x" * (3 * MIB))
    await file.keep()
    bench.store.remove("k")
    assert await bench.read(file) == b"x" * (3 * MIB)
    await file.detach()
    await file.write(0, b"y")
    await commit(file, "other")
    assert bench.store.body("other")[:2] == b"yx"


async def test_what_is_large_is_not_kept(bench: Bench) -> None:
    file = bench.existing(bytes(KEPT_BYTES + 1))
    await file.keep()
    assert bench.store.count()["get_range"] == 0
    with pytest.raises(StaleFile):
        await file.detach()


async def test_a_reader_waits_for_an_object_that_is_moving(bench: Bench) -> None:
    file = bench.existing(b"bytes")
    found: list[bytes] = []

    async def read() -> None:
        found.append(await bench.read(file))

    async with trio.open_nursery() as nursery:
        with file.moving():
            bench.store.remove("k")
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert found == []
            file.base = bench.store.set("moved", b"bytes")
    assert found == [b"bytes"]
