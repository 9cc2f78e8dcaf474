"""Memory permits: a cap that always holds, turns in the order of asking, nothing lost to cancellation."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from spacesfs.content.budget import ByteBudget

LIMIT = 100


async def hold(budget: ByteBudget, size: int, name: str, log: list[str], until: trio.Event) -> None:
    async with budget.reserve(size):
        log.append(name)
        await until.wait()


async def test_turns_go_in_the_order_of_asking() -> None:
    budget, until = ByteBudget(LIMIT), [trio.Event() for _ in range(4)]
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        for number, size in enumerate((60, 60, 10, 40)):
            nursery.start_soon(hold, budget, size, str(number), log, until[number])
            await wait_all_tasks_blocked()
        assert log == ["0"]  # the small ones fit, and wait all the same
        assert not budget.has_room(1)
        until[0].set()
        await wait_all_tasks_blocked()
        assert sorted(log) == ["0", "1", "2"]
        until[1].set()
        await wait_all_tasks_blocked()
        assert sorted(log[:3]) == ["0", "1", "2"]
        assert log[3] == "3"
        until[2].set()
        until[3].set()
    assert budget.used_bytes == 0
    assert budget.has_room(LIMIT)
    assert not budget.has_room(LIMIT + 1)


async def test_more_than_there_is_runs_alone() -> None:
    budget, until = ByteBudget(LIMIT), [trio.Event() for _ in range(2)]
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, budget, 1000 * LIMIT, "huge", log, until[0])
        await wait_all_tasks_blocked()
        nursery.start_soon(hold, budget, 1, "small", log, until[1])
        await wait_all_tasks_blocked()
        assert (log, budget.used_bytes) == (["huge"], LIMIT)
        until[0].set()
        await wait_all_tasks_blocked()
        assert log == ["huge", "small"]
        until[1].set()
    assert budget.used_bytes == 0


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    budget, until = ByteBudget(LIMIT), trio.Event()
    log: list[str] = []
    impatient = trio.CancelScope()

    async def wait_in_vain() -> None:
        with impatient:
            await hold(budget, 90, "impatient", log, until)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, budget, 50, "first", log, until)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        nursery.start_soon(hold, budget, 50, "second", log, until)
        await wait_all_tasks_blocked()
        assert log == ["first"]
        impatient.cancel()
        await wait_all_tasks_blocked()
        assert log == ["first", "second"]
        until.set()
    assert budget.used_bytes == 0


async def test_a_turn_that_comes_with_the_cancellation_is_given_back() -> None:
    budget, until = ByteBudget(LIMIT), trio.Event()
    log: list[str] = []
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await hold(budget, LIMIT, "second", log, until)

    async with trio.open_nursery() as nursery:
        async with budget.reserve(LIMIT):
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            scope.cancel()
        await wait_all_tasks_blocked()
    assert log == []
    assert budget.used_bytes == 0
    assert budget.has_room(LIMIT)


async def test_an_error_inside_gives_back() -> None:
    budget = ByteBudget(LIMIT)
    with pytest.raises(KeyError):
        async with budget.reserve(10):
            raise KeyError
    assert budget.used_bytes == 0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 2 * LIMIT), st.floats(0, 5), st.none() | st.floats(0, 8)), min_size=1, max_size=20
    )
)
def test_the_cap_holds_whatever_happens(holders: list[tuple[int, float, float | None]]) -> None:
    budget = ByteBudget(LIMIT)
    in_use = most = 0

    async def use(size: int, seconds: float, patience: float | None) -> None:
        nonlocal in_use, most
        with trio.move_on_after(patience if patience is not None else float("inf")):
            async with budget.reserve(size):
                in_use += min(size, LIMIT)
                most = max(most, in_use)
                assert 0 <= budget.used_bytes <= LIMIT
                try:
                    await trio.sleep(seconds)
                finally:
                    in_use -= min(size, LIMIT)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for holder in holders:
                nursery.start_soon(use, *holder)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert most <= LIMIT
    assert budget.used_bytes == 0
    assert budget.has_room(LIMIT)


async def test_a_smaller_budget_lends_when_enough_came_back_and_lets_nobody_wait_for_ever() -> None:
    budget, until = ByteBudget(LIMIT), [trio.Event() for _ in range(4)]
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        for number, size in enumerate((60, 80, 10)):
            nursery.start_soon(hold, budget, size, str(number), log, until[number])
            await wait_all_tasks_blocked()
        budget.resize(LIMIT // 2)
        nursery.start_soon(hold, budget, 10, "3", log, until[3])
        await wait_all_tasks_blocked()
        assert log == ["0"]
        until[0].set()
        await wait_all_tasks_blocked()
        assert log == ["0", "1"], "asked for when there was more: it has its turn, alone"
        until[1].set()
        await wait_all_tasks_blocked()
        assert sorted(log[2:]) == ["2", "3"]
        until[2].set()
        until[3].set()
    assert budget.used_bytes == 0


async def test_a_larger_budget_lends_at_once() -> None:
    budget, until = ByteBudget(LIMIT), trio.Event()
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(hold, budget, 60, str(number), log, until)
            await wait_all_tasks_blocked()
        assert log == ["0"]
        budget.resize(2 * LIMIT)
        await wait_all_tasks_blocked()
        assert log == ["0", "1"]
        until.set()
