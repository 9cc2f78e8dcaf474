"""The order of changes, in virtual time: what goes when, what waits for what, and that waiting costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from spacesfs.client.errors import AccessDenied, DeadlineExceeded, ServerFault, SpacesError
from spacesfs.client.models import ObjectVersion
from spacesfs.pending.gathering import MAX_REMOVALS
from spacesfs.pending.intents import Absent, Intent, Present, Want
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Left, Scheduler

GRACE = 1.0
LONG = 1000.0


def version(key: str, etag: str = "e") -> ObjectVersion:
    return ObjectVersion(key, etag, 1)


class Bench:
    """A scheduler whose intents come true at once, unless their key is held, failing or slow.

    Attributes:
        done: Keys that came true, with when.
        steps: Of the loop's task, so that one that goes round and round is noticed.
    """

    def __init__(self) -> None:
        self.overlay = Overlay()
        self.scheduler = Scheduler(self.overlay, GRACE)
        self.done: list[tuple[str, float]] = []
        self.attempts: list[str] = []
        self.removals: list[list[str]] = []
        self.untied: list[str] = []
        self.held: set[str] = set()
        self.failing: set[str] = set()
        self.failure: type[SpacesError] = ServerFault
        self.slow: dict[str, float] = {}
        self.most_at_once = MAX_REMOVALS
        self.first: dict[str, str] = {}
        self._order = 0
        self.started_at = trio.current_time()

    # --- as the ledger

    def want(self, key: str, want: Want, base: ObjectVersion | None = None, grace: float | None = None) -> None:
        self._order += 1
        old = self.overlay.get(key)
        intent = Intent(key, self._order, want, base, since=0.0)
        self.overlay.put(intent if old is None else replace(old, order=self._order, want=want))
        self.scheduler.changed(key, 0.0 if isinstance(want, Absent) else grace)

    def write(self, key: str, content: int = 0, grace: float | None = None) -> None:
        self.want(key, Present(1, content or len(key) * 1000 + self._order), grace=grace)

    def move(self, key: str, new_key: str, *, replaces: bool = False) -> None:
        self.want(new_key, Present(1, source=version(key)), version(new_key) if replaces else None)
        self.want(key, Absent(), version(key))

    # --- as the executor

    def is_held(self, intent: Intent) -> bool:
        return intent.key in self.held

    def goes_first(self, intent: Intent) -> str | None:
        first = self.first.get(intent.key)
        return first if first is not None and first in self.overlay else None

    async def perform(self, intent: Intent) -> None:
        await self._attempt(intent)
        self._finish(intent)

    async def remove(self, intents: list[Intent]) -> None:
        self.removals.append([intent.key for intent in intents])
        if len(intents) > self.most_at_once:
            raise DeadlineExceeded("no byte moved")
        for intent in intents:
            await self._attempt(intent)
        for intent in intents:
            self._finish(intent)

    async def untie(self, intent: Intent) -> None:
        self.untied.append(intent.key)
        await trio.lowlevel.checkpoint()
        assert isinstance(intent.want, Present)
        self.overlay.put(replace(intent, want=replace(intent.want, source=version("aside"))))

    async def _attempt(self, intent: Intent) -> None:
        self.attempts.append(intent.key)
        await trio.sleep(self.slow.get(intent.key, 0))
        if intent.key in self.failing:
            raise self.failure("out of order")

    def _finish(self, intent: Intent) -> None:
        now = self.overlay.get(intent.key)
        if now is not None and now.order == intent.order:
            self.overlay.remove(intent.key)
            self.scheduler.dropped(intent.key)
        self.done.append((intent.key, trio.current_time() - self.started_at))

    # --- as a test

    @property
    def order(self) -> list[str]:
        return [key for key, _ in self.done]

    async def settle(self, *keys: str) -> list[Left]:
        return [left async for left in self.scheduler.settle(lambda key: not keys or key in keys)]


@pytest.fixture
async def bench(nursery: trio.Nursery, autojump_clock: MockClock) -> AsyncIterator[Bench]:
    bench = Bench()
    nursery.start_soon(bench.scheduler.run, bench)
    yield bench
    bench.overlay.check_invariants()


class StepCounter(trio.abc.Instrument):
    """Counts what all tasks do."""

    steps = 0

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_a_change_goes_after_its_grace(bench: Bench, autojump_clock: MockClock) -> None:
    bench.write("k")
    await trio.sleep(GRACE / 2)
    bench.write("k")
    await trio.sleep(LONG)
    assert dict(bench.done) == {"k": GRACE * 1.5}


async def test_other_keys_go_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"a": 50.0}
    for key in ("a", "b", "c"):
        bench.write(key)
    await trio.sleep(LONG)
    assert bench.order[-1] == "a"
    assert {key: round(at) for key, at in bench.done} == {"a": 51, "b": 1, "c": 1}


async def test_one_key_has_one_change_in_flight(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"k": 10.0}
    bench.write("k")
    await trio.sleep(GRACE + 1)
    bench.write("k")
    bench.scheduler.demand("k")
    await trio.sleep(5)
    assert bench.attempts == ["k"]
    await trio.sleep(LONG)
    assert (bench.attempts, len(bench.done), len(bench.overlay)) == (["k", "k"], 2, 0)


async def test_a_file_that_never_rests_is_sent_all_the_same(bench: Bench, autojump_clock: MockClock) -> None:
    for _ in range(200):
        bench.write("k")
        await trio.sleep(GRACE / 2)
    assert 4 <= len(bench.done) <= 12


async def test_a_hurried_change_waits_for_nothing(bench: Bench, autojump_clock: MockClock) -> None:
    bench.write("k")
    bench.scheduler.hurry("k")
    await trio.sleep(LONG)
    assert bench.done == [("k", 0.0)]


async def test_a_held_file_goes_only_when_somebody_waits(bench: Bench, autojump_clock: MockClock) -> None:
    bench.held = {"k"}
    bench.write("k")
    await trio.sleep(LONG)
    assert bench.attempts == []
    assert await bench.settle("k") != []
    assert bench.order == ["k"]


async def test_what_is_read_is_not_removed_and_not_waited_for(bench: Bench, autojump_clock: MockClock) -> None:
    bench.held = {"k"}
    bench.want("k", Absent(), version("k"))
    bench.write("other")
    await bench.settle()
    assert bench.order == ["other"]
    bench.held.clear()
    bench.scheduler.retry("k")
    await trio.sleep(LONG)
    assert bench.order == ["other", "k"]


# --- what waits for what


@pytest.mark.parametrize(("first", "second"), [("d", "d/"), ("d/", "d")])
async def test_a_file_and_a_directory_of_one_name_go_in_order(
    bench: Bench, autojump_clock: MockClock, first: str, second: str
) -> None:
    bench.slow = {first: 20.0}
    bench.want(first, Absent(), version(first))
    bench.write(second)
    await bench.settle()
    assert bench.order == [first, second]


async def test_a_marker_goes_when_all_below_is_gone(bench: Bench, autojump_clock: MockClock) -> None:
    for key in ("d/", "d/e/", "d/e/x", "d/y"):
        bench.want(key, Absent(), version(key))
    bench.slow = {"d/e/x": 30.0}
    await bench.settle()
    assert bench.order.index("d/e/x") < bench.order.index("d/e/") < bench.order.index("d/")
    assert bench.order.index("d/y") < bench.order.index("d/")


async def test_a_copy_goes_before_its_source(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"b": 30.0}
    bench.move("a", "b")
    bench.write("a", grace=0.0)
    await bench.settle()
    assert bench.order == ["b", "a"]


async def test_a_chain_of_renames_goes_from_its_end(bench: Bench, autojump_clock: MockClock) -> None:
    bench.move("b", "c")
    bench.move("a", "b", replaces=True)
    await bench.settle()
    assert bench.order == ["c", "b", "a"]
    assert bench.untied == []


async def test_one_content_is_sent_once_at_a_time(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"a": 30.0}
    bench.write("a", 7)
    await trio.sleep(GRACE + 1)
    bench.write("b", 7)
    await trio.sleep(20)
    assert bench.attempts == ["a"]
    await bench.settle()
    assert bench.order == ["a", "b"]


async def test_a_name_stays_while_an_upload_goes_to_it(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"new": 30.0}
    bench.first = {"old": "new"}
    bench.want("old", Absent())
    bench.write("new")
    await bench.settle()
    assert bench.order == ["new", "old"]


@pytest.mark.parametrize("ring", [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")])
async def test_a_ring_of_renames_is_untied_once(bench: Bench, autojump_clock: MockClock, ring: tuple[str, ...]) -> None:
    for key, source in zip(ring, (*ring[1:], ring[0]), strict=True):
        bench.want(key, Present(1, source=version(source)), version(key))
    await bench.settle()
    assert sorted(bench.order) == sorted(ring)
    assert len(bench.untied) == 1
    assert len(bench.overlay) == 0


async def test_two_rings_and_what_hangs_on_them(bench: Bench, autojump_clock: MockClock) -> None:
    for key, source in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "a")):
        bench.want(key, Present(1, source=version(source)), version(key))
    await bench.settle()
    assert sorted(bench.order) == ["a", "b", "c", "d", "e"]
    assert bench.order.index("e") < bench.order.index("a")


# --- removals


async def test_removals_go_together(bench: Bench, autojump_clock: MockClock) -> None:
    keys = [f"d/{number:04}" for number in range(2000)]
    for key in keys:
        bench.want(key, Absent(), version(key))
        await trio.sleep(0.001)
    await trio.sleep(LONG)
    assert sorted(bench.order) == keys
    assert [len(batch) for batch in bench.removals] == [MAX_REMOVALS, MAX_REMOVALS]


async def test_removals_that_never_cease_go_all_the_same(bench: Bench, autojump_clock: MockClock) -> None:
    for number in range(200):
        bench.want(f"k{number}", Absent(), version(f"k{number}"))
        await trio.sleep(GRACE / 2)
    assert len(bench.removals) >= 2


async def test_a_removal_taken_back_is_a_change_like_others(bench: Bench, autojump_clock: MockClock) -> None:
    bench.want("k", Absent(), version("k"))
    await trio.sleep(GRACE / 2)
    bench.write("k")
    await trio.sleep(LONG)
    assert (bench.removals, bench.order) == ([], ["k"])


async def test_of_a_batch_that_failed_all_are_tried_again(bench: Bench, autojump_clock: MockClock) -> None:
    bench.failing = {"b"}
    for key in ("a", "b", "c"):
        bench.want(key, Absent(), version(key))
    await trio.sleep(GRACE + 0.1)
    assert bench.order == []
    bench.failing.clear()
    await trio.sleep(LONG)
    assert sorted(bench.order) == ["a", "b", "c"]


async def test_a_server_that_removes_slowly_is_asked_for_less_at_once(
    bench: Bench, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each would end at its deadline, and the next be as long. The log has a line for each, not for each key."""
    bench.most_at_once = 100
    keys = [f"k{number:04}" for number in range(2 * MAX_REMOVALS)]
    for key in keys:
        bench.want(key, Absent(), version(key))
    await trio.sleep(LONG)
    assert sorted(bench.order) == keys
    failed = [batch for batch in bench.removals if len(batch) > 100]
    assert len(bench.removals) <= 2 * len(keys) / 50
    assert len(caplog.records) <= len(failed)
    caplog.clear()


# --- failures


async def test_failures_are_retried_with_growing_delay_for_ever(bench: Bench, autojump_clock: MockClock) -> None:
    bench.failing = {"k"}
    bench.write("k")
    await trio.sleep(3600)
    assert 3600 / 64 <= len(bench.attempts) <= 2 * 3600 / 64 + 15
    assert bench.scheduler.attempts("k") == (len(bench.attempts), "out of order")
    bench.failing.clear()
    await trio.sleep(65)
    assert bench.order == ["k"]
    assert bench.scheduler.attempts("k") == (0, "")


async def test_a_failure_is_told_once(bench: Bench, autojump_clock: MockClock) -> None:
    bench.failing, bench.failure = {"k"}, AccessDenied
    bench.write("k")
    await trio.sleep(GRACE + 0.1)
    assert isinstance(bench.scheduler.failure("k"), AccessDenied)
    assert bench.scheduler.failure("k") is None
    await trio.sleep(LONG)
    assert bench.scheduler.failure("k") is not None
    assert bench.scheduler.failure("another") is None


async def test_a_failed_attempt_at_what_is_not_wanted_any_more_is_none(bench: Bench, autojump_clock: MockClock) -> None:
    bench.slow = {"k": 10.0}
    bench.failing = {"k"}
    bench.write("k")
    await trio.sleep(GRACE + 1)
    bench.write("k")
    await trio.sleep(10)
    assert bench.scheduler.failure("k") is None
    bench.failing.clear()
    await bench.settle()
    assert bench.order == ["k"]


async def test_settling_goes_on_after_a_failure_and_raises_it(bench: Bench, autojump_clock: MockClock) -> None:
    bench.failing = {"a"}
    bench.slow = {"b": 100.0}
    bench.write("a")
    bench.write("b")
    bench.write("untouched", grace=LONG)
    with pytest.raises(ServerFault):
        await bench.settle("a", "b")
    assert bench.order == ["b"]
    assert "untouched" in bench.overlay
    bench.failing.clear()
    assert (await bench.settle("a"))[-1] == Left(0, 0)
    assert bench.order == ["b", "a"]


async def test_settling_does_not_wait_for_what_waits_for_a_failure(bench: Bench, autojump_clock: MockClock) -> None:
    bench.failing = {"c"}
    bench.move("b", "c")
    bench.move("a", "b", replaces=True)
    bench.write("d")
    with trio.fail_after(LONG), pytest.raises(ServerFault):
        await bench.settle()
    assert bench.order == ["d"]
    bench.failing.clear()
    await bench.settle()
    assert bench.order == ["d", "c", "b", "a"]


async def test_settling_does_not_wait_for_what_comes_later(bench: Bench, autojump_clock: MockClock) -> None:
    bench.write("a")

    async def go_on() -> None:
        for number in range(50):
            bench.write(f"later{number}", grace=LONG)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        with trio.fail_after(10):
            await bench.settle()
    assert bench.order == ["a"]


async def test_settling_tells_how_much_is_left(bench: Bench, autojump_clock: MockClock) -> None:
    bench.want("large", Present(5_000_000, 1))
    bench.want("small", Present(7, 2))
    bench.slow = {"large": 10.0}
    left = await bench.settle()
    assert (left[0], left[-1]) == (Left(2, 5_000_007), Left(0, 0))
    assert Left(1, 5_000_000) in left


# --- waiting costs nothing


async def test_what_can_not_go_costs_no_steps(bench: Bench, autojump_clock: MockClock) -> None:
    bench.held = {"held", "read"}
    bench.failing = {"failing"}
    bench.slow = {"slow": 2 * LONG}
    for key in ("held", "failing", "slow"):
        bench.write(key, grace=0.0)
    bench.want("read", Absent(), version("read"))
    bench.want("copy", Present(1, source=version("slow")), grace=0.0)
    bench.want("d/", Absent(), version("d/"))
    bench.write("d/held", grace=0.0)
    bench.held.add("d/held")
    for number in range(40):
        bench.want(f"large{number}", Present(1 << 30, 100 + number), grace=0.0)
        bench.slow[f"large{number}"] = 2 * LONG
    await trio.sleep(1)
    attempts = len(bench.attempts)
    counter = StepCounter()
    trio.lowlevel.add_instrument(counter)
    await trio.sleep(LONG)
    trio.lowlevel.remove_instrument(counter)
    retries = len(bench.attempts) - attempts
    assert retries < 40
    assert counter.steps < 100 + 10 * retries
    assert sum(key.startswith("large") for key in bench.attempts) == 4, "large files keep a few slots busy"


async def test_small_files_are_not_held_up_by_large_ones(bench: Bench, autojump_clock: MockClock) -> None:
    for number in range(50):
        bench.want(f"large{number}", Present(1 << 30, 100 + number), grace=0.0)
        bench.slow[f"large{number}"] = 10.0
    await trio.sleep(1)
    bench.write("small", grace=0.0)
    await trio.sleep(1)
    assert bench.order == ["small"]
    await trio.sleep(LONG)
    assert len(bench.done) == 51


KEYS = st.sampled_from(["a", "b", "d/x", "d/y", "d", "e/x"])
MOVES = st.tuples(st.just("move"), KEYS, KEYS)
OTHERS = st.tuples(st.sampled_from(["write", "remove"]), KEYS, st.just(""))


@settings(deadline=None, max_examples=80)
@given(
    changes=st.lists(MOVES | OTHERS, min_size=1, max_size=12),
    slow=st.dictionaries(KEYS, st.floats(0, 5), max_size=4),
    pauses=st.lists(st.floats(0, 2), min_size=12, max_size=12),
)
def test_everything_comes_true(
    changes: list[tuple[str, str, str]], slow: dict[str, float], pauses: list[float]
) -> None:
    """Whatever is asked for, and renamed in rings: nothing waits for ever, and no source goes before its copy."""

    async def run() -> None:
        bench = Bench()
        bench.slow = slow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.scheduler.run, bench)
            for (kind, key, new_key), pause in zip(changes, pauses, strict=False):
                if kind == "write":
                    bench.write(key)
                elif kind == "remove":
                    bench.want(key, Absent(), version(key))
                elif key != new_key:
                    bench.move(key, new_key, replaces=True)
                await trio.sleep(pause)
            with trio.fail_after(LONG):
                await bench.settle()
            await wait_all_tasks_blocked()
            assert len(bench.overlay) == 0
            nursery.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))
