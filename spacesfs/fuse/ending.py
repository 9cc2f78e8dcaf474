"""The end of a mount: what is acknowledged goes to the Space first, and what can't is safe in the journal."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import NamedTuple

import trio

from spacesfs.client.errors import SpacesError
from spacesfs.errors import Conflict, FsError, LeftBehind
from spacesfs.fuse.messages import PendingChange
from spacesfs.fuse.mount import Mount
from spacesfs.fuse.observing import Waiting
from spacesfs.fuse.systemd import notify
from spacesfs.pending.statedir import StateFolder
from spacesfs.tasks import open_team

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_LINES_EVERY = 6  # looks
_EXTENSION = "EXTEND_TIMEOUT_USEC=120000000"  # systemd: a part of 64 MiB at 5 Mbit/s, and some
_SAVE_SECONDS = 10.0
_NAMES_SHOWN = 3


class Ending:
    """Sees a mount off, in two steps: while the kernel is still served, and after that what came meanwhile.

    Each change gets one attempt. What fails stays in the journal: who unmounts does not wait for a Space that is away.
    """

    def __init__(self, mount: Mount, folder: StateFolder) -> None:
        self.mount = mount
        self._folder = folder
        self._failure: Exception | None = None

    def begin(self) -> None:
        """Say that the mount is ending. May be called again."""
        if not self.mount.is_draining:
            self.mount.is_draining = True
            self._folder.note("bringing the last changes to the Space")
            notify("STOPPING=1\nSTATUS=bringing the last changes to the Space")

    async def drain(self) -> None:
        """Bring what is acknowledged by now to the Space; a failure is kept for `finish`."""
        try:
            async for _ in self.mount.parts.filesystem.sync(""):
                pass
        except Conflict as error:
            log.warning("%s", error)  # both versions are in the Space
        except (FsError, SpacesError, OSError) as error:
            self._failure = error

    async def finish(self) -> None:
        """Bring the rest to the Space once the kernel is let go; after a failure, only to the journal.

        Raises:
            LeftBehind: Something is not in the Space.
        """
        await self.mount.parts.filesystem.files.release_all()
        if self._failure is None:
            await self.drain()
        else:
            await self._save()
        waiting = await self.mount.waiting()
        if waiting.changes:
            raise LeftBehind(self._left_behind(waiting))

    async def quit(self) -> None:
        """Let everything be as it is, but for what is not even in the journal yet.

        Raises:
            LeftBehind: Always.
        """
        await self._save()
        waiting = await self.mount.waiting()
        raise LeftBehind(self._left_behind(waiting) if waiting.changes else "told twice to end")

    async def _save(self) -> None:
        with trio.move_on_after(_SAVE_SECONDS):
            for opened in self.mount.parts.filesystem.files.unsaved():
                try:
                    await self.mount.parts.filesystem.files.save(opened)
                except (FsError, SpacesError, OSError) as error:
                    log.warning("%s is not in the journal: %s", opened.inode.key, error)

    def _left_behind(self, waiting: Waiting) -> str:
        lost = waiting.opened
        safe = [change for change in waiting.shown if change.kind != "open"]
        texts = []
        if safe:
            count, space = waiting.changes - len(lost), self._folder.identity.space
            size = waiting.bytes - sum(change.size_bytes for change in lost)
            texts.append(
                f"not in the Space, but safe in the journal: {count} changes, {size} bytes ({_names(safe, count)}); "
                f"the next mount sends them, or: spacesfs sync {space}"
            )
        if lost:
            texts.append(f"lost, for the journal could not take it: {_names(lost, len(lost))}")
        return "; ".join(texts) + (f" ({self._failure})" if self._failure is not None else "")


async def end_on_signal(ending: Ending, terminate: Callable[[], None]) -> None:
    """On the first signal bring everything to the Space while programs are still answered, then ``terminate``.

    Raises:
        LeftBehind: A second signal came.
    """

    async def drain() -> None:
        await ending.drain()
        terminate()

    was_told = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_team() as team:
            async for number in signals:
                if was_told:
                    await ending.quit()
                was_told = True
                log.info("%s: bringing the last changes to the Space", signal.Signals(number).name)
                if not ending.mount.is_draining:  # else somebody has unmounted it, which is no signal
                    ending.begin()
                    team.start_soon(drain)


async def watch(mount: Mount) -> None:
    """Tell the service manager what is left to send, and ask for more time while something moves; never returns.

    The log hears of it when the mount is ending.
    """
    before, looks = await _progress(mount), 0
    while True:
        await trio.sleep(_LOOK_SECONDS)
        now = await _progress(mount)
        if not now.changes:
            notify(f"STATUS={mount.config.bucket} is mounted on {mount.config.mountpoint}")
        else:
            line = f"{now.changes} changes, {now.bytes} bytes left to send"
            notify(f"STATUS={line}" if now == before else f"{_EXTENSION}\nSTATUS={line}")
            looks += mount.is_draining
            if mount.is_draining and looks % _LINES_EVERY == 1:
                log.info("%s", line)
        before = now


class _Progress(NamedTuple):
    """What is left, and what differs from before as long as something moves."""

    changes: int
    bytes: int
    sent_bytes: int


async def _progress(mount: Mount) -> _Progress:
    waiting = await mount.waiting()
    sent_bytes = sum(totals.bytes_sent for totals in mount.connection.requests.totals.values())
    return _Progress(waiting.changes, waiting.bytes, sent_bytes)


def _names(changes: list[PendingChange], count: int) -> str:
    names = ", ".join(change.path for change in changes[:_NAMES_SHOWN])
    return f"{names} and {count - _NAMES_SHOWN} more" if count > _NAMES_SHOWN else names
