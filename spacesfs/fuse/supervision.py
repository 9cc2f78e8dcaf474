"""Who watches over the process of a mount, and how it shows that it is alive."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from spacesfs.fuse.systemd import notify

BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a process that serves a mount knows of who watches over it.

    Attributes:
        beat: Called about every ``BEAT_SECONDS`` for as long as the event loop turns.
        pid: The process that will replace this one, or None if that is not ours.
        replaces: Why it replaced an earlier process, or None.
    """

    beat: Callable[[], None]
    pid: int | None = None
    replaces: str | None = None


async def beat_for_ever(supervision: Supervision) -> None:
    """Show that the event loop turns; never returns."""
    while True:
        supervision.beat()
        await trio.sleep(BEAT_SECONDS)


def by_service_manager(environment: Mapping[str, str]) -> Supervision:
    """Return the supervision of systemd, where this process is to be watched by it; else one that nobody hears."""
    is_watched = environment.get("WATCHDOG_USEC", "").isdigit()
    is_meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if is_watched and is_meant:
        return Supervision(lambda: notify("WATCHDOG=1"))
    return Supervision(lambda: None)
