"""Waiting for the kernel's next request, as pyfuse3's workers do, on a pipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spacesfs.fuse.waiting import take_requests_as_they_come


class Worker:
    """Reads a byte at a time under the lock, as pyfuse3 reads requests."""

    def __init__(self, trio_for_pyfuse3: Any) -> None:
        self.trio = trio_for_pyfuse3
        self.lock = self.trio.Lock()
        self.taken = b""

    async def run(self, fd: int) -> None:
        while True:
            async with self.lock:
                await self.trio.lowlevel.wait_readable(fd)
            byte = os.read(fd, 1)
            self.taken += byte
            if byte == b"w":  # a request that has to wait for something
                await trio.lowlevel.checkpoint()


@pytest.fixture
def worker() -> Iterator[Worker]:
    module: Any = pyfuse3  # its stubs do not tell of this attribute
    own = module.trio
    take_requests_as_they_come()
    yield Worker(module.trio)
    module.trio = own


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)  # a read of nothing fails instead of waiting
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_requests_reach_one_of_many_workers(worker: Worker, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sent = b"0123w56789" * 20
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(worker.run, reading)
        for start in range(0, len(sent), 7):
            await wait_all_tasks_blocked()
            os.write(writing, sent[start : start + 7])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert worker.taken == sent


async def test_while_one_request_waits_another_worker_takes_the_next(worker: Worker, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"wr")
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(worker.run, reading)
        await wait_all_tasks_blocked()
        assert worker.taken == b"wr"
        nursery.cancel_scope.cancel()


async def test_other_tasks_have_their_turn_while_requests_keep_coming(worker: Worker, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"r" * 1000)
    turns: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, reading)
        while len(worker.taken) < 1000:
            turns.append(len(worker.taken))
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(turns) > 50


async def test_a_worker_that_is_told_of_the_end_leaves_the_lock(worker: Worker, pipe: tuple[int, int]) -> None:
    reading, _ = pipe
    ended: list[BaseException] = []

    async def run() -> None:
        try:
            await worker.run(reading)
        except trio.ClosedResourceError as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        for _ in range(2):
            trio.lowlevel.notify_closing(reading)
            await wait_all_tasks_blocked()
    assert len(ended) == 2
