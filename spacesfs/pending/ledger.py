"""What is acknowledged: each change is laid over the view at once, is safe when its call returns, and then goes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import trio

from spacesfs.attributes import Attributes
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.content import Content
from spacesfs.errors import FsError
from spacesfs.pending.changes import SaveContent, SaveIntents
from spacesfs.pending.entries import Batch, Entries
from spacesfs.pending.grace import Habits
from spacesfs.pending.intents import Present
from spacesfs.pending.progress import Moves
from spacesfs.pending.treemove import TreeMove


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes belong: its key, its attributes, and the version there that they replace."""

    key: str
    attributes: Attributes
    replaces: ObjectVersion | None


@dataclass(frozen=True, slots=True)
class Move:
    """An object, or a file that is still to become one, gets another name.

    ``version`` is what the Space holds under ``key``, ``replaces`` what it holds under ``new_key``, as far as is known.
    """

    key: str
    new_key: str
    size: int
    version: ObjectVersion | None
    replaces: ObjectVersion | None


class Ledger:
    """The intents of a mount, in memory and in the journal.

    A change is decided without an await, so each is atomic for the rest of the mount; then its call waits until it is
    safe: in the journal, or with ``is_direct`` in the Space.
    """

    def __init__(self, entries: Entries, *, grace_seconds: float) -> None:
        self.overlay = entries.overlay
        self.contents = entries.contents
        self.scheduler = entries.scheduler
        self.is_direct = entries.is_direct
        self.moves = Moves()
        self._entries = entries
        self._habits = Habits(grace_seconds)

    # --- changes that programs make

    async def save(self, content: Content, where: Callable[[], Place | None]) -> None:
        """Make a file's bytes so far safe under the key that it has by then; None means that nobody needs them.

        Raises:
            NoSpace: The local disk is full.
        """
        async with content.lock:
            changes = content.staged.changes
            record = await content.staged.make_durable()
            place = where()
            if place is None:
                return
            batch = Batch([SaveContent(record)])
            self._entries.put(batch, place.key, self.with_content(place, content), place.replaces)
            await self._entries.commit(batch)
            content.saved_changes = changes  # only now: after a refusal the next fsync must not find all safe
            content.staged.trim(record)

    def with_content(self, place: Place, content: Content) -> Present:
        """Return what a key shall hold: these bytes, and all that is known of its properties."""
        old = self.overlay.present(place.key)
        properties = ObjectProperties() if place.replaces is None else None
        source = content.source or place.replaces
        if old is not None:
            properties, source = old.properties, content.source or old.source
        return Present(content.staged.size, content.number, source, place.attributes, properties)

    async def put(self, key: str, want: Present, replaces: ObjectVersion | None, thread: int = 0) -> None:
        """A key shall hold an object: one just made, or one whose properties change."""
        batch = Batch()
        self._entries.put(batch, key, want, replaces)
        self._touch(thread, key, key)
        await self._acknowledge(batch)

    async def make(self, key: str, body: bytes, want: Present, replaces: ObjectVersion | None = None) -> None:
        """A key shall hold a new object with a small body: a marker, a symbolic link, a special file."""
        batch = Batch()
        self._make(batch, key, body, want, replaces)
        try:
            await self._acknowledge(batch)
        except (FsError, SpacesError):
            batch = Batch()
            self._entries.drop(batch, key)
            self._entries.post(batch)
            raise

    def _make(self, batch: Batch, key: str, body: bytes, want: Present, replaces: ObjectVersion | None) -> None:
        content = self.contents.new()
        if body:
            content.staged.write(0, body)
        batch.rows.append(SaveContent(content.staged.record()))
        self._entries.put(batch, key, replace(want, content=content.number), replaces)
        content.saved_changes = content.staged.changes
        self.contents.rest(content)

    async def remove(self, key: str, version: ObjectVersion | None) -> None:
        """A key shall hold nothing; ``version`` is what the Space holds, as far as is known."""
        batch = Batch()
        self._entries.remove(batch, key, version)
        await self._acknowledge(batch)

    async def doom(self, key: str, version: ObjectVersion | None) -> None:
        """As `remove`, of what is still read: that it is gone from the Space nobody can wait for."""
        batch = Batch()
        self._entries.remove(batch, key, version)
        await self._entries.commit(batch)

    async def move(self, move: Move, thread: int = 0, leaves: Present | None = None) -> None:
        """An object gets another name; under the old one it ``leaves`` an empty object, if anything."""
        batch = Batch()
        self._move(batch, move)
        if leaves is not None:
            self._make(batch, move.key, b"", leaves, move.version)
        self._touch(thread, move.key, move.new_key)
        await self._acknowledge(batch)

    def tree_move(self, prefix: str, new_prefix: str) -> TreeMove:
        """Begin to ready the rename of a directory."""
        return TreeMove(prefix, new_prefix, self._entries.next_order(), time.time())

    async def move_tree(self, tree: TreeMove, moves: Sequence[Move], emptied: Iterable[str]) -> None:
        """A directory's objects get other names and directories are left, all at once.

        Args:
            tree: What was readied, all of it of keys that have no intents.
            moves: The others.
            emptied: Keys of directories that are not to be seen any more and have no marker to move.
        """
        batch = Batch()
        intents = tuple(tree.overlay)
        self.moves.begin(f"{tree.prefix}*", f"{tree.new_prefix}*", len(intents) // 2 + len(moves))  # "*": any of them
        self.overlay.merge(tree.overlay)
        batch.rows.append(SaveIntents(intents))
        batch.keys += [intent.key for intent in intents]
        self.scheduler.changed_all(batch.keys.copy(), 0.0 if self.is_direct else None)
        for move in moves:
            self._move(batch, move)
        for key in emptied:
            self._entries.remove(batch, key, None)
        await self._acknowledge(batch)

    def _move(self, batch: Batch, move: Move) -> None:
        self._entries.put(batch, move.new_key, self.wanted(move.key, move.version, move.size), move.replaces)
        self._entries.remove(batch, move.key, move.version)

    def wanted(self, key: str, version: ObjectVersion | None, size: int) -> Present:
        """Return what a key shall hold, or does: where every change of it starts."""
        return self.overlay.present(key) or Present(size, source=version)

    # --- what programs do that tells when to send

    def goes_on(self, thread: int) -> None:
        """A program begins to write another file, so it has done with the last one."""
        key = self._habits.goes_on(thread)
        if key is not None:
            self.scheduler.hurry(key)

    def closed(self, thread: int, key: str) -> None:
        """A program closed a file that it wrote."""
        self.scheduler.changed(key, self._habits.closes(thread, key, trio.current_time()))

    def _touch(self, thread: int, key: str, new_key: str) -> None:
        grace = self._habits.touches(thread, key, new_key, trio.current_time())
        if new_key in self.overlay:
            self.scheduler.changed(new_key, grace)

    async def drop(self, keys: Iterable[str]) -> None:
        """The user gives changes up: what the Space holds counts again."""
        batch = Batch()
        for key in keys:
            self._entries.drop(batch, key)
        await self._entries.commit(batch)

    # --- rows

    async def _acknowledge(self, batch: Batch) -> None:
        await self._entries.commit(batch)
        if self.is_direct:
            await self.send(batch.keys)

    async def send(self, keys: Iterable[str]) -> None:
        """Wait for the Space to have changes; forget those that it refuses, if no bytes are lost with them.

        Raises:
            FsError, SpacesError: It refuses.
        """
        mine = frozenset(keys)
        try:
            async for _ in self.scheduler.settle(lambda key: key in mine):
                pass
        except (FsError, SpacesError):
            batch = Batch()
            for key in mine:
                want = self.overlay.present(key)
                if want is None or want.content is None:
                    self._entries.drop(batch, key)
            self._entries.post(batch)
            raise
