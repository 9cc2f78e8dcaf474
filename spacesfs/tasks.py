"""Doing several things at once. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

STEPS_A_TURN = 500  # some milliseconds of looking at keys


@asynccontextmanager
async def open_team() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose first failure is raised as itself instead of in a group; it has cancelled the others."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        raise _first_failure(group) from None


async def give_way(number: int) -> None:
    """Let other tasks have their turn now and then in a long walk; ``number`` is how many steps it has made."""
    if not number % STEPS_A_TURN:
        await trio.lowlevel.checkpoint()


def _first_failure(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return next((error for error in leaves if not isinstance(error, trio.Cancelled)), leaves[0])
