"""One mount while it lives: what the control socket shows, and what it does when asked."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from spacesfs import __version__
from spacesfs.assembly import Parts
from spacesfs.config import MountConfig
from spacesfs.fuse.messages import MountStatus, PendingChange, RequestCounts, SyncProgress, Throttling, Usage
from spacesfs.pending.intents import Present, kind_of
from spacesfs.start import Connection


@dataclass(slots=True)
class Mount:
    """The mount, as the control socket sees it. ``notices`` are of its start, a line each."""

    connection: Connection
    parts: Parts
    notices: list[str]
    read_only_reason: str | None
    is_draining: bool = False
    since: float = field(default_factory=time.time)

    @property
    def config(self) -> MountConfig:
        """The options of the mount, and where its bucket is."""
        return self.connection.config

    def status(self) -> MountStatus:
        """Return how the mount is now."""
        config, network, pending = self.config, self.connection.client.statistics(), self.pending()
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
            read_only=self.read_only_reason is not None,
            read_only_reason=self.read_only_reason,
            pending=pending,
            pending_bytes=sum(change.size_bytes for change in pending),
            memory=Usage(self.parts.pages.used_bytes + self.parts.budget.used_bytes, config.memory),
            staging=Usage(self.parts.staging.used_bytes, self.parts.staging.limit_bytes),
            requests={
                name: RequestCounts(
                    totals.sent, totals.failed, totals.throttled, totals.bytes_sent, totals.bytes_received
                )
                for name, totals in self.connection.requests.totals.items()
            },
            notices=[*self.notices, *self.parts.surroundings.notices],
            offline_since=network.offline_since,
            throttling={
                name: Throttling(lane.window, lane.full_window, lane.rate, lane.full_rate, lane.waiting)
                for name, lane in network.lanes.items()
                if lane.is_slowed
            },
        )

    def pending(self) -> list[PendingChange]:
        """Return what is not in the Space: what is acknowledged, and what open files hold beyond that."""
        now, ledger = time.time(), self.parts.ledger
        scheduler = ledger.scheduler
        pending = []
        for intent in ledger.overlay:
            attempts, error = scheduler.attempts(intent.key)
            size = intent.want.size if isinstance(intent.want, Present) else 0
            path = intent.key.removeprefix(self.config.prefix)
            change = PendingChange(path, kind_of(intent), size, now - intent.since, attempts, error or None)
            pending.append(change)
        for opened in self.parts.filesystem.files.unsaved():
            if opened.inode.key not in ledger.overlay:
                path = opened.inode.key.removeprefix(self.config.prefix)
                age = now - (opened.dirty_since or now)
                pending.append(PendingChange(path, "open", opened.file.size, age))
        return pending

    async def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        """Bring all changes to the Space, or those at and below ``path``."""
        total = 0
        async for left in self.parts.filesystem.sync(path or ""):
            total = max(total, left.bytes)
            yield SyncProgress(left.changes, left.bytes, total)
