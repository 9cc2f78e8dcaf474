"""Uploads: whole, in bounded memory, and leaving nothing behind when they fail."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.client.errors import PreconditionFailed, ServerFault
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.upload import MAX_OBJECT_BYTES, PART_BYTES, PlannedPart, Uploader, plan_parts
from spacesfs.errors import FileTooBig
from tests.memory_store import Gate, MemoryStore

MIB = 1 << 20
SIZE = 5 * PART_BYTES + 77
BODY = random.Random(2).randbytes(SIZE)
PROPERTIES = ObjectProperties(content_type="text/plain", metadata={"mode": "33188"})


class Content:
    """A source that watches how much of it is out at once."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.reads: list[Extent] = []
        self.attempts: list[str] = []

    def note_attempt(self, etag: str) -> None:
        self.attempts.append(etag)

    async def read_all(self, extent: Extent) -> memoryview:
        self.reads.append(extent)
        await trio.lowlevel.checkpoint()
        return memoryview(self.body)[extent.start : extent.end]


class Bench:
    """An uploader, the store it fills and the memory it may use."""

    def __init__(self, budget_bytes: int = 4 * PART_BYTES) -> None:
        self.store = MemoryStore()
        self.budget = ByteBudget(budget_bytes)
        self.uploader = Uploader(self.store, self.budget)
        self.source = Content(BODY)

    def change(self, *changes: Extent) -> tuple[list[PlannedPart], ObjectVersion]:
        """Store a base version of zeros, and plan an upload that changes parts of it."""
        dirty = ExtentSet()
        body = bytearray(SIZE)
        for change in changes:
            dirty.add(*change)
            body[change.start : change.end] = BODY[change.start : change.end]
        self.source = Content(bytes(body))
        return plan_parts(SIZE, dirty, SIZE), self.store.set("k", bytes(SIZE))

    async def put_new(self) -> str:
        dirty = ExtentSet()
        dirty.add(0, SIZE)
        return await self.uploader.put_parts("k", self.source, plan_parts(SIZE, dirty, 0), PROPERTIES, None)

    def is_clean(self) -> bool:
        return not self.store.uploads and self.budget.used_bytes == 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_new_file_arrives_whole(bench: Bench) -> None:
    etag = await bench.put_new()
    assert bench.store.body("k") == BODY
    assert bench.store.version("k") == ObjectVersion("k", etag, SIZE)
    assert bench.store.info("k").properties == PROPERTIES
    assert bench.store.count()["copy_part"] == 0
    assert bench.is_clean()


async def test_a_small_file_is_one_request(bench: Bench) -> None:
    bench.source = Content(b"small")
    etag = await bench.uploader.put_small("k", bench.source, 5, PROPERTIES, is_new=True)
    assert bench.store.version("k") == ObjectVersion("k", etag, 5)
    with pytest.raises(PreconditionFailed):
        await bench.uploader.put_small("k", bench.source, 5, PROPERTIES, is_new=True)
    await bench.uploader.put_small("k", bench.source, 4, PROPERTIES, is_new=False)
    assert bench.store.body("k") == b"smal"
    assert bench.is_clean()


async def test_what_is_clean_is_copied(bench: Bench) -> None:
    parts, base = bench.change(Extent(2 * PART_BYTES, 2 * PART_BYTES + 1))
    await bench.uploader.put_parts("k", bench.source, parts, PROPERTIES, base)
    assert bench.store.body("k") == bench.source.body
    assert bench.source.reads == [Extent(2 * PART_BYTES, 3 * PART_BYTES)]
    assert [call for call, _ in bench.store.calls][-2:] == ["head", "complete_upload"]
    assert bench.is_clean()


@pytest.mark.parametrize("budget_parts", [1, 2, 3])
async def test_memory_is_bounded_by_the_budget(budget_parts: int) -> None:
    bench = Bench(budget_parts * PART_BYTES)
    bench.store.hook = gate = Gate("upload_part")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.put_new)
        await wait_all_tasks_blocked()
        assert len(bench.source.reads) == budget_parts
        gate.opened.set()
    assert bench.store.peak_bytes == budget_parts * PART_BYTES
    assert bench.store.body("k") == BODY


async def test_parts_go_in_parallel(bench: Bench) -> None:
    bench.store.hook = gate = Gate("upload_part")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.put_new)
        await wait_all_tasks_blocked()
        assert bench.store.count()["upload_part"] == 4
        gate.opened.set()
    assert bench.is_clean()


async def test_a_budget_below_one_part_still_works() -> None:
    bench = Bench(PART_BYTES // 2)
    await bench.put_new()
    assert bench.store.body("k") == BODY
    assert bench.is_clean()


@pytest.mark.parametrize("call", ["upload_part", "copy_part", "complete_upload", "head"])
async def test_a_failed_upload_is_aborted(bench: Bench, call: str) -> None:
    parts, base = bench.change(Extent(0, 1), Extent(SIZE - 1, SIZE))
    seen = 0

    async def fail(name: str, key: str) -> None:
        nonlocal seen
        seen += name == call
        if name == call and seen == bench.store.count()[call] >= (2 if call == "upload_part" else 1):
            raise ServerFault("out of order")

    bench.store.hook = fail
    with pytest.raises(ServerFault):
        await bench.uploader.put_parts("k", bench.source, parts, PROPERTIES, base)
    assert bench.store.count()["abort_upload"] == 1
    assert bench.store.version("k") == base
    assert bench.is_clean()


async def test_a_cancelled_upload_is_aborted(bench: Bench) -> None:
    bench.store.hook = gate = Gate("upload_part")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.put_new)
            await gate.arrived.wait()
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert bench.store.count()["abort_upload"] == 1
    assert bench.store.names() == []
    assert bench.is_clean()


async def test_an_abort_that_fails_hides_nothing(bench: Bench) -> None:
    async def fail(name: str, key: str) -> None:
        if name in ("upload_part", "abort_upload"):
            raise ServerFault(name)

    bench.store.hook = fail
    with pytest.raises(ServerFault, match="upload_part"):
        await bench.put_new()
    assert bench.budget.used_bytes == 0


async def test_an_abort_does_not_wait_for_ever(bench: Bench, autojump_clock: trio.testing.MockClock) -> None:
    async def fail(name: str, key: str) -> None:
        if name == "upload_part":
            raise ServerFault(name)
        if name == "abort_upload":
            await trio.sleep_forever()

    bench.store.hook = fail
    with pytest.raises(ServerFault, match="upload_part"):
        await bench.put_new()


async def test_a_base_replaced_while_it_is_copied_from(bench: Bench) -> None:
    parts, base = bench.change(Extent(0, 1))

    async def replace(name: str, key: str) -> None:
        if name == "copy_part":
            bench.store.set("k", b"theirs" * SIZE)

    bench.store.hook = replace
    with pytest.raises(PreconditionFailed):
        await bench.uploader.put_parts("k", bench.source, parts, PROPERTIES, base)
    assert bench.store.body("k")[:6] == b"theirs"
    assert bench.is_clean()


async def test_over_five_tebibytes_is_refused_before_anything_is_sent(bench: Bench) -> None:
    parts = [PlannedPart(Extent(0, MAX_OBJECT_BYTES + 1), is_copy=False)]
    with pytest.raises(FileTooBig):
        await bench.uploader.put_parts("k", bench.source, parts, PROPERTIES, None)
    assert bench.store.calls == []
