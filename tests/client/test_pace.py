"""Limits of bandwidth: what all connections together move in a second, on a clock that jumps."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from spacesfs.client.wire.connection import Connection
from spacesfs.client.wire.pace import Bandwidth, Pace

KIB = 1024
LIMIT = 100 * KIB
SIZE = 500 * KIB


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_several_share_a_limit(autojump_clock: trio.testing.MockClock) -> None:
    pace, began = Pace(LIMIT), trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pace.pay, LIMIT)
    assert trio.current_time() - began == pytest.approx(5)


async def test_time_without_bytes_is_not_saved_up(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(LIMIT)
    await trio.sleep(100)
    began = trio.current_time()
    await pace.pay(LIMIT)
    assert trio.current_time() - began == pytest.approx(1)


async def test_a_limit_can_be_set_and_taken_away(autojump_clock: trio.testing.MockClock) -> None:
    pace, began = Pace(), trio.current_time()
    await pace.pay(1 << 40)
    assert trio.current_time() == began
    assert pace.slice_bytes(1 << 20) == 1 << 20
    pace.set(LIMIT)
    await pace.pay(LIMIT // 2)
    assert trio.current_time() - began == pytest.approx(0.5)
    assert pace.slice_bytes(1 << 20) == LIMIT // 10
    pace.set(0)
    await pace.pay(1 << 40)
    assert trio.current_time() - began == pytest.approx(0.5)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_connection_keeps_to_it(
    way: str, pair: tuple[socket.socket, socket.socket], autojump_clock: trio.testing.MockClock
) -> None:
    """Bytes arrive whole, and take as long as they may."""
    ours, theirs = pair
    limited = Connection(ours, Bandwidth(**{way: LIMIT}))
    free = Connection(theirs)
    sender, receiver = (limited, free) if way == "up" else (free, limited)
    sent = bytes(range(256)) * (SIZE // 256)
    received = bytearray(SIZE)

    async def receive() -> None:
        left = memoryview(received)
        while left:
            left = left[await receiver.receive_into(left, 1000) :]

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await sender.send(memoryview(sent), 1000)
    assert received == sent
    assert trio.current_time() - began >= SIZE / LIMIT - 0.01
