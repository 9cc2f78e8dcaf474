"""Changes of intents, laid over the view at once and brought to the journal together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from spacesfs.client.models import ObjectVersion
from spacesfs.content.content import Contents
from spacesfs.pending.changes import Change, DropIntent, SaveIntent
from spacesfs.pending.intents import Absent, Intent, Present, Want
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Scheduler


class Keeper(Protocol):
    """Where changes are safe."""

    async def commit(self, *changes: Change) -> None:
        """Return when changes are on stable storage."""

    def post(self, *changes: Change) -> None:
        """Bring changes to stable storage some time, in order."""

    @property
    def is_behind(self) -> bool:
        """Say whether something that was asked for could not be stored yet."""


@dataclass(slots=True)
class Batch:
    """What goes to the journal together; ``freed`` are contents that may go once it is there."""

    rows: list[Change] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class Entries:
    """Writes intents. What is decided without an await is atomic for the rest of the mount.

    Attributes:
        is_direct: A change goes to the Space at once, for that is where it is acknowledged.
    """

    def __init__(
        self,
        overlay: Overlay,
        journal: Keeper,
        contents: Contents,
        scheduler: Scheduler,
        upload_at: Callable[[str], int | None],
        *,
        is_direct: bool,
    ) -> None:
        self.overlay = overlay
        self.contents = contents
        self.scheduler = scheduler
        self.journal = journal
        self.is_direct = is_direct
        self._upload_at = upload_at
        self._order = max((intent.order for intent in overlay), default=0)

    def next_order(self) -> int:
        """Return the place of a new change among all."""
        self._order += 1
        return self._order

    async def commit(self, batch: Batch) -> None:
        """Return when a batch is on stable storage."""
        await self.journal.commit(*batch.rows)
        self._free(batch)

    def post(self, batch: Batch) -> None:
        """Bring a batch to stable storage some time, in order."""
        if batch.rows:
            self.journal.post(*batch.rows)
        self._free(batch)

    def _free(self, batch: Batch) -> None:
        for number in batch.freed:
            if not self.overlay.users(number):
                self.contents.tidy(number)

    def put(self, batch: Batch, key: str, want: Present, replaces: ObjectVersion | None) -> None:
        """A key shall hold an object; ``replaces`` is what the Space holds there, as far as is known."""
        old = self.overlay.get(key)
        base = old.base if old is not None else replaces
        if base is not None and want == Present(base.size, source=base) and self._is_settled(key):
            self.drop(batch, key)  # what the Space holds already: renamed away and back
        else:
            self.set(batch, key, want, base)

    def remove(self, batch: Batch, key: str, version: ObjectVersion | None) -> None:
        """A key shall hold nothing; ``version`` is what the Space holds, as far as is known."""
        old = self.overlay.get(key)
        base = old.base if old is not None else version
        is_unseen = not key.endswith("/") or (old is not None and not self.overlay.waits_below(key))
        if base is None and is_unseen and self._is_settled(key):
            self.drop(batch, key)
        else:
            self.set(batch, key, Absent(), base)

    def _is_settled(self, key: str) -> bool:
        """Say whether nothing of ours can be under way to a key."""
        intent = self.overlay.get(key)
        has_tried = intent is not None and bool(intent.attempts)
        return not has_tried and not self.scheduler.is_busy(key) and self._upload_at(key) is None

    def set(self, batch: Batch, key: str, want: Want, base: ObjectVersion | None) -> None:
        """A key shall become something, whatever was wanted of it before."""
        old = self.overlay.get(key)
        order = self.next_order()
        if old is None:
            intent = Intent(key, order, want, base, time.time())
        else:
            intent = replace(old, order=order, want=want, base=base)
        self.replace(batch, old, intent)
        self.scheduler.changed(key, 0.0 if self.is_direct or isinstance(want, Absent) else None)

    def replace(self, batch: Batch, old: Intent | None, intent: Intent) -> None:
        """Write an intent as it is now."""
        self.overlay.put(intent)
        batch.rows.append(SaveIntent(intent))
        batch.keys.append(intent.key)
        _note_freed(batch, old)

    def drop(self, batch: Batch, key: str) -> None:
        """Nothing is wanted of a key any more."""
        old = self.overlay.remove(key)
        if old is not None:
            self.scheduler.dropped(key)
            batch.rows.append(DropIntent(key))
            _note_freed(batch, old)


def _note_freed(batch: Batch, old: Intent | None) -> None:
    if old is not None and isinstance(old.want, Present) and old.want.content is not None:
        batch.freed.append(old.want.content)
