"""What comes of intents: what was tried, what the Space holds by now, and what is still to be done."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.content import Content
from spacesfs.errors import NoSpace
from spacesfs.pending.changes import SaveIntent
from spacesfs.pending.entries import Batch, Entries
from spacesfs.pending.intents import Absent, Intent, Present, Want

_REMEMBERED_ATTEMPTS = 16


class Outcomes:
    """Notes the Space's answers. Nobody waits for them to be on stable storage, unless a docstring says so."""

    def __init__(self, entries: Entries) -> None:
        self.overlay = entries.overlay
        self.contents = entries.contents
        self._entries = entries
        self._journal = entries.journal
        self._watchers: list[tuple[str, dict[str, ObjectVersion | None]]] = []

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
        batch = Batch()
        for prefix, confirmed in self._watchers:
            if done.key.startswith(prefix):
                confirmed[done.key] = version
        now = self.overlay.get(done.key)
        if now is not None:
            rest = self._rest(now, done, version)
            if rest is None:
                self._entries.drop(batch, done.key)
            else:
                self._entries.replace(batch, now, replace(now, want=rest, base=version, attempts=(), since=time.time()))
        if version is not None and isinstance(done.want, Present) and done.want.content is not None:
            self._move_users(batch, done.want.content, version)
        self._entries.post(batch)

    def confirm_bytes(self, done: Intent, version: ObjectVersion) -> None:
        """The Space holds the bytes that an intent wanted; what the object carries is still to be set right."""
        batch = Batch()
        now = self.overlay.get(done.key)
        want = now.want if now is not None else None
        if now is not None and isinstance(want, Present) and want.content == _content_of(done):
            is_stored = want.content is None or self.contents.is_clean(want.content)
            rest = replace(want, source=version, content=None if is_stored else want.content)
            self._entries.replace(
                batch, now, replace(now, want=rest, base=version, attempts=())
            )  # not done, so not younger
            self._entries.scheduler.changed(done.key)
        elif now is not None:
            self._entries.replace(batch, now, replace(now, base=version, attempts=(), since=time.time()))
        if isinstance(done.want, Present) and done.want.content is not None:
            self._move_users(batch, done.want.content, version)
        self._entries.post(batch)

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

    def _move_users(self, batch: Batch, number: int, version: ObjectVersion) -> None:
        """The bytes of a content are in the Space: files renamed meanwhile can be copies of that."""
        for key in sorted(self.overlay.users(number)):
            intent = self.overlay.get(key)
            if intent is None or not isinstance(intent.want, Present) or key == version.key:
                continue
            is_stored = self.contents.is_clean(number)
            want = replace(intent.want, source=version, content=None if is_stored else number)
            self._entries.replace(batch, intent, replace(intent, want=want))

    def stored(self, content: Content, version: ObjectVersion) -> None:
        """A content is in the Space, under a name that its file has left."""
        batch = Batch()
        self._move_users(batch, content.number, version)
        self._entries.post(batch)

    def overtaken(self, intent: Intent) -> None:
        """Another host changed a key first, and what was wanted has no sense any more."""
        batch = Batch()
        now = self.overlay.get(intent.key)
        if now is not None and now.order == intent.order:
            self._entries.drop(batch, intent.key)
        self._entries.post(batch)

    def put_beside(self, intent: Intent, key: str, properties: ObjectProperties | None = None) -> None:
        """Another host has the name; what was to go there goes under another.

        With ``properties`` nothing of its source is needed any more: that was replaced, and nobody shall wait for it.
        """
        batch = Batch()
        now = self.overlay.get(intent.key)
        if now is None or not isinstance(now.want, Present):
            return
        want = now.want if properties is None else replace(now.want, source=None, properties=properties)
        self._entries.put(batch, key, want, None)
        self._entries.drop(batch, intent.key)
        self._entries.post(batch)

    def rebase(self, key: str, version: ObjectVersion | None) -> None:
        """The Space holds another version of ours than was thought, or none."""
        batch = Batch()
        now = self.overlay.get(key)
        if now is not None:
            self._entries.replace(batch, now, replace(now, base=version))
        self._entries.post(batch)

    def forget_source(self, intent: Intent) -> None:
        """The object whose properties were wanted is gone."""
        batch = Batch()
        now = self.overlay.get(intent.key)
        if now is not None and now.order == intent.order and isinstance(now.want, Present):
            self._entries.replace(
                batch, now, replace(now, want=replace(now.want, source=None, properties=ObjectProperties()))
            )
        self._entries.post(batch)

    async def put_aside(self, intent: Intent, key: str, copy: Callable[[], Awaitable[ObjectVersion]]) -> None:
        """Break a ring: the object that an intent needs is copied to a key that nobody needs, and taken from there."""
        assert isinstance(intent.want, Present)
        assert intent.want.source is not None, "only a copy can be in a ring"
        aside = ObjectVersion(key, intent.want.source.etag, intent.want.source.size)
        order = self._entries.next_order()
        # Only in the journal: after a crash it takes the copy away, and before the copy is known to be needed none may.
        await self._journal.commit(SaveIntent(Intent(key, order, Absent(), aside, time.time())))
        batch = Batch()
        try:
            made = await copy()
            now = self.overlay.get(intent.key)
            if now is not None and now.order == intent.order and isinstance(now.want, Present):
                self._entries.replace(batch, now, replace(now, want=replace(now.want, source=made)))
                if now.want.content is not None:
                    self.contents.move_source(now.want.content, made)
        finally:
            self._entries.set(batch, key, Absent(), aside)
            self._entries.post(batch)
        await self.secure()

    async def secure(self) -> None:
        """Return when all that was heard of the Space so far is on stable storage.

        Raises:
            NoSpace: The disk is full.
        """
        await self._journal.commit()
        if self._journal.is_behind:
            raise NoSpace


def _content_of(intent: Intent) -> int | None:
    return intent.want.content if isinstance(intent.want, Present) else None
