"""The order of changes: as asked on one key, at once on others."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from spacesfs.client.errors import ServerFault
from spacesfs.client.models import ObjectInfo, ObjectProperties
from spacesfs.pending.executor import Executor
from spacesfs.pending.intents import Intent, Move, MoveTree, Put, keys_of
from spacesfs.pending.scheduler import Scheduler
from tests.memory_store import MemoryStore

NONE = ObjectProperties()


def put(key: str, body: bytes = b"") -> Put:
    return Put(key, body, NONE, is_new=False)


class Bench:
    """A scheduler over a store whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.confirmed: list[Intent] = []
        self.waiting: dict[str, trio.Event] = {}
        self.failing: set[str] = set()
        self.store.hook = self.hold
        self.scheduler = Scheduler(Executor(self.store), lambda intent, _: self.confirmed.append(intent))

    async def hold(self, call: str, key: str) -> None:
        if call not in ("put", "copy"):
            return
        event = self.waiting[key] = trio.Event()
        try:
            await event.wait()
        finally:
            del self.waiting[key]
        if key in self.failing:
            raise ServerFault("out of order")

    async def let_go(self, key: str) -> None:
        self.waiting[key].set()
        await wait_all_tasks_blocked()

    async def ask(self, nursery: trio.Nursery, *intents: Intent) -> None:
        for intent in intents:
            nursery.start_soon(self.scheduler.acknowledge, intent)
            await wait_all_tasks_blocked()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_one_key_goes_in_order(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await bench.ask(nursery, put("k", b"1"), put("k", b"2"), put("k", b"3"))
        for body in (b"1", b"2", b"3"):
            assert list(bench.waiting) == ["k"]
            await bench.let_go("k")
            assert bench.store.body("k") == body


async def test_other_keys_go_at_once(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await bench.ask(nursery, put("a"), put("b"), put("c"))
        assert sorted(bench.waiting) == ["a", "b", "c"]
        await bench.let_go("b")
        assert bench.store.names() == ["b"]
        await bench.let_go("a")
        await bench.let_go("c")


async def test_a_tree_waits_for_what_is_inside_and_the_other_way_round(bench: Bench) -> None:
    bench.store.set("d/old", b"")
    async with trio.open_nursery() as nursery:
        await bench.ask(nursery, put("d/x"), put("unrelated"), MoveTree("d/", "e/"), put("e/y"), put("d/z"))
        assert sorted(bench.waiting) == ["d/x", "unrelated"]
        await bench.let_go("d/x")
        assert sorted(bench.waiting) == ["d/old", "d/x", "unrelated"]
        await bench.let_go("d/old")
        await bench.let_go("d/x")
        assert sorted(bench.waiting) == ["d/z", "e/y", "unrelated"]
        for key in ("e/y", "d/z", "unrelated"):
            await bench.let_go(key)
    assert bench.store.names() == ["d/z", "e/old", "e/x", "e/y", "unrelated"]


async def test_a_move_waits_for_both_its_keys(bench: Bench) -> None:
    bench.store.set("a", b"moved")
    info = bench.store.info("a")
    replaced = bench.store.set("b", b"")
    async with trio.open_nursery() as nursery:
        await bench.ask(nursery, put("b"), Move(info, "b", replaced), put("a", b"new"))
        assert list(bench.waiting) == ["b"]
        await bench.let_go("b")
        assert list(bench.waiting) == ["a"]
        await bench.let_go("a")
        await bench.let_go("a")
    assert (bench.store.body("a"), bench.store.body("b")) == (b"new", b"moved")


async def test_a_failed_change_does_not_hold_up_the_next(bench: Bench) -> None:
    bench.failing.add("k")
    failures: list[ServerFault] = []

    async def fail() -> None:
        try:
            await bench.scheduler.acknowledge(put("k", b"1"))
        except ServerFault as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await wait_all_tasks_blocked()
        await bench.ask(nursery, put("k", b"2"))
        await bench.let_go("k")
        bench.failing.clear()
        await bench.let_go("k")
    assert len(failures) == 1
    assert bench.store.body("k") == b"2"
    assert bench.confirmed == [put("k", b"2")]


async def test_a_cancelled_change_does_not_hold_up_the_next(bench: Bench) -> None:
    scopes = [trio.CancelScope(), trio.CancelScope()]

    async def ask(number: int) -> None:
        with scopes[number]:
            await bench.scheduler.acknowledge(put("k", b"%d" % number))

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(ask, number)
            await wait_all_tasks_blocked()
        await bench.ask(nursery, put("k", b"last"))
        scopes[1].cancel()  # the one that waits: the first is still before the last
        await wait_all_tasks_blocked()
        assert bench.store.calls == [("put", "k")]
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        await bench.let_go("k")
    assert bench.store.body("k") == b"last"


async def test_confirmation_comes_before_the_answer(bench: Bench) -> None:
    heard: list[ObjectInfo | None] = []
    scheduler = Scheduler(Executor(MemoryStore()), lambda _, stored: heard.append(stored))
    await scheduler.acknowledge(put("k", b"body"))
    (stored,) = heard
    assert stored is not None
    assert (stored.key, stored.size) == ("k", 4)


KEYS = st.sampled_from(["a", "b", "d/x", "d/y", "e/x", "d", "e"])
INTENTS = KEYS.map(put) | st.sampled_from([MoveTree("d/", "e/"), MoveTree("e/", "f/"), MoveTree("d/", "g/")])


@settings(deadline=None, max_examples=60)
@given(intents=st.lists(INTENTS, min_size=1, max_size=10), delays=st.lists(st.floats(0, 3), min_size=30, max_size=30))
def test_no_two_changes_that_touch_the_same_are_in_flight_together(intents: list[Intent], delays: list[float]) -> None:
    active: list[int] = []
    order: list[int] = []

    class Watched(Executor):
        async def perform(self, intent: Intent) -> ObjectInfo | None:
            number = next(index for index, other in enumerate(intents) if other is intent and index not in order)
            assert not any(touches(intent, intents[other]) for other in active)
            assert all(other in order for other in range(number) if touches(intent, intents[other]))
            active.append(number)
            order.append(number)
            await trio.sleep(delays[number])
            active.remove(number)
            return None

    async def run() -> None:
        scheduler = Scheduler(Watched(MemoryStore()), lambda *_: None)
        async with trio.open_nursery() as nursery:
            for intent in intents:
                nursery.start_soon(scheduler.acknowledge, intent)
                await trio.testing.wait_all_tasks_blocked()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert sorted(order) == list(range(len(intents)))


def touches(one: Intent, other: Intent) -> bool:
    """Say whether two changes concern the same keys, told from the whole set of keys each could touch."""
    return any(
        a == b
        or (isinstance(one, MoveTree) and b.startswith(f"{a}/"))
        or (isinstance(other, MoveTree) and a.startswith(f"{b}/"))
        for a in keys_of(one)
        for b in keys_of(other)
    )
