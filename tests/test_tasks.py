"""Teams: several tasks, one failure."""

from __future__ import annotations

import pytest
import trio

from spacesfs.tasks import open_team


async def fail(error: Exception, after: trio.Event | None = None) -> None:
    if after is not None:
        await after.wait()
    raise error


async def test_a_failure_comes_as_itself_and_ends_the_others() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("waiting")

    async def work() -> None:
        async with open_team() as team:
            team.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            team.start_soon(fail, KeyError("first"))

    with pytest.raises(KeyError, match="first"):
        await work()
    assert ended == ["waiting"]


async def test_the_body_may_fail_too() -> None:
    async def work() -> None:
        async with open_team() as team:
            team.start_soon(trio.sleep_forever)
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        await work()


async def test_of_several_failures_one_comes() -> None:
    async def work() -> None:
        start = trio.Event()
        async with open_team() as team:
            for _ in range(3):
                team.start_soon(fail, ValueError("failed"), start)
            start.set()

    with pytest.raises(ValueError, match="failed"):
        await work()


async def test_teams_within_teams() -> None:
    async def inner() -> None:
        async with open_team() as team:
            team.start_soon(fail, KeyError("inner"))

    async def outer() -> None:
        async with open_team() as team:
            team.start_soon(inner)
            team.start_soon(trio.sleep_forever)

    with pytest.raises(KeyError, match="inner"):
        await outer()


async def test_cancellation_stays_cancellation() -> None:
    with trio.CancelScope() as scope:
        async with open_team() as team:
            team.start_soon(trio.sleep_forever)
            team.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


async def test_a_failure_during_cancellation_is_not_lost() -> None:
    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("cleanup")

    async def work() -> None:
        with trio.CancelScope() as scope:
            async with open_team() as team:
                team.start_soon(fail_at_the_end)
                team.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    with pytest.raises(KeyError, match="cleanup"):
        await work()


async def test_success_is_quiet() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    async with open_team() as team:
        for number in range(3):
            team.start_soon(work, number)
    assert sorted(done) == [0, 1, 2]
