"""The content of one inode: any pattern of changes, and readers that go on."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from spacesfs.cache.pages import PageCache
from spacesfs.client.errors import ServerFault
from spacesfs.content.budget import ByteBudget
from spacesfs.content.content import Contents
from spacesfs.content.file import KEPT_BYTES, FileFactory, OpenFile
from spacesfs.content.filereader import FileReader
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import PageReader
from spacesfs.content.staging import StagingArea
from spacesfs.errors import NoSpace, StaleFile
from tests.memory_store import Gate, MemoryStore

MIB = 1 << 20


async def _no_journal(_: int) -> bytes:
    raise AssertionError("nothing is left by an earlier process")


class Bench:
    """Files over a store in memory and a real staging directory."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.store = MemoryStore()
        numbers = itertools.count(1)
        self.staging = StagingArea(directory, 64 * MIB, lambda: next(numbers), 0.0, nursery.start_soon)
        pages = PageReader(self.store, PageCache(64 * MIB), ByteBudget(64 * MIB), nursery.start_soon)
        self.wanted: set[int] = set()
        contents = Contents(
            self.store,
            self.staging,
            self.wanted.__contains__,
            _no_journal,
            lambda _, delete: delete() if delete is not None else None,
            idle_bytes=MIB,
        )
        self.factory = FileFactory(contents, pages, ReadAheadOptions())
        self.reader: FileReader = self.factory.reader()

    def existing(self, body: bytes) -> OpenFile:
        return self.factory.existing(self.store.set("k", body))

    async def read(self, file: OpenFile, offset: int = 0, length: int = 1 << 30) -> bytes:
        return bytes(await file.read(self.reader, offset, length))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(tmp_path, nursery)


@pytest.mark.parametrize("seed", range(8))
async def test_any_pattern_of_changes(bench: Bench, seed: int) -> None:
    """Random changes against a bytearray, over a base of several pages, emptied now and then."""
    luck = random.Random(seed)
    model = bytearray(luck.randbytes(luck.choice([0, 10, 3 * MIB])))
    file = bench.existing(bytes(model)) if model else bench.factory.new()
    for _ in range(40):
        step = luck.choice(["write", "write", "append", "truncate", "read", "clear"])
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
        elif step == "clear":
            await file.clear()
            model.clear()
            assert not file.has_written
        length = luck.choice([1, 5000, 2 * MIB])
        assert await bench.read(file, offset, length) == model[offset : offset + length]
        assert file.size == len(model)
    file.close()
    assert bench.staging.used_bytes == 0


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


async def test_what_is_large_is_not_kept(bench: Bench) -> None:
    file = bench.existing(bytes(KEPT_BYTES + 1))
    await file.keep()
    assert bench.store.count()["get_range"] == 0
    assert file.content is None


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


async def test_a_small_file_is_brought_here_whole_by_its_first_change(bench: Bench) -> None:
    file = bench.existing(b"first one")
    await file.write(2, b"OURS")
    bench.store.set("k", b"theirs")
    assert await bench.read(file) == b"fiOURSone"
    assert (file.is_saved, file.has_written) == (False, True)


async def test_of_a_large_file_only_the_change_is_here(bench: Bench) -> None:
    file = bench.existing(bytes(20 * MIB))
    await file.write(10 * MIB, b"here")
    assert bench.store.count()["get_range"] == 0
    assert bench.staging.used_bytes < MIB
    assert await bench.read(file, 10 * MIB - 1, 6) == b"\0here\0"


async def test_a_first_write_that_failed_may_be_tried_again(bench: Bench) -> None:
    file = bench.existing(b"first one")

    async def fail(call: str, key: str) -> None:
        if call == "get_range":
            raise ServerFault("out of order")

    bench.store.hook = fail
    with pytest.raises(ServerFault):
        await file.write(2, b"OURS")
    assert (file.is_saved, bench.staging.used_bytes) == (True, 0)
    bench.store.hook = Gate("nothing")
    await file.write(2, b"OURS")
    assert await bench.read(file) == b"fiOURSone"


async def test_a_full_staging_area_changes_nothing(bench: Bench) -> None:
    file = bench.existing(b"old content")
    await file.write(0, b"new")
    with pytest.raises(NoSpace):
        await file.write(0, bytes(65 * MIB))
    assert await bench.read(file) == b"new content"


async def test_kept_bytes_outlive_their_object(bench: Bench) -> None:
    file = bench.existing(b"x" * (3 * MIB))
    await file.keep()
    bench.store.remove("k")
    assert await bench.read(file) == b"x" * (3 * MIB)
    assert file.is_saved


async def test_another_version_is_stale(bench: Bench) -> None:
    file = bench.existing(b"first")
    bench.store.set("k", b"second")
    with pytest.raises(StaleFile):
        await bench.read(file)


async def test_what_was_acknowledged_outlives_an_emptied_file(bench: Bench) -> None:
    file = bench.factory.new()
    await file.write(0, b"acknowledged")
    assert file.content is not None
    old = file.content
    bench.wanted.add(old.number)
    await file.clear()
    assert (file.size, await bench.read(file), old.staged.size) == (0, b"", 12)
    assert file.content is not old
    bench.wanted.clear()
    bench.factory.contents.tidy(old.number)
    file.close()
    assert bench.staging.used_bytes == 0
