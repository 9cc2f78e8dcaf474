"""Small files before they are read: their bytes tell what a HEAD would, and the next ones come in time.

A small object's GET costs about what its HEAD costs and brings both. Whether anybody will read the bytes nobody knows.
So a directory has some credit: asking for bytes instead takes from it, reading them gives it back, and more. Programs
that only look at files soon get HEADs; those that read one after another get one GET for each file, and then, several
files ahead, in parallel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import trio
from cachetools import LRUCache

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ListedObject, ObjectInfo, ObjectVersion
from spacesfs.content.extents import Extent
from spacesfs.content.reader import SMALL_BYTES, PageReader, Spawn

UNPROVEN_BYTES = 32 << 10  # what may be fetched for nothing in a directory of which nothing was read yet
MAX_AHEAD = 16  # files

_FIRST_CREDIT, _MAX_CREDIT = 2, 8
_FIRST_AHEAD = 2
_ORDERLY = 8  # names between two opens that may still be in order: a shell sorts otherwise than a Space
_DIRECTORIES = 64
_REMEMBERED = 1000  # descriptions that nobody asked for yet


class HeadStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""


@dataclass(slots=True)
class _Directory:
    """What was seen of one directory: how far it was read, and whether that is foreseeable."""

    credit: int = _FIRST_CREDIT
    was_read: bool = False
    listing: object = None
    names: list[str] = field(default_factory=list)
    last: int = -1
    ahead: int = 0
    reached: int = 0


class Glimpse:
    """Owns what was brought and not asked for yet: descriptions by version. The bytes are the page cache's."""

    def __init__(self, store: HeadStore, pages: PageReader, spawn: Spawn) -> None:
        self._store = store
        self._pages = pages
        self._spawn = spawn
        self._directories: LRUCache[str, _Directory] = LRUCache(_DIRECTORIES)
        self._known: LRUCache[tuple[str, str], ObjectInfo] = LRUCache(_REMEMBERED)
        self._arriving: dict[tuple[str, str], trio.Event] = {}

    async def describe(self, prefix: str, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of exactly what a listing shows, if it came with its bytes or may do so; else None."""
        identity = (listed.key, listed.etag)
        while (arriving := self._arriving.get(identity)) is not None:
            await arriving.wait()
        info = self._known.pop(identity, None)
        if info is None and self._is_worth_it(prefix, listed):
            self._pages.start(_version(listed), Extent(0, listed.size))
            await self._arrival(listed)
            info = self._known.pop(identity, None)
        return info

    def note_open(self, prefix: str, name: str, objects: Mapping[str, ListedObject]) -> None:
        """A file of a listed directory was opened; ``objects`` is the same mapping as long as it is that listing's."""
        listed = objects.get(name)
        if listed is None or not 0 < listed.size <= SMALL_BYTES:
            return
        directory = self._directory(prefix)
        directory.was_read = True
        directory.credit = min(directory.credit + 2, _MAX_CREDIT)
        if directory.listing is not objects:
            directory.listing, directory.names = objects, sorted(objects)
            directory.reached = 0
            directory.last = -1
        index = bisect_left(directory.names, name)
        is_in_order = directory.last >= 0 and 0 < index - directory.last <= _ORDERLY
        directory.ahead = min(max(directory.ahead * 2, _FIRST_AHEAD), MAX_AHEAD) if is_in_order else 0
        directory.last = index
        if is_in_order:
            self._fetch_ahead(directory, objects)

    def _fetch_ahead(self, directory: _Directory, objects: Mapping[str, ListedObject]) -> None:
        start = max(directory.reached, directory.last + 1)
        end = min(directory.last + 1 + directory.ahead, len(directory.names))
        for index in range(start, end):
            listed = objects.get(directory.names[index])
            if listed is not None and 0 < listed.size <= SMALL_BYTES and (listed.key, listed.etag) not in self._known:
                if self._pages.prefetch(_version(listed), Extent(0, listed.size)).length:
                    return  # no connection or memory to spare
                self._await(listed)
            directory.reached = index + 1

    def _await(self, listed: ListedObject) -> None:
        async def run() -> None:
            with suppress(SpacesError):  # whoever opens the file will hear of it
                await self._arrival(listed, self._store)

        if (listed.key, listed.etag) not in self._arriving:
            self._arriving[listed.key, listed.etag] = trio.Event()
            self._spawn(run)

    async def _arrival(self, listed: ListedObject, store: HeadStore | None = None) -> None:
        """Wait for a description; one whose bytes are here already is asked for by HEAD, if there is a store."""
        identity = (listed.key, listed.etag)
        arrived = self._arriving.setdefault(identity, trio.Event())
        try:
            info = await self._pages.arrival(_version(listed))
            if info is None and store is not None:
                info = await store.head(listed.key)
            if info is not None and info.etag == listed.etag:
                self._known[identity] = info
        finally:
            del self._arriving[identity]
            arrived.set()

    def _is_worth_it(self, prefix: str, listed: ListedObject) -> bool:
        directory = self._directory(prefix)
        if not 0 < listed.size <= (SMALL_BYTES if directory.was_read else UNPROVEN_BYTES) or not directory.credit:
            return False
        directory.credit -= 1
        return True

    def _directory(self, prefix: str) -> _Directory:
        directory = self._directories.get(prefix)
        if directory is None:
            directory = self._directories[prefix] = _Directory()
        return directory


def _version(listed: ListedObject) -> ObjectVersion:
    return ObjectVersion(listed.key, listed.etag, listed.size)
