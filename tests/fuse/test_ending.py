"""What a service manager hears while changes go to the Space."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from spacesfs.fuse.ending import watch
from spacesfs.fuse.observing import Waiting
from spacesfs.metrics import RequestCounter, RequestTotals


@dataclass
class Draining:
    """A mount that sends bytes for a while, and then no more."""

    changes: int = 2
    is_draining: bool = False
    counter: RequestCounter = field(default_factory=RequestCounter)

    @property
    def connection(self) -> Any:
        return SimpleNamespace(requests=self.counter)

    @property
    def config(self) -> Any:
        return SimpleNamespace(bucket="my-bucket", mountpoint="/mnt/space")

    async def waiting(self) -> Waiting:
        return Waiting(self.changes, 10 * self.changes)


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        yield manager


async def test_more_time_is_asked_for_while_something_moves(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manager: socket.socket,
    autojump_clock: trio.testing.MockClock,
) -> None:
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    mount: Any = Draining()

    def heard() -> str:
        return manager.recv(1000).decode()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, mount)
        await trio.sleep(1)
        mount.counter.totals["write"] = RequestTotals(bytes_sent=5)
        await trio.sleep(6)
        assert heard() == "EXTEND_TIMEOUT_USEC=120000000\nSTATUS=2 changes, 20 bytes left to send"
        await trio.sleep(5)
        assert heard() == "STATUS=2 changes, 20 bytes left to send"
        mount.changes = 1
        await trio.sleep(5)
        assert heard() == "EXTEND_TIMEOUT_USEC=120000000\nSTATUS=1 changes, 10 bytes left to send"
        mount.changes = 0
        await trio.sleep(5)
        assert heard() == "STATUS=my-bucket is mounted on /mnt/space"
        nursery.cancel_scope.cancel()
