"""Small files before they are read: one GET where they are read, HEADs where they are only looked at, nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.cache.pages import PageCache
from spacesfs.client.models import ListedObject, ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.glimpse import MAX_AHEAD, UNPROVEN_BYTES, Glimpse
from spacesfs.content.reader import SMALL_BYTES, PageReader
from tests.memory_store import Gate, MemoryStore

MIB = 1 << 20
FILES = 60


class Bench:
    """A directory of small files, as a program meets it: looked up, then perhaps opened and read."""

    def __init__(self, nursery: trio.Nursery, *, memory: int = 32 * MIB, size: int = 5000) -> None:
        self.store = MemoryStore()
        self.pages = PageCache(memory)
        self.reader = PageReader(self.store, self.pages, ByteBudget(memory), nursery.start_soon)
        self.glimpse = Glimpse(self.store, self.reader, nursery.start_soon)
        self.listing: dict[str, ListedObject] = {}
        for number in range(FILES):
            self.add(f"f{number:03}", size)

    def add(self, name: str, size: int) -> None:
        version = self.store.set(f"d/{name}", (name.encode() * size)[:size])
        self.listing[name] = ListedObject(version.key, version.size, version.etag, 0)

    async def look(self, name: str) -> None:
        listed = self.listing[name]
        info = await self.glimpse.describe("d/", listed)
        if info is None:
            info = await self.store.head(listed.key)
        assert (info.key, info.etag, info.size) == (listed.key, listed.etag, listed.size)

    async def read(self, name: str) -> None:
        await self.look(name)
        self.glimpse.note_open("d/", name, self.listing)
        listed = self.listing[name]
        version = ObjectVersion(listed.key, listed.etag, listed.size)
        found = await self.reader.read(version, Extent(0, listed.size))
        assert bytes(found) == self.store.body(listed.key)

    @property
    def counts(self) -> tuple[int, int]:
        count = self.store.count()
        return count["get_range"], count["head"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(nursery)


async def test_files_read_one_after_another_take_one_get_each_and_no_head(bench: Bench) -> None:
    for name in bench.listing:
        await bench.read(name)
    assert bench.counts == (FILES, 0)


async def test_they_are_fetched_in_parallel_after_two(bench: Bench) -> None:
    for name in ("f000", "f001"):
        await bench.read(name)
    bench.store.hook = gate = Gate("get_range")
    bench.glimpse.note_open("d/", "f002", bench.listing)
    await wait_all_tasks_blocked()
    assert bench.counts[0] > 3
    gate.opened.set()
    for name in [*bench.listing][2:]:
        await bench.read(name)
    assert bench.counts == (FILES, 0)


async def test_a_look_up_waits_for_what_is_on_its_way(bench: Bench) -> None:
    for name in ("f000", "f001"):
        await bench.read(name)
    bench.store.hook = gate = Gate("get_range")
    bench.glimpse.note_open("d/", "f002", bench.listing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.look, "f003")
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert bench.counts[1] == 0


async def test_files_only_looked_at_get_heads_and_little_is_fetched_for_nothing(bench: Bench) -> None:
    for name in bench.listing:
        await bench.look(name)
    gets, heads = bench.counts
    assert gets <= 2
    assert heads == FILES - gets


async def test_large_files_in_an_unknown_directory_get_heads(bench: Bench) -> None:
    bench.add("large", UNPROVEN_BYTES + 1)
    await bench.look("large")
    assert bench.counts == (0, 1)
    await bench.read("f000")
    bench.add("also", SMALL_BYTES)
    await bench.read("also")
    assert bench.counts == (2, 1)
    bench.add("huge", SMALL_BYTES + 1)
    await bench.look("huge")
    assert bench.counts == (2, 2)


async def test_empty_files_get_heads(bench: Bench) -> None:
    bench.add("empty", 0)
    await bench.look("empty")
    assert bench.counts == (0, 1)


async def test_not_more_is_fetched_ahead_than_is_likely_to_be_read(bench: Bench) -> None:
    for name in [*bench.listing][:20]:
        await bench.read(name)
    await wait_all_tasks_blocked()
    assert bench.counts[0] <= 20 + MAX_AHEAD


async def test_descriptions_of_bytes_that_are_here_are_asked_for_ahead(bench: Bench) -> None:
    for listed in bench.listing.values():
        await bench.reader.read(ObjectVersion(listed.key, listed.etag, listed.size), Extent(0, listed.size))
    for name in ("f000", "f001"):
        await bench.read(name)
    bench.store.hook = gate = Gate("head")
    bench.glimpse.note_open("d/", "f002", bench.listing)
    await wait_all_tasks_blocked()
    assert bench.counts[1] > 3
    gate.opened.set()
    for name in [*bench.listing][2:]:
        await bench.read(name)
    assert bench.counts == (FILES, FILES)


async def test_opens_in_no_order_fetch_nothing_ahead(bench: Bench) -> None:
    for number in (30, 2, 55, 17, 40, 8):
        await bench.read(f"f{number:03}")
    await wait_all_tasks_blocked()
    assert bench.counts[0] == 6


async def test_a_changed_object_is_described_by_a_head(bench: Bench) -> None:
    old = bench.listing["f000"]
    bench.store.set("d/f000", b"another")
    assert await bench.glimpse.describe("d/", old) is None
