"""Buffers: who gets one, who waits, and that none is lost."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.client.buffers import PIECE_BYTES, Buffers


async def test_as_many_as_fit_are_lent_in_the_order_of_asking() -> None:
    buffers = Buffers(2 * PIECE_BYTES)
    order: list[int] = []
    release = trio.Event()

    async def use(number: int, size: int) -> None:
        async with buffers.borrow(size) as buffer:
            assert len(buffer) == size
            order.append(number)
            await release.wait()

    async with trio.open_nursery() as nursery:
        for number, size in enumerate((PIECE_BYTES - 9, PIECE_BYTES, PIECE_BYTES - 1, 5 * PIECE_BYTES, 1)):
            nursery.start_soon(use, number, size)
            await wait_all_tasks_blocked()
        assert order == [0, 1]
        release.set()
    assert order == [0, 1, 2, 3, 4]


async def test_memory_is_used_again() -> None:
    buffers = Buffers()
    async with buffers.borrow() as buffer:
        buffer[:3] = b"abc"
    async with buffers.borrow(PIECE_BYTES - 1) as buffer:
        assert bytes(buffer[:3]) == b"abc"


async def test_whoever_is_cancelled_leaves_room() -> None:
    buffers = Buffers(3 * PIECE_BYTES)
    rng = random.Random(4)

    async def use(cancel_after: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_later, scope, cancel_after)
                async with buffers.borrow(rng.choice((1, PIECE_BYTES, 2 * PIECE_BYTES, 4 * PIECE_BYTES))):
                    await trio.lowlevel.checkpoint()

    async def cancel_later(scope: trio.CancelScope, turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(use, rng.randrange(40))
    with trio.fail_after(5):
        async with buffers.borrow(9 * PIECE_BYTES):
            pass


async def test_an_error_gives_the_buffer_back() -> None:
    buffers = Buffers(PIECE_BYTES)
    with pytest.raises(ZeroDivisionError):
        async with buffers.borrow():
            raise ZeroDivisionError
    with trio.fail_after(5):
        async with buffers.borrow():
            pass
