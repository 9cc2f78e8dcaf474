"""The objects that directories have of their own: their markers, known from listings, and asked for ahead."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import trio
from cachetools import TTLCache

from spacesfs.client.models import ObjectInfo
from spacesfs.tree.ahead import Ahead, Question, Spawn
from spacesfs.tree.descriptions import Descriptions
from spacesfs.tree.names import segment_in
from spacesfs.tree.sweeps import Sweeps

_MAX_MARKERS = 50_000


class _Unknown:
    """Nothing was heard of a marker, not even that there is none."""


_UNKNOWN = _Unknown()


class Markers:
    """Owns what was heard of markers: each is asked for once within the TTL, unless a listing shows that there is none.

    ``spawn`` starts what is asked ahead; without, nothing is.
    """

    def __init__(self, objects: Descriptions, sweeps: Sweeps, ttl_seconds: float, spawn: Spawn | None) -> None:
        self._objects = objects
        self._sweeps = sweeps
        self._heard: TTLCache[str, ObjectInfo | None] = TTLCache(_MAX_MARKERS, ttl_seconds, timer=trio.current_time)
        self._changes = 0  # an answer is remembered only if nothing changed here while the Space was asked
        self._ahead = Ahead(self._question, self._answer, spawn) if spawn is not None else None

    def heard(self, key: str) -> ObjectInfo | None:
        """Return the marker that was last heard of, if any."""
        return self._heard.get(key)

    def known(self, key: str) -> tuple[bool, ObjectInfo | None]:
        """Return whether it is known which object a directory has of its own, and that object or None."""
        heard = self._heard.get(key, _UNKNOWN)
        if not isinstance(heard, _Unknown):
            return True, heard
        is_listed, listed = self._sweeps.marker(key)
        if not is_listed or listed is None:
            return is_listed, None
        info = self._objects.get(listed)
        return info is not None, info

    async def of(self, key: str) -> ObjectInfo | None:
        """Return the object that a directory has of its own, if any."""
        is_known, info = self.known(key)
        if not is_known and not self._sweeps.marker(key)[0]:
            await self._sweeps.look(key)
            is_known, info = self.known(key)
        if is_known:
            self._sweeps.note_use(key)
            return info
        changes = self._changes
        info = await self._objects.ask(key, self._sweeps.marker(key)[1])
        if self._changes == changes:
            self._heard[key] = info
        return info

    async def of_listed(self, prefix: str, name: str, directories: AbstractSet[str]) -> ObjectInfo | None:
        """As `of`, of one of the directories that a fresh listing shows; ask about some of those after it as well."""
        key = f"{prefix}{segment_in(name)}/"
        if self._ahead is not None:
            await self._ahead.arrival(key)
            if self.known(key)[0]:
                self._ahead.follow(prefix, name, directories)
            else:
                self._ahead.note(prefix, name, directories)
        return await self.of(key)

    def store(self, info: ObjectInfo) -> None:
        """A marker was stored by this mount."""
        self._changes += 1
        self._heard[info.key] = info

    def drop(self, key: str) -> None:
        """A marker is gone."""
        self._changes += 1
        self._heard[key] = None

    def forget_below(self, prefix: str) -> None:
        """Drop what was heard of all markers that begin with a prefix."""
        self._changes += 1
        for key in [key for key in self._heard if key.startswith(prefix)]:
            del self._heard[key]

    def _question(self, prefix: str, name: str, _directories: AbstractSet[str]) -> Question | None:
        key = f"{prefix}{segment_in(name)}/"
        if self.known(key)[0]:
            return None
        is_listed, listed = self._sweeps.marker(key)
        return Question(key, listed, tells_more=not is_listed and self._sweeps.may_look(key))

    async def _answer(self, question: Question) -> None:
        await self.of(question.key)
