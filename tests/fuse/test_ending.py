"""What a service manager hears while a mount drains."""

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

from spacesfs.fuse.ending import watched
from spacesfs.fuse.messages import PendingChange
from spacesfs.metrics import RequestCounter, RequestTotals


@dataclass
class Draining:
    """A mount that sends bytes for a while, and then no more."""

    left: int = 2
    counter: RequestCounter = field(default_factory=RequestCounter)

    @property
    def connection(self) -> Any:
        return SimpleNamespace(requests=self.counter)

    def pending(self) -> list[PendingChange]:
        return [PendingChange("a", "write", 10, 0.0)] * self.left


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

    async with watched(mount):
        await trio.sleep(1)
        mount.counter.totals["write"] = RequestTotals(bytes_sent=5)
        await trio.sleep(6)
        assert heard() == "EXTEND_TIMEOUT_USEC=120000000\nSTATUS=2 changes, 20 bytes left to send"
        await trio.sleep(5)
        assert heard() == "STATUS=2 changes, 20 bytes left to send"
        mount.left = 1
        await trio.sleep(5)
        assert heard() == "EXTEND_TIMEOUT_USEC=120000000\nSTATUS=1 changes, 10 bytes left to send"
    await trio.sleep(30)
    with pytest.raises(BlockingIOError):
        heard()
