"""What the parts of a mount count, joined for those who look at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spacesfs.cache.disk import DiskStatistics
from spacesfs.content.reading import ReadSide
from spacesfs.fuse.messages import PendingChange, Reading, Usage
from spacesfs.openfiles import Opened
from spacesfs.pending.intents import Intent, Present, kind_of
from spacesfs.pending.overlay import Overlay
from spacesfs.tasks import give_way

MOST_SHOWN = 1000  # changes by name: a status of 100,000 has 11 MB, and takes 0.5 s of the event loop


@dataclass(slots=True)
class Waiting:
    """What is not in the Space: all of it counted, and some of it by name.

    Attributes:
        changes, bytes: How much that is; ``failed`` of the changes at their last attempt.
        oldest_since: When the oldest was made, in seconds since the epoch; infinite if there is none.
        opened: What open files hold beyond what is acknowledged.
    """

    changes: int = 0
    bytes: int = 0
    failed: int = 0
    oldest_since: float = float("inf")
    opened: list[PendingChange] = field(default_factory=list)
    _failures: list[PendingChange] = field(default_factory=list)
    _others: list[PendingChange] = field(default_factory=list)

    @property
    def shown(self) -> list[PendingChange]:
        """At most ``MOST_SHOWN`` of them, those that failed first."""
        return [*self._failures, *self._others, *self.opened][:MOST_SHOWN]

    def add(self, intent: Intent, path: str, age_seconds: float, attempts: int, error: str) -> None:
        """Count an intent."""
        size = intent.want.size if isinstance(intent.want, Present) else 0
        self.changes += 1
        self.bytes += size
        self.failed += bool(error)
        self.oldest_since = min(self.oldest_since, intent.since)
        listed = self._failures if error else self._others
        if len(listed) < MOST_SHOWN:
            listed.append(PendingChange(path, kind_of(intent), size, age_seconds, attempts, error or None))

    def add_open(self, path: str, size: int, since: float, age_seconds: float) -> None:
        """Count what a file holds of which nothing else is known."""
        self.changes += 1
        self.bytes += size
        self.oldest_since = min(self.oldest_since, since)
        self.opened.append(PendingChange(path, "open", size, age_seconds))


async def waiting_in(
    overlay: Overlay, attempts_of: Callable[[str], tuple[int, str]], unsaved: Iterable[Opened], prefix: str
) -> Waiting:
    """Return what is not in the Space, looked at in turns, so that a mount with very much of it goes on meanwhile.

    ``attempts_of`` tells of a key how often its change failed, and why the last time, or "".
    """
    now, waiting = time.time(), Waiting()
    for number, intent in enumerate(list(overlay), 1):
        attempts, error = attempts_of(intent.key)
        waiting.add(intent, intent.key.removeprefix(prefix), now - intent.since, attempts, error)
        await give_way(number)
    for opened in unsaved:
        if opened.inode.key not in overlay:
            since = opened.dirty_since or now
            waiting.add_open(opened.inode.key.removeprefix(prefix), opened.file.size, since, now - since)
    return waiting


def reading_of(side: ReadSide) -> Reading:
    """Return what reading has taken, from its three owners."""
    reader, pages = side.reader.statistics(), side.pages.statistics()
    disk = side.disk.statistics() if side.disk is not None else DiskStatistics()
    totals = reader.totals
    return Reading(
        hits=totals.hits,
        misses=totals.misses,
        requests=totals.requests,
        ahead_requests=totals.ahead_requests,
        cancelled_requests=totals.cancelled_requests,
        fetched_bytes=totals.fetched_bytes,
        ahead_bytes=pages.ahead_bytes,
        wasted_bytes=pages.wasted_bytes,
        disk=Usage(disk.used_bytes, disk.limit_bytes),
        disk_pages=disk.pages,
        disk_read_bytes=disk.read_bytes,
        disk_written_bytes=disk.written_bytes,
        disk_skipped_pages=disk.skipped_pages,
        disk_bad_pages=disk.bad_pages,
        waits=reader.waits.by_bound(),
        fetches=reader.fetches.by_bound(),
        readers=reader.readers,
        window_bytes=reader.window_bytes,
        request_bytes=reader.request_bytes,
        random_bytes=reader.random_bytes,
        round_trip_seconds=reader.round_trip_seconds,
        bytes_per_second=reader.bytes_per_second,
        wait_seconds=reader.waits.seconds,
        fetch_seconds=reader.fetches.seconds,
    )
