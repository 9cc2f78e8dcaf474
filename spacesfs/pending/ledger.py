"""What is acknowledged: each change is laid over the view at once, is safe when its call returns, and then goes out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from spacesfs.attributes import Attributes
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.content import Content, Contents
from spacesfs.errors import FsError, NoSpace
from spacesfs.pending.changes import Change, DropIntent, SaveContent, SaveIntent, SaveIntents
from spacesfs.pending.grace import Habits
from spacesfs.pending.intents import Absent, Intent, Present, Want
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.progress import Moves
from spacesfs.pending.scheduler import Scheduler
from spacesfs.pending.treemove import TreeMove

_REMEMBERED_ATTEMPTS = 16


class Keeper(Protocol):
    """Where changes are safe."""

    async def commit(self, *changes: Change) -> None:
        """Return when changes are on stable storage."""

    def post(self, *changes: Change) -> None:
        """Bring changes to stable storage some time, in order."""

    @property
    def is_behind(self) -> bool:
        """Say whether something that was asked for could not be stored yet."""


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


@dataclass(slots=True)
class _Batch:
    """What goes to the journal together; ``freed`` are contents that may go once it is there."""

    rows: list[Change] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class Ledger:
    """The intents of a mount, in memory and in the journal.

    A change is decided without an await, so each is atomic for the rest of the mount; then its call waits until it is
    safe: in the journal, or with ``is_direct`` in the Space.
    """

    def __init__(
        self,
        overlay: Overlay,
        journal: Keeper,
        contents: Contents,
        scheduler: Scheduler,
        upload_at: Callable[[str], int | None],
        *,
        grace_seconds: float,
        is_direct: bool,
    ) -> None:
        self.overlay = overlay
        self.contents = contents
        self.scheduler = scheduler
        self.moves = Moves()
        self._journal = journal
        self._upload_at = upload_at
        self._habits = Habits(grace_seconds)
        self._watchers: list[tuple[str, dict[str, ObjectVersion | None]]] = []
        self.is_direct = is_direct
        self._order = max((intent.order for intent in overlay), default=0)

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
            batch = _Batch([SaveContent(record)])
            self._put(batch, place.key, self.with_content(place, content), place.replaces)
            await self._commit(batch)
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
        batch = _Batch()
        self._put(batch, key, want, replaces)
        self._touch(thread, key, key)
        await self._acknowledge(batch)

    async def make(self, key: str, body: bytes, want: Present, replaces: ObjectVersion | None = None) -> None:
        """A key shall hold a new object with a small body: a marker, a symbolic link, a special file."""
        batch = _Batch()
        self._make(batch, key, body, want, replaces)
        try:
            await self._acknowledge(batch)
        except (FsError, SpacesError):
            batch = _Batch()
            self._drop(batch, key)
            self._post(batch)
            raise

    def _make(self, batch: _Batch, key: str, body: bytes, want: Present, replaces: ObjectVersion | None) -> None:
        content = self.contents.new()
        if body:
            content.staged.write(0, body)
        batch.rows.append(SaveContent(content.staged.record()))
        self._put(batch, key, replace(want, content=content.number), replaces)
        content.saved_changes = content.staged.changes
        self.contents.rest(content)

    async def remove(self, key: str, version: ObjectVersion | None) -> None:
        """A key shall hold nothing; ``version`` is what the Space holds, as far as is known."""
        batch = _Batch()
        self._remove(batch, key, version)
        await self._acknowledge(batch)

    async def doom(self, key: str, version: ObjectVersion | None) -> None:
        """As `remove`, of what is still read: that it is gone from the Space nobody can wait for."""
        batch = _Batch()
        self._remove(batch, key, version)
        await self._commit(batch)

    async def move(self, move: Move, thread: int = 0, leaves: Present | None = None) -> None:
        """An object gets another name; under the old one it ``leaves`` an empty object, if anything."""
        batch = _Batch()
        self._move(batch, move)
        if leaves is not None:
            self._make(batch, move.key, b"", leaves, move.version)
        self._touch(thread, move.key, move.new_key)
        await self._acknowledge(batch)

    def tree_move(self, prefix: str, new_prefix: str) -> TreeMove:
        """Begin to ready the rename of a directory."""
        self._order += 1
        return TreeMove(prefix, new_prefix, self._order, time.time())

    async def move_tree(self, tree: TreeMove, moves: Sequence[Move], emptied: Iterable[str]) -> None:
        """A directory's objects get other names and directories are left, all at once.

        Args:
            tree: What was readied, all of it of keys that have no intents.
            moves: The others.
            emptied: Keys of directories that are not to be seen any more and have no marker to move.
        """
        batch = _Batch()
        intents = tuple(tree.overlay)
        self.moves.begin(f"{tree.prefix}*", f"{tree.new_prefix}*", len(intents) // 2 + len(moves))  # "*": any of them
        self.overlay.merge(tree.overlay)
        batch.rows.append(SaveIntents(intents))
        batch.keys += [intent.key for intent in intents]
        self.scheduler.changed_all(batch.keys.copy(), 0.0 if self.is_direct else None)
        for move in moves:
            self._move(batch, move)
        for key in emptied:
            self._remove(batch, key, None)
        await self._acknowledge(batch)

    def _move(self, batch: _Batch, move: Move) -> None:
        self._put(batch, move.new_key, self.wanted(move.key, move.version, move.size), move.replaces)
        self._remove(batch, move.key, move.version)

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

    # --- what the Space says

    @contextmanager
    def watching(self, prefix: str) -> Iterator[dict[str, ObjectVersion | None]]:
        """Collect what the Space holds, by key, of what it confirms under a prefix for the time of the block."""
        watcher: tuple[str, dict[str, ObjectVersion | None]] = prefix, {}
        self._watchers.append(watcher)
        try:
            yield watcher[1]
        finally:
            self._watchers.remove(watcher)

    def note_attempt(self, key: str, etag: str) -> None:
        """Before a request that may make an object of this ETag, whatever its reply says.

        Nobody waits for the journal: should the note be lost with the process, then so is every later change of the
        key, and what the key shall hold tells the ETag anew. Where it would not, see `note_attempt_safely`.
        """
        intent = self.overlay.get(key)
        if intent is None or etag in intent.attempts:
            return
        noted = replace(intent, attempts=(*intent.attempts, etag)[-_REMEMBERED_ATTEMPTS:])
        self.overlay.put(noted)
        self._journal.post(SaveIntent(noted))

    def is_as_journaled(self, intent: Intent) -> bool:
        """Say whether an intent is what the journal says of its key, or will before anything later of it."""
        now = self.overlay.get(intent.key)
        return now is not None and now.order == intent.order and not self._journal.is_behind

    async def note_attempt_safely(self, key: str, etag: str) -> None:
        """As `note_attempt`, where nothing could tell the ETag anew; return when the note is on stable storage.

        Raises:
            NoSpace: It can't be stored; the request may not be made.
        """
        self.note_attempt(key, etag)
        intent = self.overlay.get(key)
        if intent is not None:
            await self._journal.commit(SaveIntent(intent))  # not just what was posted: on a full disk that may be held

    def confirm(self, done: Intent, version: ObjectVersion | None) -> None:
        """The Space holds what an intent wanted: a version, or nothing."""
        batch = _Batch()
        for prefix, confirmed in self._watchers:
            if done.key.startswith(prefix):
                confirmed[done.key] = version
        now = self.overlay.get(done.key)
        if now is not None:
            rest = self._rest(now, done, version)
            if rest is None:
                self._drop(batch, done.key)
            else:
                self._replace(batch, now, replace(now, want=rest, base=version, attempts=(), since=time.time()))
        if version is not None and isinstance(done.want, Present) and done.want.content is not None:
            self._move_users(batch, done.want.content, version)
        self._post(batch)

    def confirm_bytes(self, done: Intent, version: ObjectVersion) -> None:
        """The Space holds the bytes that an intent wanted; what the object carries is still to be set right."""
        batch = _Batch()
        now = self.overlay.get(done.key)
        want = now.want if now is not None else None
        if now is not None and isinstance(want, Present) and want.content == _content_of(done):
            is_stored = want.content is None or self.contents.is_clean(want.content)
            rest = replace(want, source=version, content=None if is_stored else want.content)
            self._replace(batch, now, replace(now, want=rest, base=version, attempts=()))  # not done, so not younger
            self.scheduler.changed(done.key)
        elif now is not None:
            self._replace(batch, now, replace(now, base=version, attempts=(), since=time.time()))
        if isinstance(done.want, Present) and done.want.content is not None:
            self._move_users(batch, done.want.content, version)
        self._post(batch)

    def _rest(self, now: Intent, done: Intent, version: ObjectVersion | None) -> Want | None:
        """Return what is still wanted of a key once an earlier wish came true; None if nothing is."""
        if now.order == done.order or (now.want == done.want and self._is_stored(now.want)):
            return None
        if version is None or not isinstance(now.want, Present) or not isinstance(done.want, Present):
            return now.want
        if now.want.content is None or now.want.content != done.want.content:
            if now.want.content is not None and not self.contents.is_whole(now.want.content):
                return now.want
            return replace(now.want, source=version) if now.want.source == done.base else now.want
        is_stored = self.contents.is_clean(now.want.content)
        return replace(now.want, source=version, content=None if is_stored else now.want.content)

    def _is_stored(self, want: Want) -> bool:
        """Say whether no local content is still to be sent."""
        number = want.content if isinstance(want, Present) else None
        return number is None or self.contents.is_clean(number)

    def _move_users(self, batch: _Batch, number: int, version: ObjectVersion) -> None:
        """The bytes of a content are in the Space: files renamed meanwhile can be copies of that."""
        for key in sorted(self.overlay.users(number)):
            intent = self.overlay.get(key)
            if intent is None or not isinstance(intent.want, Present) or key == version.key:
                continue
            is_stored = self.contents.is_clean(number)
            want = replace(intent.want, source=version, content=None if is_stored else number)
            self._replace(batch, intent, replace(intent, want=want))

    def stored(self, content: Content, version: ObjectVersion) -> None:
        """A content is in the Space, under a name that its file has left."""
        batch = _Batch()
        self._move_users(batch, content.number, version)
        self._post(batch)

    def overtaken(self, intent: Intent) -> None:
        """Another host changed a key first, and what was wanted has no sense any more."""
        batch = _Batch()
        now = self.overlay.get(intent.key)
        if now is not None and now.order == intent.order:
            self._drop(batch, intent.key)
        self._post(batch)

    def put_beside(self, intent: Intent, key: str, properties: ObjectProperties | None = None) -> None:
        """Another host has the name; what was to go there goes under another.

        With ``properties`` nothing of its source is needed any more: that was replaced, and nobody shall wait for it.
        """
        batch = _Batch()
        now = self.overlay.get(intent.key)
        if now is None or not isinstance(now.want, Present):
            return
        want = now.want if properties is None else replace(now.want, source=None, properties=properties)
        self._put(batch, key, want, None)
        self._drop(batch, intent.key)
        self._post(batch)

    def rebase(self, key: str, version: ObjectVersion | None) -> None:
        """The Space holds another version of ours than was thought, or none."""
        batch = _Batch()
        now = self.overlay.get(key)
        if now is not None:
            self._replace(batch, now, replace(now, base=version))
        self._post(batch)

    def forget_source(self, intent: Intent) -> None:
        """The object whose properties were wanted is gone."""
        batch = _Batch()
        now = self.overlay.get(intent.key)
        if now is not None and now.order == intent.order and isinstance(now.want, Present):
            self._replace(batch, now, replace(now, want=replace(now.want, source=None, properties=ObjectProperties())))
        self._post(batch)

    async def put_aside(self, intent: Intent, key: str, copy: Callable[[], Awaitable[ObjectVersion]]) -> None:
        """Break a ring: the object that an intent needs is copied to a key that nobody needs, and taken from there."""
        assert isinstance(intent.want, Present)
        assert intent.want.source is not None, "only a copy can be in a ring"
        aside = ObjectVersion(key, intent.want.source.etag, intent.want.source.size)
        self._order += 1
        # Only in the journal: after a crash it takes the copy away, and before the copy is known to be needed none may.
        await self._journal.commit(SaveIntent(Intent(key, self._order, Absent(), aside, time.time())))
        batch = _Batch()
        try:
            made = await copy()
            now = self.overlay.get(intent.key)
            if now is not None and now.order == intent.order and isinstance(now.want, Present):
                self._replace(batch, now, replace(now, want=replace(now.want, source=made)))
                if now.want.content is not None:
                    self.contents.move_source(now.want.content, made)
        finally:
            self._set(batch, key, Absent(), aside)
            self._post(batch)
        await self.secure()

    async def secure(self) -> None:
        """Return when all that was heard of the Space so far is on stable storage.

        Raises:
            NoSpace: The disk is full.
        """
        await self._journal.commit()
        if self._journal.is_behind:
            raise NoSpace

    async def drop(self, keys: Iterable[str]) -> None:
        """The user gives changes up: what the Space holds counts again."""
        batch = _Batch()
        for key in keys:
            self._drop(batch, key)
        await self._commit(batch)

    # --- rows

    async def _acknowledge(self, batch: _Batch) -> None:
        await self._commit(batch)
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
            batch = _Batch()
            for key in mine:
                want = self.overlay.present(key)
                if want is None or want.content is None:
                    self._drop(batch, key)
            self._post(batch)
            raise

    async def _commit(self, batch: _Batch) -> None:
        await self._journal.commit(*batch.rows)
        self._free(batch)

    def _post(self, batch: _Batch) -> None:
        if batch.rows:
            self._journal.post(*batch.rows)
        self._free(batch)

    def _free(self, batch: _Batch) -> None:
        for number in batch.freed:
            if not self.overlay.users(number):
                self.contents.tidy(number)

    def _put(self, batch: _Batch, key: str, want: Present, replaces: ObjectVersion | None) -> None:
        old = self.overlay.get(key)
        base = old.base if old is not None else replaces
        if base is not None and want == Present(base.size, source=base) and self._is_settled(key):
            self._drop(batch, key)  # what the Space holds already: renamed away and back
        else:
            self._set(batch, key, want, base)

    def _remove(self, batch: _Batch, key: str, version: ObjectVersion | None) -> None:
        old = self.overlay.get(key)
        base = old.base if old is not None else version
        is_unseen = not key.endswith("/") or (old is not None and not self.overlay.waits_below(key))
        if base is None and is_unseen and self._is_settled(key):
            self._drop(batch, key)
        else:
            self._set(batch, key, Absent(), base)

    def _is_settled(self, key: str) -> bool:
        """Say whether nothing of ours can be under way to a key."""
        intent = self.overlay.get(key)
        has_tried = intent is not None and bool(intent.attempts)
        return not has_tried and not self.scheduler.is_busy(key) and self._upload_at(key) is None

    def _set(self, batch: _Batch, key: str, want: Want, base: ObjectVersion | None) -> None:
        old = self.overlay.get(key)
        self._order += 1
        if old is None:
            intent = Intent(key, self._order, want, base, time.time())
        else:
            intent = replace(old, order=self._order, want=want, base=base)
        self._replace(batch, old, intent)
        self.scheduler.changed(key, 0.0 if self.is_direct or isinstance(want, Absent) else None)

    def _replace(self, batch: _Batch, old: Intent | None, intent: Intent) -> None:
        self.overlay.put(intent)
        batch.rows.append(SaveIntent(intent))
        batch.keys.append(intent.key)
        _note_freed(batch, old)

    def _drop(self, batch: _Batch, key: str) -> None:
        old = self.overlay.remove(key)
        if old is not None:
            self.scheduler.dropped(key)
            batch.rows.append(DropIntent(key))
            _note_freed(batch, old)


def _note_freed(batch: _Batch, old: Intent | None) -> None:
    if old is not None and isinstance(old.want, Present) and old.want.content is not None:
        batch.freed.append(old.want.content)


def _content_of(intent: Intent) -> int | None:
    return intent.want.content if isinstance(intent.want, Present) else None
