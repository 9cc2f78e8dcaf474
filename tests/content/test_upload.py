"""Uploads to a store in memory: whole whatever is written meanwhile, bounded, resumable, and leaving nothing behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spacesfs.client.errors import InvalidRequest, NoSuchUpload, PreconditionFailed, ServerFault
from spacesfs.client.models import ObjectVersion
from spacesfs.content.extents import Extent
from spacesfs.content.plan import MAX_OBJECT_BYTES
from spacesfs.content.upload import Busy
from spacesfs.errors import FileTooBig
from tests.content.uploading import BODY, CELL, MIB, OLD, PROPERTIES, MemoryBench
from tests.memory_store import Gate, MemoryStore

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


# --- a new file


async def test_a_new_file_arrives_whole(bench: MemoryBench) -> None:
    made = await bench.finish()
    assert bench.memory.body("k") == BODY
    assert bench.memory.version("k") == made == ObjectVersion("k", made.etag, len(BODY))
    assert bench.memory.info("k").properties == PROPERTIES
    assert bench.memory.count() == {"create_upload": 1, "upload_part": 6, "complete_upload": 1}
    assert bench.journal.history == ["asked", "began", "ended"]
    assert not bench.staged.changed()
    assert bench.is_clean()


async def test_parts_go_up_while_the_file_is_written(make: Make) -> None:
    bench = make()
    for offset in range(0, len(BODY), MIB):
        bench.write(offset, BODY[offset : offset + MIB])
        await bench.pump()
        assert bench.memory.count()["upload_part"] == min(offset + MIB, len(BODY)) // CELL
    bench.write(10, b"patched header")
    bench.write(CELL - 2, b"over an edge")
    await bench.pump()
    assert bench.memory.count()["upload_part"] == 5  # patches wait for the end
    await bench.finish()
    assert bench.memory.body("k") == bench.body()
    assert bench.memory.count()["upload_part"] == 5 + 2 + 1
    assert bench.is_clean()


async def test_what_is_not_settled_or_not_here_waits(make: Make) -> None:
    bench = make(OLD)
    bench.write(0, BODY[:CELL])
    bench.write(CELL, b"x" * (CELL - 1))
    bench.write(2 * CELL, BODY[:CELL])
    await bench.upload.pump(3 * CELL - 1, bench.source)
    assert bench.source.reads == [Extent(0, CELL)]
    await bench.finish()
    assert bench.memory.body("k") == bench.body(OLD)


async def test_a_write_while_its_part_is_sent(bench: MemoryBench) -> None:
    bench.memory.hook = gate = Gate("upload_part")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.pump)
        await gate.arrived.wait()
        bench.write(7, b"late")
        bench.write(3 * CELL, b"late too")
        gate.opened.set()
    await bench.finish()
    assert bench.memory.body("k") == bench.body()
    assert bench.is_clean()


async def test_a_write_during_the_check_goes_round_again(bench: MemoryBench) -> None:
    async def write_once() -> None:
        if bench.checks == 1:
            bench.write(3, b"more")
            bench.write(bench.staged.size, bytes(CELL))

    bench.when_checked = write_once
    await bench.finish()
    assert bench.checks == 2
    assert bench.memory.body("k") == bench.body()


async def test_a_write_during_completion_stays_dirty(bench: MemoryBench) -> None:
    bench.memory.hook = gate = Gate("complete_upload")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.finish)
        await gate.arrived.wait()
        bench.write(5, b"late")
        bench.write(len(BODY), bytes(2 * CELL))
        await bench.pump()  # would be a part that the completion does not list
        gate.opened.set()
    await bench.pump()  # nor does a late call begin another upload
    assert bench.memory.body("k") == BODY
    assert list(bench.staged.changed()) == [Extent(5, 9), Extent(len(BODY), len(BODY) + 2 * CELL)]
    assert bench.is_clean()


async def test_endless_writing_is_busy(bench: MemoryBench) -> None:
    async def write() -> None:
        bench.write(3, b"more")

    bench.when_checked = write
    with pytest.raises(Busy):
        await bench.finish()
    assert await bench.upload.abort()
    assert bench.is_clean()


@pytest.mark.parametrize("budget_parts", [1, 2, 3])
async def test_memory_is_bounded_by_the_budget(make: Make, budget_parts: int) -> None:
    bench = make(budget_bytes=budget_parts * CELL)
    bench.write(0, BODY)
    are_there, may_go_on = trio.Event(), trio.Event()

    async def hold(name: str, key: str) -> None:
        if name == "upload_part":
            if bench.memory.count()[name] == budget_parts:
                are_there.set()
            await may_go_on.wait()

    bench.memory.hook = hold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.pump)
        nursery.start_soon(bench.pump)
        await are_there.wait()
        await wait_all_tasks_blocked()
        assert len(bench.source.reads) == budget_parts
        assert bench.memory.in_flight_bytes == budget_parts * CELL
        may_go_on.set()
    await bench.finish()
    assert bench.memory.peak_bytes == budget_parts * CELL
    assert bench.memory.count()["upload_part"] == 6
    assert bench.memory.body("k") == BODY


# --- an edit


async def test_what_is_clean_is_copied(make: Make) -> None:
    bench = make(OLD)
    bench.write(2 * CELL + 5, b"patch")
    await bench.finish()
    assert bench.memory.body("k") == bench.body(OLD)
    assert bench.source.reads == [Extent(2 * CELL, 3 * CELL)]
    assert bench.memory.count() == {
        "create_upload": 1, "copy_part": 2, "get_range": 2, "upload_part": 1, "complete_upload": 1
    }  # fmt: skip
    assert bench.checks == 1
    assert bench.is_clean()


async def test_an_append_moves_only_the_tail(make: Make) -> None:
    bench = make(OLD + b"tail")
    bench.write(len(OLD) + 4, bytes(MIB))
    await bench.finish()
    assert bench.memory.body("k") == OLD + b"tail" + bytes(MIB)
    assert bench.source.reads == [Extent(len(OLD), len(OLD) + MIB + 4)]
    assert bench.memory.count()["copy_part"] == 1


@pytest.mark.parametrize("size", [0, 1, CELL, 3 * CELL + 5, len(OLD) - 1])
async def test_a_cut_file(make: Make, size: int) -> None:
    bench = make(OLD)
    bench.staged.truncate(size)
    made = await bench.finish()
    assert made.size == size
    assert bench.memory.body("k") == OLD[:size]


async def test_a_joined_copy_that_gets_dirty_is_split(make: Make) -> None:
    bench = make(OLD)
    bench.write(0, b"first")

    async def write_once() -> None:
        if bench.checks == 1:
            bench.write(10 * CELL, b"second")

    bench.when_checked = write_once
    await bench.finish()
    assert bench.memory.body("k") == bench.body(OLD)
    assert bench.memory.count()["copy_part"] == 1 + 2
    assert bench.memory.count()["upload_part"] == 2
    assert bench.is_clean()


async def test_a_file_cut_below_what_was_sent_begins_anew(bench: MemoryBench) -> None:
    await bench.pump()
    bench.staged.truncate(CELL + 9)
    await bench.finish()
    assert bench.memory.body("k") == BODY[: CELL + 9]
    assert bench.memory.count()["create_upload"] == 2
    assert bench.memory.count()["abort_upload"] == 1
    assert bench.is_clean()


async def test_another_base_begins_anew(make: Make) -> None:
    bench = make(OLD)
    bench.write(0, b"ours")

    async def fail() -> None:
        raise PreconditionFailed("somebody else was first")

    bench.when_checked = fail
    with pytest.raises(PreconditionFailed):
        await bench.finish()
    theirs = bytes(reversed(OLD))
    bench.base = bench.source._base = bench.memory.set("k", theirs)  # noqa: SLF001 - the test's own class
    bench.when_checked = None
    await bench.finish()
    assert bench.memory.body("k") == b"ours" + theirs[4:]
    assert bench.is_clean()


async def test_a_base_that_is_gone(make: Make) -> None:
    bench = make(OLD)
    bench.write(0, BODY[:CELL])
    bench.memory.remove("k")
    with pytest.raises(PreconditionFailed):
        await bench.finish()
    assert await bench.upload.abort()
    assert bench.is_clean()


# --- failures


@pytest.mark.parametrize("call", ["create_upload", "upload_part", "copy_part", "complete_upload"])
async def test_a_failed_request_leaves_the_upload_usable(make: Make, call: str) -> None:
    bench = make(OLD)
    bench.write(0, BODY[: 2 * CELL])
    bench.write(7 * CELL, BODY[: 2 * CELL])

    async def fail_once(name: str, key: str) -> None:
        if name == call and bench.memory.count()[call] == 2:
            raise ServerFault("out of order")

    async def fail_first(name: str, key: str) -> None:
        if name == call and bench.memory.count()[call] == 1:
            raise ServerFault("out of order")

    hook = fail_first if call in ("create_upload", "complete_upload") else fail_once
    bench.memory.hook = hook
    with pytest.raises(ServerFault):
        await bench.finish()
    await bench.finish()
    assert bench.memory.body("k") == bench.body(OLD)
    assert bench.memory.count()["upload_part"] <= 4 + 1
    assert bench.memory.count()["abort_upload"] == 0
    assert bench.is_clean()


async def test_an_upload_that_vanished_begins_anew(bench: MemoryBench) -> None:
    await bench.pump()
    bench.memory.uploads.clear()  # a lifecycle rule, or an impatient administrator
    await bench.finish()
    assert bench.memory.body("k") == BODY
    assert bench.memory.count()["create_upload"] == 2
    assert bench.is_clean()


async def test_an_upload_that_vanishes_at_any_time(bench: MemoryBench) -> None:
    async def vanish(name: str, key: str) -> None:
        if name == "complete_upload" and bench.memory.count()[name] == 1:
            raise NoSuchUpload("gone")

    bench.memory.hook = vanish
    await bench.finish()
    assert bench.memory.body("k") == BODY
    assert len(bench.sealed) == 2


async def test_a_part_that_nobody_knows_of_begins_anew(bench: MemoryBench) -> None:
    async def refuse(name: str, key: str) -> None:
        if name == "complete_upload" and bench.memory.count()[name] == 1:
            raise InvalidRequest("other parts", code="InvalidPart")

    bench.memory.hook = refuse
    await bench.finish()
    assert bench.memory.body("k") == BODY
    assert bench.memory.count()["abort_upload"] == 1
    assert bench.is_clean()


async def test_a_cancelled_upload_can_be_aborted(bench: MemoryBench) -> None:
    bench.memory.hook = gate = Gate("upload_part")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.finish)
            await gate.arrived.wait()
            await wait_all_tasks_blocked()
            scope.cancel()
        raise AssertionError
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await bench.upload.abort()
    assert bench.memory.names() == []
    assert bench.is_clean()


async def test_an_abort_does_not_wait_for_ever(bench: MemoryBench, autojump_clock: MockClock) -> None:
    await bench.pump()

    async def hang(name: str, key: str) -> None:
        await trio.sleep_forever()

    bench.memory.hook = hang
    assert not await bench.upload.abort()
    assert bench.journal.records[1].upload_id  # somebody will have to try again


async def test_an_abort_awaits_the_creation(bench: MemoryBench) -> None:
    bench.memory.hook = gate = Gate("create_upload")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.pump)
        await gate.arrived.wait()
        nursery.start_soon(bench.upload.abort)
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert bench.memory.count()["upload_part"] == 0
    assert bench.is_clean()


async def test_over_five_tebibytes_is_refused_before_anything_is_sent(make: Make) -> None:
    bench = make()
    bench.staged.truncate(MAX_OBJECT_BYTES + 1)
    with pytest.raises(FileTooBig):
        await bench.finish()
    assert bench.memory.calls == []


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_of_writes_pumps_and_failures(make: Make, seed: int) -> None:
    luck = random.Random(seed)
    old = OLD[: luck.choice([0, 3 * CELL + 9, 6 * CELL])]
    bench = make(old)
    model = bytearray(old)

    async def change(name: str, key: str) -> None:
        if luck.random() < 0.15:
            step()
        if name != "abort_upload" and luck.random() < 0.1:
            raise luck.choice([ServerFault("x"), NoSuchUpload("x")] if name == "upload_part" else [ServerFault("x")])

    def step() -> None:
        offset = luck.randrange(len(model) + MIB)
        if luck.random() < 0.1:
            bench.staged.truncate(offset)
            model.extend(bytes(max(offset - len(model), 0)))
            del model[offset:]
            return
        data = luck.randbytes(luck.choice([1, 5000, MIB, 3 * CELL]))
        bench.write(offset, data)
        model.extend(bytes(max(offset - len(model), 0)))
        model[offset : offset + len(data)] = data

    bench.memory.hook = change
    for _ in range(12):
        step()
        try:
            await bench.pump()
            if luck.random() < 0.2:
                await bench.finish()
                break
        except (ServerFault, Busy):
            continue
    else:
        bench.memory.hook = MemoryStore().hook
        await bench.finish()
    at_seal = bench.sealed[-1][1] == bench.staged.changes
    assert bench.memory.body("k") == model or not at_seal
    assert not bench.staged.changed() or not at_seal
    assert bench.body(bench.memory.body("k")) == model
    assert bench.budget.used_bytes == 0
    assert not bench.journal.records
