"""What was last heard of names and objects. Every entry has an age; the caps are in entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import trio
from cachetools import LRUCache

from spacesfs.client.models import ListedObject, ObjectInfo

MAX_LISTED_ENTRIES = 200_000  # about 100 MB of names at worst, 40 MB in ordinary trees
PAGE_ENTRIES = 1000  # S3 API, ListObjectsV2: entries a request
MAX_DESCRIBED_OBJECTS = 50_000
_SECOND_NS = 10**9


class _Sized(Protocol):
    def __len__(self) -> int: ...


L = TypeVar("L", bound=_Sized)


class _Load(Generic[L]):
    """A listing on its way, and what changed in the directory since it was asked for.

    ``is_outdated`` once what is remembered of the directory was dropped.
    """

    __slots__ = ("changes", "is_outdated", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.changes: list[Callable[[L], None]] = []
        self.is_outdated = False


@dataclass(slots=True)
class _Entry(Generic[L]):
    stored_at: float
    listing: L
    uses: int = 0


class ListingCache(Generic[L]):
    """Listings by directory key, each good for ``ttl_seconds``.

    What changed here in a directory while its listing was on its way is made up for when it comes.
    """

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._entries: LRUCache[str, _Entry[L]] = LRUCache(
            MAX_LISTED_ENTRIES, getsizeof=lambda entry: len(entry.listing) + 1
        )
        self._loads: set[_Load[L]] = set()

    def get(self, prefix: str) -> L | None:
        """Return the listing of a directory while it is fresh."""
        entry = self._entries.get(prefix)
        if entry is None or trio.current_time() - entry.stored_at > self._ttl_seconds:
            return None
        entry.uses += 1
        return entry.listing

    def is_worth_renewing(self, prefix: str) -> bool:
        """Say whether the last listing answered more questions than asking one by one would have cost requests."""
        entry = self._entries.get(prefix)
        if entry is None or any(load.prefix == prefix for load in self._loads):
            return False
        return entry.uses > len(entry.listing) // PAGE_ENTRIES + 1

    @contextmanager
    def loading(self, prefix: str) -> Iterator[_Load[L]]:
        """Watch a directory for changes while its listing is on its way."""
        load: _Load[L] = _Load(prefix)
        self._loads.add(load)
        try:
            yield load
        finally:
            self._loads.discard(load)

    def store(self, load: _Load[L], listing: L) -> None:
        """Bring a listing up to date and remember it, unless it was to be dropped or is over the cap alone."""
        for change in load.changes:
            change(listing)
        if not load.is_outdated and len(listing) < MAX_LISTED_ENTRIES:
            self._entries[load.prefix] = _Entry(trio.current_time(), listing)

    def change(self, prefix: str, change: Callable[[L], None]) -> None:
        """Bring the listing of a directory up to date, if it is fresh, and any that is on its way."""
        for load in self._loads:
            if load.prefix == prefix:
                load.changes.append(change)
        entry = self._entries.get(prefix)
        if entry is not None and trio.current_time() - entry.stored_at <= self._ttl_seconds:
            change(entry.listing)

    def forget(self, prefix: str) -> None:
        """Drop the listings of a directory and of everything below it."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]
        for load in self._loads:
            if load.prefix.startswith(prefix):
                load.is_outdated = True


class ObjectCache:
    """Descriptions of objects by key, good for as long as a listing shows the same version.

    The ACL and the tags, whose changes no listing and no HEAD show, are good for ``ttl_seconds``.
    """

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._infos: LRUCache[str, tuple[float, ObjectInfo]] = LRUCache(MAX_DESCRIBED_OBJECTS)

    def get(self, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of exactly the version that a listing shows."""
        info = self.latest(listed.key)
        if info is None or info.etag != listed.etag or not _same_time(info.last_modified_ns, listed.last_modified_ns):
            return None
        return info

    def latest(self, key: str) -> ObjectInfo | None:
        """Return the last description of a key, of whatever version."""
        entry = self._infos.get(key)
        return entry[1] if entry is not None else None

    def complete(self, key: str) -> ObjectInfo | None:
        """Return the last description of a key; without the ACL and the tags once those may have changed."""
        stored_at, info = self._infos.get(key, (0.0, None))
        if info is None or trio.current_time() - stored_at <= self._ttl_seconds:
            return info
        return replace(info, properties=replace(info.properties, acl=None, tags=None))

    def store(self, info: ObjectInfo) -> None:
        """Remember a description."""
        self._infos[info.key] = (trio.current_time(), info)

    def forget(self, key: str) -> None:
        """Drop what is known of a key."""
        self._infos.pop(key, None)


def is_unchanged(before: ObjectInfo, now: ObjectInfo) -> bool:
    """Say whether a new description tells of nothing that a remembered one does not know."""
    told = replace(before.properties, acl=None, tags=None)
    return (
        before.etag == now.etag and told == now.properties and _same_time(before.last_modified_ns, now.last_modified_ns)
    )


def _same_time(described_ns: int, listed_ns: int) -> bool:
    """Compare times of which one may have whole seconds only (a HEAD's); 0 stands for a PUT's, which tells none."""
    if described_ns in (0, listed_ns):
        return True
    return described_ns % _SECOND_NS == 0 and described_ns // _SECOND_NS == listed_ns // _SECOND_NS
