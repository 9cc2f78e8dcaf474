"""What is behind the keys that listings show: from memory, from this host's disk, or by asking, once for a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from spacesfs.cache.attribute_store import Row, unpack_info
from spacesfs.cache.metadata import Keeper, ObjectCache, is_unchanged
from spacesfs.client.errors import NoSuchKey
from spacesfs.client.models import ListedObject, ObjectInfo, ObjectVersion
from spacesfs.tree.ahead import Ahead, Question, Spawn
from spacesfs.tree.directory import Listing


class DescribingStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    def server_time_ns(self) -> int:
        """Return the latest time that the server's clock may show now."""


class Glimpse(Protocol):
    """Somebody who may know an object from its bytes."""

    async def describe(self, prefix: str, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of exactly what a listing shows, or None."""


class Memory(Keeper, Protocol):
    """What other mounts of this host, and earlier ones, have learnt."""

    async def find(self, keys: Sequence[str]) -> list[Row]:
        """Return what is known of keys."""

    async def has_below(self, prefix: str) -> bool:
        """Say whether anything is known of keys that begin with a prefix."""


@dataclass(slots=True, eq=False)
class _Meanwhile:
    """The keys that this mount changed while a question was under way; of ``outdated`` nothing is known since."""

    changed: set[str] = field(default_factory=set)
    outdated: set[str] = field(default_factory=set)


class Descriptions:
    """Descriptions of objects, each asked for once for a version.

    ``spawn`` starts what is asked ahead; without, nothing is.
    """

    def __init__(
        self,
        store: DescribingStore,
        ttl_seconds: float,
        glimpse: Glimpse | None,
        memory: Memory | None,
        spawn: Spawn | None,
    ) -> None:
        self._store = store
        self._glimpse = glimpse
        self._memory = memory
        self._objects = ObjectCache(ttl_seconds, memory, store.server_time_ns)
        self._asking: list[_Meanwhile] = []
        self._ahead = Ahead(self._question, self._answer, spawn) if spawn is not None else None

    def get(self, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of what a listing shows, if it is known."""
        return self._objects.get(listed)

    def latest(self, key: str) -> ObjectInfo | None:
        """Return the last description of a key, of whatever version."""
        return self._objects.latest(key)

    def known(self, version: ObjectVersion) -> ObjectInfo | None:
        """Return what is remembered of exactly this version; without ACL and tags if those may have changed."""
        info = self._objects.complete(version.key)
        return info if info is not None and info.etag == version.etag else None

    def store(self, info: ObjectInfo) -> None:
        """Remember what this mount stored."""
        self._objects.store(info)
        for meanwhile in self._asking:
            meanwhile.changed.add(info.key)

    def forget(self, key: str) -> None:
        """An object is gone."""
        self._objects.forget(key)
        for meanwhile in self._asking:
            meanwhile.changed.add(key)

    def outdate(self, key: str) -> None:
        """An object was stored that nobody has described yet; who is being told of an earlier one asks again."""
        self._objects.forget(key)
        for meanwhile in self._asking:
            meanwhile.outdated.add(key)

    def forget_below(self, prefix: str) -> None:
        """Drop what this mount knows of all keys that begin with a prefix."""
        self._objects.forget_below(prefix)

    async def learn(self, objects: Sequence[ListedObject]) -> None:
        """Recall what this host knows of a page of a listing."""
        if self._memory is None:
            return
        unknown = {listed.key: listed for listed in objects if self._objects.get(listed) is None}
        if unknown:
            for row in await self._memory.find(list(unknown)):
                if self._objects.get(unknown[row.key]) is None:  # still
                    self._objects.recall(row, unknown[row.key])

    async def recall(self, objects: Sequence[ListedObject]) -> None:
        """As `learn`, and forget what is not as listed: who asks for a version knows no more of it than its ETag."""
        await self.learn(objects)
        for listed in objects:
            if self._objects.get(listed) is None:
                self._objects.drop(listed.key)

    async def recalled(self, key: str) -> ObjectInfo | None:
        """Return what this host learnt of a key, of whatever version, however long ago."""
        rows = await self._memory.find([key]) if self._memory is not None else []
        return unpack_info(rows[0]) if rows else None

    async def was_below(self, prefix: str) -> bool:
        """Say whether this host has learnt of any key that begins with a prefix."""
        return self._memory is not None and await self._memory.has_below(prefix)

    async def of_listed(self, prefix: str, name: str, listing: Listing) -> ObjectInfo | None:
        """Describe a file that a fresh listing shows, and some of those after it; None if it is gone."""
        listed = listing.objects[name]
        info = self._objects.get(listed)
        if info is None and self._ahead is not None:
            await self._ahead.arrival(listed.key)
            info = self._objects.get(listed)
        if info is not None:
            if self._ahead is not None:
                self._ahead.follow(prefix, name, listing.objects)
            return info
        # Its bytes may be asked for instead: they come with the same answer.
        info = await self._glimpse.describe(prefix, listed) if self._glimpse is not None else None
        if info is None and self._ahead is not None:
            self._ahead.note(prefix, name, listing.objects)
        return await self.ask(listed.key, listed, info)

    async def ask(
        self, key: str, listed: ListedObject | None = None, info: ObjectInfo | None = None
    ) -> ObjectInfo | None:
        """Ask the Space for an object; None if there is none. Remembers the answer; ``info`` if that is it."""
        meanwhile = _Meanwhile()
        if info is None:
            info, meanwhile = await self._head(key)
        if key in meanwhile.changed:
            return self._objects.latest(key)  # the answer is older
        if info is None:
            self._objects.forget(key)
            return None
        known = self._objects.complete(key)
        if known is not None and is_unchanged(known, info):
            info = replace(info, properties=known.properties)  # and with it what a HEAD does not tell: ACL and tags
        self._objects.store(info, listed)
        return info

    async def _head(self, key: str) -> tuple[ObjectInfo | None, _Meanwhile]:
        while True:
            meanwhile = _Meanwhile()
            self._asking.append(meanwhile)
            try:
                info = await self._store.head(key)
            except NoSuchKey:
                info = None
            finally:
                self._asking.remove(meanwhile)
            if key not in meanwhile.outdated:
                return info, meanwhile

    def _question(self, _prefix: str, name: str, objects: Mapping[str, ListedObject]) -> Question | None:
        listed = objects.get(name)
        return Question(listed.key, listed) if listed is not None and self._objects.get(listed) is None else None

    async def _answer(self, question: Question) -> None:
        await self.ask(question.key, question.listed)
