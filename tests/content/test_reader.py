"""Reading object versions through pages: every page is fetched once, and bytes are of one version or none."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.cache.pages import PAGE_BYTES, PageCache, PageKey
from spacesfs.client.errors import ServerFault
from spacesfs.client.models import ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import MAX_REQUEST_BYTES, FileReader, PageReader
from spacesfs.errors import StaleFile
from tests.memory_store import Gate, MemoryStore

SIZE = 10 * PAGE_BYTES + 12_345
BODY = random.Random(1).randbytes(SIZE)


class Bench:
    """A page reader over a store that holds one object."""

    def __init__(self, nursery: trio.Nursery, *, cache_pages: int = 64, budget_bytes: int = 64 << 20) -> None:
        self.store = MemoryStore()
        self.version = self.store.set("k", BODY)
        self.pages = PageCache(cache_pages * PAGE_BYTES)
        self.budget = ByteBudget(budget_bytes)
        self.reader = PageReader(self.store, self.pages, self.budget, nursery.start_soon)

    async def read(self, start: int, end: int) -> bytes:
        return bytes(await self.reader.read(self.version, Extent(start, end)))

    @property
    def requests(self) -> int:
        return self.store.count()["get_range"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        yield bench
        assert bench.budget.used_bytes == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, SIZE),
        (PAGE_BYTES - 1, PAGE_BYTES + 1),
        (PAGE_BYTES, 2 * PAGE_BYTES),
        (3 * PAGE_BYTES + 7, 9 * PAGE_BYTES + 1),
        (SIZE - 1, SIZE),
        (10 * PAGE_BYTES - 5, SIZE),
    ],
)
async def test_any_extent(bench: Bench, start: int, end: int) -> None:
    assert await bench.read(start, end) == BODY[start:end]
    before = bench.requests
    assert await bench.read(start, end) == BODY[start:end]
    assert bench.requests == before


async def test_neighbours_are_fetched_together_but_not_endlessly(bench: Bench) -> None:
    await bench.read(0, SIZE)
    assert bench.requests == -(-SIZE // MAX_REQUEST_BYTES)


async def test_many_readers_of_a_page_make_one_request(bench: Bench) -> None:
    bench.store.hook = gate = Gate("get_range")
    found: list[bytes] = []

    async def read(start: int) -> None:
        found.append(await bench.read(start, start + 100))

    async with trio.open_nursery() as nursery:
        for start in range(0, 1000, 10):
            nursery.start_soon(read, start)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert sorted(found) == sorted(BODY[start : start + 100] for start in range(0, 1000, 10))
    assert bench.requests == 1


async def test_readers_that_overlap_share_what_they_have_in_common(bench: Bench) -> None:
    bench.store.hook = gate = Gate("get_range")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.read, 0, 2 * PAGE_BYTES)
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.read, PAGE_BYTES, 4 * PAGE_BYTES)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert bench.requests == 2
    assert bench.pages.used_bytes == 4 * PAGE_BYTES


async def test_an_error_reaches_all_who_wait_and_is_not_remembered(bench: Bench) -> None:
    gate = Gate("get_range")

    async def fail(call: str, key: str) -> None:
        await gate(call, key)
        raise ServerFault("out of order")

    bench.store.hook = fail
    failures: list[Exception] = []

    async def read() -> None:
        try:
            await bench.read(0, 100)
        except ServerFault as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert len(failures) == 5
    assert bench.requests == 1
    bench.store.hook = Gate("nothing")
    assert await bench.read(0, 100) == BODY[:100]


@pytest.mark.parametrize("change", ["replaced", "removed", "shortened"])
async def test_another_version_is_never_mixed_in(bench: Bench, change: str) -> None:
    assert await bench.read(0, 10) == BODY[:10]
    if change == "removed":
        bench.store.remove("k")
    else:
        bench.store.set("k", b"b" * (SIZE if change == "replaced" else 10))
    assert await bench.read(0, 10) == BODY[:10]
    with pytest.raises(StaleFile):
        await bench.read(9 * PAGE_BYTES, SIZE)
    with pytest.raises(StaleFile):
        await bench.read(PAGE_BYTES - 1, 9 * PAGE_BYTES)


async def test_the_pages_of_versions_are_apart(bench: Bench) -> None:
    await bench.read(0, 10)
    newer = bench.store.set("k", b"b" * SIZE)
    assert bytes(await bench.reader.read(newer, Extent(0, 10))) == b"b" * 10
    assert await bench.read(0, 10) == BODY[:10]


async def test_a_cancelled_reader_takes_nothing_from_the_others(bench: Bench) -> None:
    bench.store.hook = gate = Gate("get_range")
    found: list[bytes] = []

    async def read() -> None:
        found.append(await bench.read(0, 100))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(read)
                await wait_all_tasks_blocked()
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                scope.cancel()
        gate.opened.set()
    assert found == [BODY[:100]]
    assert bench.requests == 1


async def test_a_cache_smaller_than_a_read_still_serves_it() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, cache_pages=4)
        with trio.fail_after(20):
            assert await bench.read(0, SIZE) == BODY
        assert bench.pages.used_bytes <= 4 * PAGE_BYTES


async def test_what_is_on_its_way_never_exceeds_the_budget() -> None:
    budget_bytes = 6 * PAGE_BYTES
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, budget_bytes=budget_bytes)
        most = 0

        async def watch(call: str, key: str) -> None:
            nonlocal most
            most = max(most, bench.budget.used_bytes)
            await trio.lowlevel.checkpoint()

        bench.store.hook = watch
        async with trio.open_nursery() as readers:
            for number in range(10):
                readers.start_soon(bench.read, number * PAGE_BYTES, (number + 1) * PAGE_BYTES)
        assert 0 < most <= budget_bytes


async def test_prefetch_takes_only_memory_that_is_to_spare() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, budget_bytes=MAX_REQUEST_BYTES)
        bench.store.hook = gate = Gate("get_range")
        bench.reader.prefetch(bench.version, Extent(0, SIZE))
        await wait_all_tasks_blocked()
        gate.opened.set()
        await wait_all_tasks_blocked()
        assert bench.requests == 1
        assert bench.pages.used_bytes == MAX_REQUEST_BYTES


async def test_prefetch_yields_to_those_who_wait() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, budget_bytes=8 * PAGE_BYTES)
        async with bench.budget.reserve(6 * PAGE_BYTES):
            bench.reader.prefetch(bench.version, Extent(0, SIZE))
            await wait_all_tasks_blocked()
            assert bench.requests == 0


async def test_prefetch_stops_at_the_end_and_skips_what_is_here(bench: Bench) -> None:
    await bench.read(9 * PAGE_BYTES, 10 * PAGE_BYTES)
    bench.reader.prefetch(bench.version, Extent(8 * PAGE_BYTES, 100 * PAGE_BYTES))
    await wait_all_tasks_blocked()
    assert bench.pages.used_bytes == 2 * PAGE_BYTES + SIZE % PAGE_BYTES
    assert PageKey("k", bench.version.etag, 10) in bench.pages
    bench.reader.prefetch(bench.version, Extent(SIZE + 5, SIZE + 10))
    await wait_all_tasks_blocked()
    assert bench.requests == 3


async def test_reading_in_order_asks_for_every_byte_once(bench: Bench) -> None:
    options = ReadAheadOptions(first_window_bytes=2 * PAGE_BYTES, max_window_bytes=8 * PAGE_BYTES)
    reader = FileReader(bench.reader, options)
    for start in range(0, SIZE, 128 << 10):
        end = min(start + (128 << 10), SIZE)
        assert bytes(await reader.read(bench.version, Extent(start, end))) == BODY[start:end]
    assert bench.pages.used_bytes == SIZE
    assert bench.requests <= 6


async def test_a_failed_prefetch_harms_nobody(bench: Bench) -> None:
    async def fail(call: str, key: str) -> None:
        raise ServerFault("out of order")

    bench.store.hook = fail
    bench.reader.prefetch(bench.version, Extent(0, SIZE))
    await wait_all_tasks_blocked()
    bench.store.hook = Gate("nothing")
    assert await bench.read(0, SIZE) == BODY


async def test_a_version_of_another_key_is_another_file(bench: Bench) -> None:
    bench.store.set("other", BODY)
    other = ObjectVersion("other", bench.version.etag, SIZE)
    await bench.read(0, 10)
    assert bytes(await bench.reader.read(other, Extent(0, 10))) == BODY[:10]
    assert bench.requests == 2
