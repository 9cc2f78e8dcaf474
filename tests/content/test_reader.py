"""Reading object versions through pages: every byte is fetched once, and bytes are of one version or none."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.cache.disk import DiskCache
from spacesfs.cache.pages import GRAIN_BYTES, PageCache
from spacesfs.client.errors import AccessDenied, ServerFault
from spacesfs.client.models import ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.filereader import FileReader
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import MAX_REQUEST_BYTES, SMALL_BYTES, WHOLE_BYTES, PageReader
from spacesfs.errors import StaleFile
from tests.memory_store import PIECE_BYTES, Gate, MemoryStore

MIB = 1 << 20
SIZE = 10 * MIB + 12_345
BODY = random.Random(1).randbytes(SIZE)
OPTIONS = ReadAheadOptions(first_window_bytes=4 * MIB, max_window_bytes=16 * MIB)


class Bench:
    """A page reader over a store that holds one object."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        cache_bytes: int = 96 * MIB,
        budget_bytes: int = 64 * MIB,
        body: bytes = BODY,
        disk: DiskCache | None = None,
    ) -> None:
        self.store = MemoryStore()
        self.version = self.store.set("k", body)
        self.pages = PageCache(cache_bytes)
        self.budget = ByteBudget(budget_bytes)
        self.reader = PageReader(self.store, self.pages, self.budget, nursery.start_soon, disk)

    async def read(self, start: int, end: int) -> bytes:
        return bytes(await self.reader.read(self.version, Extent(start, end)))

    def file(self) -> FileReader:
        return FileReader(self.reader, OPTIONS)

    @property
    def requests(self) -> int:
        return self.store.count()["get_range"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        yield bench
        await wait_all_tasks_blocked()
        assert bench.budget.used_bytes == 0
        assert bench.reader.statistics().fetching_bytes == 0
        bench.pages.check_invariants()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, SIZE),
        (MIB - 1, MIB + 1),
        (MIB, 2 * MIB),
        (3 * MIB + 7, 9 * MIB + 1),
        (SIZE - 1, SIZE),
        (10 * MIB - 5, SIZE),
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
        nursery.start_soon(bench.read, 0, 2 * MIB)
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.read, MIB, 6 * MIB)
        await wait_all_tasks_blocked()
        gate.opened.set()
    await wait_all_tasks_blocked()
    assert bench.requests == 2
    assert bench.pages.used_bytes == 8 * MIB


async def test_bytes_are_served_while_the_rest_is_still_coming(bench: Bench) -> None:
    bench.store.piece_hook = gate = Gate("get_range")
    with trio.fail_after(5):
        assert await bench.read(100, 60_000) == BODY[100:60_000]
    with trio.move_on_after(0.01):
        await bench.read(100, 70_000)  # not all of it is here yet
        raise AssertionError("bytes that have not come were served")
    gate.opened.set()
    assert await bench.read(100, 70_000) == BODY[100:70_000]
    assert bench.requests == 1


async def test_what_came_before_a_failure_stays_true(bench: Bench) -> None:
    gate = Gate("get_range")

    async def break_off(call: str, key: str) -> None:
        await gate(call, key)
        raise AccessDenied("not any more")

    bench.store.piece_hook = break_off
    assert await bench.read(0, 1000) == BODY[:1000]
    failures = []

    async def read_on() -> None:
        try:
            await bench.read(0, 2 * MIB)
        except AccessDenied as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert len(failures) == 1
    bench.store.piece_hook = Gate("nothing")
    assert await bench.read(0, 2 * MIB) == BODY[: 2 * MIB]


async def test_after_a_broken_reply_only_the_rest_is_asked_for(bench: Bench) -> None:
    async def break_off(call: str, key: str) -> None:
        if bench.store.received("k") % (3 * PIECE_BYTES) == 0:
            raise ServerFault("broken")
        await trio.lowlevel.checkpoint()

    bench.store.piece_hook = break_off
    assert await bench.read(0, MIB) == BODY[:MIB]
    await wait_all_tasks_blocked()
    assert bench.store.received("k") == MAX_REQUEST_BYTES
    assert bench.requests > 20


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
    await wait_all_tasks_blocked()  # for the rest of the page
    if change == "removed":
        bench.store.remove("k")
    else:
        bench.store.set("k", b"b" * (SIZE if change == "replaced" else 10))
    assert await bench.read(0, 10) == BODY[:10]
    with pytest.raises(StaleFile):
        await bench.read(9 * MIB, SIZE)
    with pytest.raises(StaleFile):
        await bench.read(4 * MIB - 1, 9 * MIB)


async def test_the_pages_of_versions_are_apart(bench: Bench) -> None:
    await bench.read(0, 10)
    await wait_all_tasks_blocked()
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
        bench = Bench(nursery, cache_bytes=4 * MIB)
        with trio.fail_after(20):
            assert await bench.read(0, SIZE) == BODY
        assert bench.pages.used_bytes <= 4 * MIB
        await wait_all_tasks_blocked()
        assert bench.store.received("k") == SIZE


async def test_what_is_on_its_way_never_exceeds_the_budget() -> None:
    budget_bytes = 6 * MIB
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
                readers.start_soon(bench.read, number * MIB, (number + 1) * MIB)
        assert 0 < most <= budget_bytes


async def test_prefetch_takes_only_memory_that_is_to_spare() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, budget_bytes=MAX_REQUEST_BYTES)
        bench.store.hook = gate = Gate("get_range")
        bench.reader.prefetch(bench.version, Extent(0, SIZE))
        await wait_all_tasks_blocked()
        gate.opened.set()
        await wait_all_tasks_blocked()
        assert bench.requests == 2  # one half of the budget each, so that two can be on their way
        assert bench.pages.used_bytes == MAX_REQUEST_BYTES


async def test_prefetch_yields_to_those_who_wait() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, budget_bytes=8 * MIB)
        async with bench.budget.reserve(6 * MIB):
            bench.reader.prefetch(bench.version, Extent(0, SIZE))
            await wait_all_tasks_blocked()
            assert bench.requests == 0


async def test_prefetch_stops_at_the_end_and_skips_what_is_here(bench: Bench) -> None:
    await bench.reader.read(bench.version, Extent(9 * MIB, 10 * MIB), Extent(9 * MIB, 10 * MIB))
    bench.reader.prefetch(bench.version, Extent(8 * MIB, 100 * MIB))
    await wait_all_tasks_blocked()
    assert bench.pages.used_bytes == 2 * MIB + SIZE % MIB
    bench.reader.prefetch(bench.version, Extent(SIZE + 5, SIZE + 10))
    await wait_all_tasks_blocked()
    assert bench.requests == 3


async def test_reading_in_order_asks_for_every_byte_once(bench: Bench) -> None:
    reader = bench.file()
    for start in range(0, SIZE, 128 << 10):
        end = min(start + (128 << 10), SIZE)
        assert bytes(await reader.read(bench.version, Extent(start, end))) == BODY[start:end]
    await wait_all_tasks_blocked()
    assert bench.pages.used_bytes == bench.store.received("k") == SIZE
    assert bench.requests == -(-SIZE // MAX_REQUEST_BYTES)


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


@pytest.mark.parametrize("size", [1, SMALL_BYTES, SMALL_BYTES + 1, WHOLE_BYTES])
async def test_a_small_file_takes_one_request(size: int) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, body=BODY[:size])
        reader = bench.file()
        for start in range(0, size, 128 << 10):
            extent = Extent(start, min(start + (128 << 10), size))
            assert bytes(await reader.read(bench.version, extent)) == BODY[extent.start : extent.end]
        assert bench.requests == 1


async def test_a_small_file_read_anywhere_comes_whole(bench: Bench) -> None:
    version = bench.store.set("small", BODY[:SMALL_BYTES])
    reader = bench.file()
    for start in (700_000, 3, 400_000):
        assert bytes(await reader.read(version, Extent(start, start + 9))) == BODY[start : start + 9]
    assert bench.requests == 1


async def test_random_reads_fetch_little_and_nothing_twice() -> None:
    body = BODY * 10
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, body=body)
        reader, rng = bench.file(), random.Random(5)
        offsets = [rng.randrange(len(body) // 4096) * 4096 for _ in range(150)]
        for offset in offsets:
            extent = Extent(offset, min(offset + 4096, len(body)))
            assert bytes(await reader.read(bench.version, extent)) == body[extent.start : extent.end]
        await wait_all_tasks_blocked()
        assert bench.requests <= len({offset // GRAIN_BYTES for offset in offsets})
        assert bench.store.received("k") == bench.pages.used_bytes


async def test_reading_backwards_brings_what_is_before() -> None:
    body, piece = BODY * 4, 8192
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, body=body)
        reader = bench.file()
        for start in range(len(body) // piece * piece, 20 * MIB, -piece):
            extent = Extent(start, min(start + piece, len(body)))
            assert bytes(await reader.read(bench.version, extent)) == body[extent.start : extent.end]
        await wait_all_tasks_blocked()
        assert bench.store.received("k") == bench.pages.used_bytes <= len(body) - 20 * MIB + MAX_REQUEST_BYTES
        assert bench.requests <= bench.pages.used_bytes // GRAIN_BYTES


async def test_interleaved_streams_are_both_fetched_ahead() -> None:
    body = BODY * 4
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, body=body)
        reader = bench.file()
        for step in range(0, 12 * MIB, 256 << 10):
            for base in (0, 20 * MIB):
                extent = Extent(base + step, base + step + (256 << 10))
                assert bytes(await reader.read(bench.version, extent)) == body[extent.start : extent.end]
        totals = bench.reader.statistics().totals
        assert totals.ahead_requests >= 4
        reader.close()
        await wait_all_tasks_blocked()
        assert bench.store.received("k") <= 24 * MIB + 2 * OPTIONS.max_window_bytes + 2 * MAX_REQUEST_BYTES


async def test_a_closed_reader_gives_memory_and_connections_back(bench: Bench) -> None:
    reader = bench.file()
    await reader.read(bench.version, Extent(0, MIB))
    bench.store.hook = Gate("get_range")  # never opens
    await reader.read(bench.version, Extent(MIB, 2 * MIB))
    await wait_all_tasks_blocked()
    assert bench.budget.used_bytes > 0
    reader.close()
    await wait_all_tasks_blocked()
    told = bench.reader.statistics()
    assert (bench.budget.used_bytes, told.fetching_bytes, told.ahead_requests) == (0, 0, 0)
    assert told.totals.cancelled_requests > 0
    bench.store.hook = Gate("nothing")
    assert await bench.read(0, SIZE) == BODY


async def test_what_another_reader_wants_too_is_not_cancelled(bench: Bench) -> None:
    one, two = bench.file(), bench.file()
    await one.read(bench.version, Extent(0, MIB))
    await two.read(bench.version, Extent(0, 4096))
    bench.store.hook = gate = Gate("get_range")
    await one.read(bench.version, Extent(MIB, 2 * MIB))
    await wait_all_tasks_blocked()
    one.close()
    gate.opened.set()
    for start in range(0, SIZE, MIB):
        await two.read(bench.version, Extent(start, min(start + MIB, SIZE)))
    assert bench.store.received("k") == SIZE


async def test_many_readers_share_little_memory_without_fetching_twice() -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, cache_bytes=24 * MIB, budget_bytes=20 * MIB)
        versions = [bench.store.set(f"f{number}", BODY) for number in range(16)]
        readers = [bench.file() for _ in versions]

        async def read_all(reader: FileReader, version: ObjectVersion) -> None:
            for start in range(0, SIZE, 512 << 10):
                extent = Extent(start, min(start + (512 << 10), SIZE))
                assert bytes(await reader.read(version, extent)) == BODY[extent.start : extent.end]
                assert bench.pages.used_bytes <= bench.pages.limit_bytes
                assert bench.budget.used_bytes <= bench.budget.limit_bytes
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as team:
            for reader, version in zip(readers, versions, strict=True):
                team.start_soon(read_all, reader, version)
        received = sum(bench.store.received(version.key) for version in versions)
        assert received <= 1.1 * 16 * SIZE


async def read_in_order(disk: DiskCache) -> MemoryStore:
    """Read everything through caches of which only the one on disk may be filled; return when that is written."""
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, disk=disk)
        reader = bench.file()
        for start in range(0, SIZE, 128 << 10):
            extent = Extent(start, min(start + (128 << 10), SIZE))
            assert bytes(await reader.read(bench.version, extent)) == BODY[extent.start : extent.end]
    return bench.store


async def opened(directory: Path) -> DiskCache:
    disk = DiskCache(directory, 64 * MIB, "s", 64 * MIB)
    await disk.open()
    return disk


async def test_what_was_read_once_comes_from_the_disk(tmp_path: Path) -> None:
    assert (await read_in_order(await opened(tmp_path))).count()["get_range"] == 3
    assert (await read_in_order(await opened(tmp_path))).count()["get_range"] == 0


async def test_random_reads_of_what_is_on_the_disk_load_little(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    await read_in_order(disk)
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery, disk=disk)
        reader = bench.file()
        for start in (5 * MIB + 1, 9 * MIB, MIB + 7):
            assert bytes(await reader.read(bench.version, Extent(start, start + 100))) == BODY[start : start + 100]
    assert bench.requests == 0
    assert disk.statistics().read_bytes == 3 * GRAIN_BYTES


async def test_a_damaged_page_is_fetched_again(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    await read_in_order(disk)
    damage(tmp_path)
    assert (await read_in_order(disk)).count()["get_range"] == 3
    assert disk.statistics().bad_pages == 3
    assert (await read_in_order(disk)).count()["get_range"] == 0


def damage(directory: Path) -> None:
    """Flip a bit in every page."""
    for file in [path for path in directory.rglob("*") if path.is_file()]:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
