"""Telling systemd how the mount is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacesfs.fuse.systemd import notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager that listens at a path or at an abstract address."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@spacesfs-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))
        manager.settimeout(5)
        yield manager


def test_a_state_arrives_as_one_message(manager: socket.socket) -> None:
    notify("READY=1\nSTATUS=bücket is mounted")
    notify("STOPPING=1")
    assert manager.recv(1000).decode() == "READY=1\nSTATUS=bücket is mounted"
    assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize(
    "address", [None, "", "relative", "vsock:2:1234", "/nowhere/at/all", "@nobody-listens", "/" * 500]
)
def test_without_a_manager_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    before = set(os.listdir("/proc/self/fd"))
    notify("READY=1")
    assert set(os.listdir("/proc/self/fd")) <= before
