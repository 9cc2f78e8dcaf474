"""One mount while it lives: what the control socket shows, and what it does when asked."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import trio
from pydantic import ValidationError

from spacesfs import __version__
from spacesfs.assembly import Parts
from spacesfs.config import CHANGEABLE, MountConfig, Options, first_reason, flag_name
from spacesfs.errors import MountError
from spacesfs.fuse.kernel import KernelLimits, KernelNotifier
from spacesfs.fuse.messages import (
    Change,
    LongWork,
    MountStatus,
    RequestCounts,
    SyncProgress,
    Throttling,
    Usage,
)
from spacesfs.fuse.observing import Waiting, reading_of, waiting_in
from spacesfs.fuse.supervision import Supervision
from spacesfs.logs import level, set_level
from spacesfs.pending.intents import Intent
from spacesfs.pending.selection import selected
from spacesfs.standing import Standing
from spacesfs.start import Connection, serving_options
from spacesfs.tree.names import key_of

_KERNEL_SECONDS = 5.0  # for what it has to forget; it waits for requests in flight
_REST_SECONDS, _POLL_SECONDS = 60.0, 0.05


@dataclass(slots=True)
class Mount:
    """The mount, as the control socket sees it. ``notices`` are of its start; ``journal`` is its folder.

    ``replaces`` is why it took the place of an earlier process that died. ``kernel_notice`` says what the kernel would
    not do for it.
    """

    connection: Connection[MountConfig]
    parts: Parts
    journal: Path
    kernel: KernelNotifier
    notices: list[str]
    standing: Standing
    supervision: Supervision
    replaces: str | None = None
    kernel_notice: str | None = None
    is_draining: bool = False
    since: float = field(default_factory=time.time)
    _changed: MountConfig | None = None

    @property
    def config(self) -> MountConfig:
        """The options of the mount as they are now, and where its bucket is."""
        return self._changed or self.connection.config

    async def status(self) -> MountStatus:
        """Return how the mount is now."""
        waiting, work = await self.waiting(), await self.work()
        config, network = self.config, self.connection.client.statistics()
        reading = self.parts.reading
        return MountStatus(
            bucket=config.bucket,
            prefix=config.prefix,
            mountpoint=str(config.mountpoint),
            endpoint=config.address.url,
            pid=os.getpid(),
            version=__version__,
            state="draining" if self.is_draining else "serving",
            since=self.since,
            durability=config.durability,
            read_only=self.standing.read_only_reason is not None,
            read_only_reason=self.standing.read_only_reason,
            pending=waiting.shown,
            pending_changes=waiting.changes,
            pending_bytes=waiting.bytes,
            pending_failed=waiting.failed,
            pending_oldest_seconds=max(time.time() - waiting.oldest_since, 0.0),
            memory=Usage(reading.pages.used_bytes + reading.budget.used_bytes, config.memory),
            staging=Usage(self.parts.staging.used_bytes, self.parts.staging.limit_bytes),
            requests={
                name: RequestCounts(
                    totals.sent, totals.failed, totals.throttled, totals.bytes_sent, totals.bytes_received
                )
                for name, totals in self.connection.requests.totals.items()
            },
            notices=[
                *self.notices,
                *self.parts.surroundings.notices,
                *reading.notices,
                *filter(None, [self.kernel_notice]),
            ],
            journal=str(self.journal),
            offline_since=network.offline_since,
            throttling={
                name: Throttling(lane.window, lane.full_window, lane.rate, lane.full_rate, lane.waiting)
                for name, lane in network.lanes.items()
                if lane.is_slowed
            },
            reading=reading_of(reading),
            limit_down=self.connection.client.bandwidth.down.bytes_per_second,
            limit_up=self.connection.client.bandwidth.up.bytes_per_second,
            log_level=level(),
            supervisor=self.supervision.pid,
            replaces=self.replaces,
            work=work,
        )

    async def waiting(self) -> Waiting:
        """Return what is not in the Space: what is acknowledged, and what open files hold beyond that."""
        ledger, files = self.parts.ledger, self.parts.filesystem.files
        return await waiting_in(ledger.overlay, ledger.scheduler.attempts, files.unsaved(), self.config.prefix)

    async def work(self) -> list[LongWork]:
        """Return the uploads and the directory renames under way."""
        ledger, prefix = self.parts.ledger, self.config.prefix
        return [
            LongWork(
                one.key.removeprefix(prefix),
                None if one.new_key is None else one.new_key.removeprefix(prefix),
                one.done,
                one.total,
                one.bytes_left,
                one.a_second,
                one.seconds_left,
            )
            for one in (*self.parts.uploads.under_way(), *await ledger.moves.under_way(list(ledger.overlay)))
        ]

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        """Bring all changes to the Space, or those at and below ``path``."""
        total = 0
        async for left in self.parts.filesystem.sync(path or ""):
            total = max(total, left.bytes)
            yield SyncProgress(left.changes, left.bytes, total)

    def retry(self, paths: list[str]) -> int:
        """Try again at once what waits at and below paths, relative to the root; return how many changes that is."""
        found = selected(self.parts.ledger.overlay, self._keys(paths))
        for intent in found:
            self.parts.ledger.scheduler.hurry(intent.key)
        return len(found)

    async def drop(self, paths: list[str]) -> int:
        """Forget what waits at and below paths, relative to the root; return how many changes that was.

        Raises:
            MountError: A file among them is open for writing, or is just being sent.
            NoSpace, FsError: The journal can't be written.
        """
        found = await self._resting(paths)
        await self.parts.ledger.drop(intent.key for intent in found)
        for intent in found:
            self.parts.surroundings.dropped(intent)
        return len(found)

    async def refresh(self, path: str) -> bool:
        """Forget what is known of what lies at and below a path; say whether the kernel has, too."""
        self.parts.filesystem.refresher.refresh(path)
        return await self.kernel.settle(_KERNEL_SECONDS)

    async def drop_cache(self) -> None:
        """Forget the pages in memory and on the disk. The kernel keeps its own."""
        self.parts.reading.pages.clear()
        if self.parts.reading.disk is not None:
            await self.parts.reading.disk.clear()

    async def change(self, change: Change) -> None:
        """Change options of the running mount, all or none of them.

        Raises:
            MountError: One can't be what is asked for.
        """
        wanted = {name: value for name in CHANGEABLE if (value := getattr(change, name)) is not None}
        try:
            Options.model_validate(wanted)
        except ValidationError as error:
            name, reason = first_reason(error)
            raise MountError(f"{flag_name(name)}: {reason}") from error
        config = self._changed = self.config.model_copy(update=wanted)
        bandwidth = self.connection.client.bandwidth
        bandwidth.down.set(config.limit_down)
        bandwidth.up.set(config.limit_up)
        if change.log_level is not None:
            set_level(change.log_level)
        if wanted.keys() & {"memory", "cache_size"}:
            await self.parts.resize(serving_options(config, KernelLimits.within(config.memory).memory_bytes))

    async def _resting(self, paths: list[str]) -> list[Intent]:
        """Return the intents at and below paths once none is under way: it could still arrive."""
        ledger = self.parts.ledger
        deadline = trio.current_time() + _REST_SECONDS
        while True:
            found = selected(ledger.overlay, self._keys(paths))
            for intent in found:
                if self.parts.surroundings.is_held(intent):
                    raise MountError(f"{self._path(intent)} is open in the mount; close it first")
            busy = next((intent for intent in found if ledger.scheduler.is_busy(intent.key)), None)
            if busy is None:
                return found
            if trio.current_time() > deadline:
                raise MountError(f"{self._path(busy)} is being sent just now; try again later")
            await trio.sleep(_POLL_SECONDS)

    def _path(self, intent: Intent) -> str:
        return intent.key.removeprefix(self.config.prefix)

    def _keys(self, paths: list[str]) -> list[str]:
        return [self.config.prefix + key_of(path.strip("/")) for path in paths]
