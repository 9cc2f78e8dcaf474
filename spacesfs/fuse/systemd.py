"""Telling systemd how the mount is."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from spacesfs.tasks import open_team

_EXTENSION_SECONDS = 30


def notify(state: str) -> None:
    """Send lines of ``sd_notify`` state, if a service manager listens on ``$NOTIFY_SOCKET``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(state.encode())


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """Ask for more time for as long as the block lasts."""

    async def ask() -> None:
        while True:
            notify(f"EXTEND_TIMEOUT_USEC={2 * _EXTENSION_SECONDS * 1_000_000}")
            await trio.sleep(_EXTENSION_SECONDS)

    async with open_team() as team:
        team.start_soon(ask)
        yield
        team.cancel_scope.cancel()
