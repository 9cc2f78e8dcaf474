"""Looking at what keys hold, just before something is stored there or deleted, with few requests for many keys.

Keys that lie together in the bucket are listed together, whatever directories they are in; others are asked for one by
one. Whoever asks for a single key while an earlier question is under way shares the next one with all who do. So what
an answer tells is never older than the question.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, SpacesError
from spacesfs.client.models import ListPage, ObjectInfo
from spacesfs.tasks import open_team

_WORTH_LISTING = 4  # keys that lie together: from here on one listing is cheaper than asking for each
_ENTRIES_A_KEY = 16  # that a listing may bring for each key that it is to tell of
_MOST_ENTRIES = 1000  # S3 API, ListObjectsV2: entries a request
_PARALLEL_HEADS = 16
_MAX_KEY_BYTES = 1024  # S3 API: of an object key


class LookingStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def list_page(
        self, prefix: str, *, delimiter: str | None = None, max_keys: int = ..., start_after: str | None = None
    ) -> ListPage:
        """Return one page of a listing."""


@dataclass(slots=True, eq=False)
class _Group:
    """Keys that are asked for together; ``etags`` is None until there is an answer, and for good if there is none."""

    keys: list[str] = field(default_factory=list)
    etags: dict[str, str] | None = None
    is_over: trio.Event = field(default_factory=trio.Event)


class Looks:
    """Asks what keys hold. At most one shared question is under way, and one gathers."""

    def __init__(self, store: LookingStore) -> None:
        self._store = store
        self._gathering: _Group | None = None
        self._under_way: _Group | None = None

    async def etag(self, key: str) -> str | None:
        """Return the ETag of what a key holds, None if nothing; together with others that ask."""
        group = self._gathering
        if group is None:
            group = self._gathering = _Group([key])
            await self._ask_for_all(group)
        else:
            group.keys.append(key)
            await group.is_over.wait()
        if group.etags is None:  # it failed, or who asked was stopped: none has to suffer for another
            return await self._head(key)
        return group.etags.get(key)

    async def etags(self, keys: Collection[str]) -> dict[str, str]:
        """Return the ETags of those keys that hold an object."""
        found: dict[str, str] = {}
        left = sorted(keys)
        while len(left) >= _WORTH_LISTING:
            before = len(left)
            left = await self._list(left, found)
            if before - len(left) < _WORTH_LISTING:
                break  # too much lies between them
        await self._head_each(left, found)
        return found

    async def _ask_for_all(self, group: _Group) -> None:
        """Ask once the question before has its answer; until then others may join."""
        try:
            if self._under_way is not None:
                await self._under_way.is_over.wait()
            else:
                await trio.lowlevel.checkpoint()  # those that begin in the same turn
            self._gathering, self._under_way = None, group
            group.etags = await self.etags(group.keys)
        except SpacesError:
            return
        finally:
            if self._gathering is group:
                self._gathering = None
            if self._under_way is group:
                self._under_way = None
            group.is_over.set()

    async def _list(self, keys: list[str], found: dict[str, str]) -> list[str]:
        """List from the first of some sorted keys on, and return those that the page did not reach."""
        wanted = set(keys)
        is_flat = len({_directory(key) for key in keys}) == 1
        page = await self._store.list_page(
            _directory_of_both(keys[0], keys[-1]),
            delimiter="/" if is_flat else None,
            max_keys=min(len(keys) * _ENTRIES_A_KEY, _MOST_ENTRIES),
            start_after=_just_before(keys[0]) or None,
        )
        found.update((listed.key, listed.etag) for listed in page.objects if listed.key in wanted)
        if page.resume is None:
            return []
        last = max([listed.key for listed in page.objects[-1:]] + list(page.prefixes[-1:]), default="")
        return [key for key in keys if key > last]

    async def _head_each(self, keys: list[str], found: dict[str, str]) -> None:
        limit = trio.CapacityLimiter(_PARALLEL_HEADS)

        async def ask(key: str) -> None:
            async with limit:
                etag = await self._head(key)
            if etag is not None:
                found[key] = etag

        async with open_team() as team:
            for key in keys:
                team.start_soon(ask, key)

    async def _head(self, key: str) -> str | None:
        try:
            return (await self._store.head(key)).etag
        except NoSuchKey:
            return None


def _directory(key: str) -> str:
    """Return what a listing that has a key in it can be limited to: for a marker, its own directory."""
    return key[: key.rfind("/") + 1]


def _directory_of_both(key: str, other: str) -> str:
    directory = _directory(key)
    while not other.startswith(directory):
        directory = _directory(directory[:-1])
    return directory


def _just_before(key: str) -> str:
    """Return a name that sorts before a key, and after nearly all that do: a listing begins after a name."""
    below = ord(key[-1]) - 1
    if not ord("!") <= below < ord("~") or len(key.encode()) >= _MAX_KEY_BYTES:
        return key[:-1]
    return f"{key[:-1]}{chr(below)}~"
