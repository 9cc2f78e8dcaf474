"""What was last heard of names and objects. Every entry has an age; the caps are in entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import trio
from cachetools import LRUCache

from spacesfs.cache.attribute_store import Row, pack_info, unpack_info
from spacesfs.client.models import ListedObject, ObjectInfo

MAX_LISTED_ENTRIES = 200_000  # about 100 MB of names at worst, 40 MB in ordinary trees
PAGE_ENTRIES = 1000  # S3 API, ListObjectsV2: entries a request
MAX_DESCRIBED_OBJECTS = 50_000
_SECOND_NS = 10**9
_SETTLED_NS = 3 * _SECOND_NS  # the second is over, and what the server's clock may show beyond what it shows is, too


class _Sized(Protocol):
    def __len__(self) -> int: ...


L = TypeVar("L", bound=_Sized)


class Load(Generic[L]):
    """A listing on its way, and what changed in the directory since it was asked for.

    ``is_deep`` if the directories below come with it. ``is_outdated`` once what is remembered there was dropped.
    """

    __slots__ = ("changes", "is_deep", "is_outdated", "prefix")

    def __init__(self, prefix: str, *, is_deep: bool) -> None:
        self.prefix = prefix
        self.is_deep = is_deep
        self.changes: list[tuple[str, Callable[[L], None]]] = []
        self.is_outdated = False

    def covers(self, prefix: str) -> bool:
        """Say whether a directory is among those that are listed."""
        return prefix.startswith(self.prefix) if self.is_deep else prefix == self.prefix


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
        self._loads: set[Load[L]] = set()

    def get(self, prefix: str) -> L | None:
        """Return the listing of a directory while it is fresh."""
        listing = self.peek(prefix)
        if listing is not None:
            self._entries[prefix].uses += 1
        return listing

    def peek(self, prefix: str) -> L | None:
        """As `get`, of somebody who would not have asked the Space."""
        entry = self._entries.get(prefix)
        if entry is None or trio.current_time() - entry.stored_at > self._ttl_seconds:
            return None
        return entry.listing

    def is_worth_renewing(self, prefix: str) -> bool:
        """Say whether the last listing answered more questions than asking one by one would have cost requests."""
        entry = self._entries.get(prefix)
        if entry is None or any(load.prefix == prefix for load in self._loads):
            return False
        return entry.uses > len(entry.listing) // PAGE_ENTRIES + 1

    @contextmanager
    def loading(self, prefix: str) -> Iterator[Load[L]]:
        """Watch a directory for changes while its listing is on its way."""
        load = self.begin(prefix)
        try:
            yield load
        finally:
            self.end(load)

    def begin(self, prefix: str, *, is_deep: bool = False) -> Load[L]:
        """Watch a directory, or all below it, for changes until `end`."""
        load: Load[L] = Load(prefix, is_deep=is_deep)
        self._loads.add(load)
        return load

    def end(self, load: Load[L]) -> None:
        """Watch no more."""
        self._loads.discard(load)

    def store(self, load: Load[L], listing: L) -> None:
        """Bring a listing up to date and remember it, unless it was to be dropped or is over the cap alone."""
        self.store_part(load, load.prefix, listing, trio.current_time(), 0)

    def store_part(self, load: Load[L], prefix: str, listing: L, asked_at: float, changes_before: int) -> None:
        """As `store`, of one of the directories that are listed together.

        Args:
            load: Covers the directory.
            prefix: The directory.
            listing: What the Space showed.
            asked_at: When it was asked for.
            changes_before: How many changes ``load`` had then.
        """
        for changed, change in load.changes[changes_before:]:
            if changed == prefix:
                change(listing)
        if not load.is_outdated and len(listing) < MAX_LISTED_ENTRIES:
            self._entries[prefix] = _Entry(asked_at, listing)

    def change(self, prefix: str, change: Callable[[L], None]) -> None:
        """Bring the listing of a directory up to date, if it is fresh, and any that is on its way."""
        for load in self._loads:
            if load.covers(prefix) and not load.is_outdated:
                load.changes.append((prefix, change))
                load.is_outdated |= len(load.changes) > MAX_LISTED_ENTRIES
        entry = self._entries.get(prefix)
        if entry is not None and trio.current_time() - entry.stored_at <= self._ttl_seconds:
            change(entry.listing)

    def forget_one(self, prefix: str) -> None:
        """Drop the listing of a directory, and not those below it."""
        self._entries.pop(prefix, None)
        for load in self._loads:
            load.is_outdated |= load.covers(prefix)

    def forget(self, prefix: str) -> None:
        """Drop the listings of a directory and of everything below it."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]
        for load in self._loads:
            if load.prefix.startswith(prefix) or load.covers(prefix):
                load.is_outdated = True


class Keeper(Protocol):
    """Who remembers descriptions beyond this mount."""

    def save(self, row: Row) -> None:
        """Remember an object."""

    def forget(self, key: str) -> None:
        """Forget an object."""


class _Described:
    """What is remembered of a key. From the disk it is unpacked when first asked for."""

    __slots__ = ("_info", "row", "stored_at")

    def __init__(self, row: Row, info: ObjectInfo | None) -> None:
        self.row = row
        self.stored_at = trio.current_time() if info is not None else float("-inf")
        self._info = info

    @property
    def info(self) -> ObjectInfo | None:
        if self._info is None:
            self._info = unpack_info(self.row)
        return self._info

    def matches(self, listed: ListedObject) -> bool:
        row, time_ns = self.row, listed.last_modified_ns
        if row.etag != listed.etag:
            return False
        if row.first_ns <= time_ns <= row.last_ns:
            return True
        return self._info is not None and self._info.last_modified_ns == time_ns  # the listing has it from here

    def narrow(self, time_ns: int) -> bool:
        """Bind it to the very time that a listing shows; say whether that is news."""
        if self.row.first_ns == self.row.last_ns or not time_ns % _SECOND_NS:
            return False
        self.row = self.row._replace(first_ns=time_ns, last_ns=time_ns)
        return True


class ObjectCache:
    """Descriptions of objects by key, good for as long as a listing shows the same version.

    Properties can change while the ETag stays, and that moves LastModified. So a description is bound to what
    LastModified may be: exactly one time, in milliseconds, where a copy or a listing told it; the second that a HEAD
    told, if that was over when the HEAD was answered; any up to now after a PUT, which tells none. The first listing
    that fits binds it to one time.

    The ACL and the tags, whose changes no HEAD shows, are good for ``ttl_seconds``.
    """

    def __init__(
        self, ttl_seconds: float, keeper: Keeper | None = None, server_time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Begin with nothing; ``server_time_ns`` tells the latest time that the Space's clock may show."""
        self._ttl_seconds = ttl_seconds
        self._keeper = keeper
        self._server_time_ns = server_time_ns
        self._known: LRUCache[str, _Described] = LRUCache(MAX_DESCRIBED_OBJECTS)

    def get(self, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of exactly the version that a listing shows."""
        known = self._known.get(listed.key)
        if known is None or not known.matches(listed):
            return None
        if known.narrow(listed.last_modified_ns) and self._keeper is not None:
            self._keeper.save(known.row)
        return known.info

    def latest(self, key: str) -> ObjectInfo | None:
        """Return the last description of a key, of whatever version."""
        known = self._known.get(key)
        return known.info if known is not None else None

    def complete(self, key: str) -> ObjectInfo | None:
        """Return the last description of a key; without the ACL and the tags once those may have changed."""
        known = self._known.get(key)
        info = known.info if known is not None else None
        if known is None or info is None or trio.current_time() - known.stored_at <= self._ttl_seconds:
            return info
        return replace(info, properties=replace(info.properties, acl=None, tags=None))

    def store(self, info: ObjectInfo, listed: ListedObject | None = None) -> None:
        """Remember a description that just came; ``listed`` is what a listing showed before it was asked for."""
        first_ns, last_ns = self._bounds(info, listed)
        row = Row(info.key, info.etag, first_ns, last_ns, pack_info(info))
        self._known[info.key] = _Described(row, info)
        if self._keeper is not None:
            if first_ns <= last_ns:
                self._keeper.save(row)
            else:
                self._keeper.forget(info.key)

    def recall(self, row: Row, listed: ListedObject) -> None:
        """Take a description from the disk, if it is of the version that a listing shows."""
        described = _Described(row, None)
        if described.matches(listed):
            self._known[row.key] = described

    def drop(self, key: str) -> None:
        """Drop what this mount knows of a key."""
        self._known.pop(key, None)

    def forget(self, key: str) -> None:
        """As `drop`, for all mounts of this host."""
        self.drop(key)
        if self._keeper is not None:
            self._keeper.forget(key)

    def forget_below(self, prefix: str) -> None:
        """Drop what this mount knows of all keys that begin with a prefix."""
        for key in [key for key in self._known if key.startswith(prefix)]:
            del self._known[key]

    def _bounds(self, info: ObjectInfo, listed: ListedObject | None) -> tuple[int, int]:
        """Return the first and the last time that LastModified may be; the last is before the first for none."""
        time_ns = info.last_modified_ns
        if time_ns == 0:
            return 0, self._server_time_ns()
        if time_ns % _SECOND_NS:
            return time_ns, time_ns
        if (
            listed is not None
            and listed.etag == info.etag
            and listed.last_modified_ns // _SECOND_NS * _SECOND_NS == time_ns
        ):
            return listed.last_modified_ns, listed.last_modified_ns
        if self._server_time_ns() - time_ns < _SETTLED_NS:
            return 1, 0
        return time_ns, time_ns + _SECOND_NS - 1


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
