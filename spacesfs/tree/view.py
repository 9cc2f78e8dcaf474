"""What the Space shows, through the caches: names in directories, and the objects behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import trio
from cachetools import TTLCache

from spacesfs.attributes import AttributeDefaults, Attributes, attributes_of
from spacesfs.cache.metadata import ListingCache, ObjectCache, is_unchanged
from spacesfs.client.errors import NoSuchKey
from spacesfs.client.models import ListedObject, ListPage, ObjectInfo, ObjectVersion
from spacesfs.tasks import open_team
from spacesfs.tree.directory import Lister, Listing, list_directory, listing_of, put_beside
from spacesfs.tree.names import is_beside, name_beside, name_of, segment_in, split_key

_MAX_MARKERS = 50_000
_MAX_ASKED = 10_000
_ASKED_OFTEN = 3  # names in one directory within the TTL; asking for each costs two requests, for all usually one
_MAX_ABSENT = 50_000
_MAX_SAMPLES = 100  # pages of 1,000 keys


class ViewStore(Lister, Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def list_page(self, prefix: str, *, delimiter: str | None = None, max_keys: int = ...) -> ListPage:
        """Return the first page of a listing."""


class Glimpse(Protocol):
    """Somebody who may know an object from its bytes."""

    async def describe(self, prefix: str, listed: ListedObject) -> ObjectInfo | None:
        """Return the description of exactly what a listing shows, or None."""


class _Unknown:
    """Nothing was heard of a marker, not even that there is none."""


_UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Found:
    """What is behind a name. ``version`` is None for a directory; ``is_described`` is False if only a listing told."""

    attributes: Attributes
    version: ObjectVersion | None
    is_described: bool = True


class View:
    """The Space as directories. Answers come from the caches while they are fresh, else from the Space.

    The ``note_*`` methods keep the caches true to what this mount changed.
    """

    def __init__(
        self,
        store: ViewStore,
        defaults: AttributeDefaults,
        ttl_seconds: float,
        mounted_ns: int,
        glimpse: Glimpse | None = None,
    ) -> None:
        self._store = store
        self._glimpse = glimpse
        self._defaults = defaults
        self._mounted_ns = mounted_ns
        self._changes = 0  # an answer is remembered only if nothing changed here while the Space was asked
        self._listings: ListingCache[Listing] = ListingCache(ttl_seconds)
        self._objects = ObjectCache(ttl_seconds)
        self._markers: TTLCache[str, ObjectInfo | None] = TTLCache(_MAX_MARKERS, ttl_seconds, timer=trio.current_time)
        self._asked: TTLCache[str, int] = TTLCache(_MAX_ASKED, ttl_seconds, timer=trio.current_time)
        self._samples: TTLCache[str, set[str]] = TTLCache(_MAX_SAMPLES, ttl_seconds, timer=trio.current_time)
        self._absent: TTLCache[str, None] = TTLCache(_MAX_ABSENT, ttl_seconds, timer=trio.current_time)

    async def find(self, prefix: str, name: str) -> Found | None:
        """Return what is behind a name in a directory, described; None if there is nothing."""
        listing = self._listings.get(prefix)
        if listing is None and self._listings.is_worth_renewing(prefix):
            listing = await self.listing(prefix)
        if listing is None:
            listing = await self._listing_of_asked_often(prefix)
        if listing is None:
            return await self._probe(prefix, name)
        if name in listing.directories:
            return await self.directory(prefix + segment_in(name) + "/")
        listed = listing.objects.get(name)
        if listed is None and is_beside(
            name
        ):  # where the directory is gone both names are good: rm -r removes it first
            listed = listing.objects.get(name_of(segment_in(name)) or "")
        if listed is None:
            return None
        info = self._objects.get(listed) or await self.describe(listed.key, listed)
        return self.found(info) if info else None

    async def listing(self, prefix: str) -> Listing:
        """Return a directory as the Space shows it."""
        listing = self._listings.get(prefix)
        if listing is None:
            with self._listings.loading(prefix) as load:
                listing = await list_directory(self._store, prefix)
                self._listings.store(load, listing)
        return listing

    def known_listing(self, prefix: str) -> Listing | None:
        """Return a directory as the Space showed it a while ago, without asking; None if that was too long ago."""
        return self._listings.get(prefix)

    async def _listing_of_asked_often(self, prefix: str) -> Listing | None:
        """List a directory of which one name after the other is asked for, unless it takes more than one request."""
        asked = self._asked.get(prefix, 0) + 1
        self._asked[prefix] = asked
        if asked != _ASKED_OFTEN:
            return None
        with self._listings.loading(prefix) as load:
            page = await self._store.list_page(prefix, delimiter="/")
            if page.resume is not None:
                return None
            listing = listing_of([page], prefix)
            self._listings.store(load, listing)
            return None if load.is_outdated else listing

    def glance_at_directory(self, key: str) -> Found:
        """Return what is known of a listed directory without asking."""
        marker = self._markers.get(key)
        attributes = attributes_of(marker, self._defaults) if marker else self._defaults.for_directory(self._mounted_ns)
        return Found(attributes, None, is_described=key in self._markers)

    def glance_at_file(self, listed: ListedObject) -> Found:
        """Return what is known of a listed file without asking."""
        info = self._objects.get(listed)
        if info is not None:
            return self.found(info)
        version = ObjectVersion(listed.key, listed.etag, listed.size)
        return Found(self._defaults.for_file(listed.last_modified_ns), version, is_described=False)

    async def describe(self, key: str, listed: ListedObject | None = None) -> ObjectInfo | None:
        """Ask the Space for an object; None if there is none. Remembers the answer.

        Of what a fresh listing shows, the bytes may be asked for instead: they come with the same answer.
        """
        before = self._objects.latest(key)
        info: ObjectInfo | None = None
        if listed is not None and self._glimpse is not None:
            info = await self._glimpse.describe(split_key(key)[0], listed)
        try:
            info = info or await self._store.head(key)
        except NoSuchKey:
            info = None
        if self._objects.latest(key) is not before:
            return self._objects.latest(key)  # changed here while the Space was asked: the answer is older
        if info is None:
            self._drop(key)
            return None
        known = self._objects.complete(key)
        if known is not None and is_unchanged(known, info):
            info = replace(info, properties=known.properties)  # and with it what a HEAD does not tell: ACL and tags
        self._objects.store(info)
        self._update_listing(info)
        return info

    def glance_at_moved(self, version: ObjectVersion) -> Found:
        """Return what is known, without asking, of an object that is shown under another name than it has."""
        info = self.known(version)
        if info is not None:
            return self.found(info)
        return Found(self._defaults.for_file(self._mounted_ns), version, is_described=False)

    async def describe_found(self, found: Found) -> Found | None:
        """Describe the object behind something found; None if it is gone, or another version is there."""
        if found.version is None:
            return found
        info = self.known(found.version) or await self.describe(found.version.key)
        return self.found(info) if info is not None and info.etag == found.version.etag else None

    def known_marker(self, key: str) -> Found | None:
        """Return what is known of a directory's marker without asking."""
        marker = self._markers.get(key)
        return Found(attributes_of(marker, self._defaults), None) if marker else None

    def plain_directory(self) -> Found:
        """Return a directory of which nothing is known."""
        return Found(self._defaults.for_directory(self._mounted_ns), None)

    def version_of(self, key: str) -> ObjectVersion | None:
        """Return the version last heard of under a key."""
        info = self._objects.latest(key)
        return ObjectVersion(info.key, info.etag, info.size) if info is not None else None

    def known(self, version: ObjectVersion) -> ObjectInfo | None:
        """Return what is remembered of exactly this version."""
        info = self._objects.complete(version.key)
        return info if info is not None and info.etag == version.etag else None

    async def directory(self, key: str) -> Found:
        """Return the attributes of a directory that exists; without a marker it has those of the mount's options."""
        marker = await self.marker(key)
        attributes = attributes_of(marker, self._defaults) if marker else self._defaults.for_directory(self._mounted_ns)
        return Found(attributes, None)

    async def marker(self, key: str) -> ObjectInfo | None:
        """Return the object that a directory has of its own, if any."""
        known = self._markers.get(key, _UNKNOWN)
        if not isinstance(known, _Unknown):
            return known
        changes = self._changes
        try:
            marker = await self._store.head(key)
        except NoSuchKey:
            marker = None
        if self._changes == changes:
            self._markers[key] = marker
        return marker

    async def is_empty(self, key: str, is_gone: Callable[[str], bool]) -> bool:
        """Say whether a directory holds nothing but its marker and what is gone for this mount."""
        listing = self._listings.get(key)
        if listing is not None and not listing.hides_keys:
            return all(map(is_gone, _keys_in(listing, key)))
        async with aclosing(self._store.list(key)) as pages:
            async for page in pages:
                if any(listed.key != key and not is_gone(listed.key) for listed in page.objects):
                    return False
        return True

    async def keeps_itself(self, key: str, is_gone: Callable[[str], bool]) -> bool:
        """Say whether a directory goes on to exist without help: it has a marker, or something that is not gone."""
        listing = self._listings.get(key)
        if self._markers.get(key) or (listing is not None and listing.has_marker):
            return True
        if listing is not None and (listing.hides_keys or not all(map(is_gone, _keys_in(listing, key)))):
            return True
        sample = self._samples.get(key, ())
        if any(not is_gone(name) for name in sample):
            return True
        async with aclosing(self._store.list(key)) as pages:
            async for page in pages:
                self._samples[key] = {listed.key for listed in page.objects}
                if any(not is_gone(listed.key) for listed in page.objects):
                    return True
        return False

    def note_stored(self, info: ObjectInfo) -> None:
        """An object was stored by this mount."""
        self._changes += 1
        self._absent.pop(info.key.removesuffix("/"), None)
        self._note_directories(info.key)
        if info.key.endswith("/"):
            self._markers[info.key] = info
            prefix, name = split_key(info.key)
            self._listings.change(prefix, partial(_note_directory, name))
            self._listings.change(info.key, _note_marker)
            return
        self._objects.store(info)
        self._update_listing(info)

    def _note_directories(self, key: str) -> None:
        """The directories that a key lies in are there, for they hold it."""
        directory = split_key(key)[0]
        while directory:
            parent, name = split_key(directory)
            self._listings.change(parent, partial(_note_directory, name))
            self._absent.pop(directory.removesuffix("/"), None)
            directory = parent

    def note_made(self, key: str) -> None:
        """A directory was made by this mount, so it is known to be empty."""
        with self._listings.loading(key) as load:
            self._listings.store(load, Listing({}, set(), has_marker=True))

    def note_removed(self, key: str) -> None:
        """An object was removed by this mount."""
        self._changes += 1
        self._drop(key)
        directory = split_key(key)[0]
        while directory:
            self._samples.get(directory, set()).discard(key)
            directory = split_key(directory)[0]

    def _drop(self, key: str) -> None:
        self._absent.pop(key.removesuffix("/"), None)
        prefix, name = split_key(key)
        if key.endswith("/"):
            self._markers[key] = None
            self._listings.forget(key)
            self._listings.change(prefix, partial(_note_no_directory, name))
            return
        self._objects.forget(key)
        self._listings.change(prefix, partial(_note_no_file, name))

    def doubt(self, prefix: str) -> None:
        """Something went wrong in a directory: what is remembered of it may be untrue."""
        self._listings.forget(prefix)
        self._absent.clear()

    async def _probe(self, prefix: str, name: str) -> Found | None:
        """Ask for a file and for a directory of one segment at once; the name is the directory's if there is one."""
        segment = segment_in(name)
        key = prefix + segment
        if key in self._absent:
            return None
        changes = self._changes
        info: ObjectInfo | None = None
        below: ListPage | None = None

        async def ask_file() -> None:
            nonlocal info
            if segment:  # else the key is the marker of the directory above
                info = await self.describe(key)

        async def ask_directory() -> None:
            nonlocal below
            below = await self._store.list_page(key + "/", max_keys=1)

        async with open_team() as team:
            team.start_soon(ask_file)
            team.start_soon(ask_directory)
        is_directory = below is not None and bool(below.objects)
        if is_directory and not is_beside(name):
            return await self.directory(key + "/")
        if info is not None:
            return self.found(info)
        if self._changes == changes:
            self._absent[key] = None
        return None

    def found(self, info: ObjectInfo) -> Found:
        """Return a described object as what is behind a name."""
        return Found(attributes_of(info, self._defaults), ObjectVersion(info.key, info.etag, info.size))

    def _update_listing(self, info: ObjectInfo) -> None:
        prefix, name = split_key(info.key)
        self._listings.change(prefix, partial(_note_file, name, info))


def _keys_in(listing: Listing, key: str) -> Iterator[str]:
    """Yield the keys of what a directory shows."""
    yield from (listed.key for listed in listing.objects.values())
    yield from (f"{key}{segment_in(name)}/" for name in listing.directories)


def _note_file(segment: str, info: ObjectInfo, listing: Listing) -> None:
    name = name_of(segment)
    if name in listing.directories:
        name = name_beside(segment)
    if name is not None:
        listing.objects[name] = ListedObject(info.key, info.size, info.etag, info.last_modified_ns)


def _note_directory(segment: str, listing: Listing) -> None:
    name = name_of(segment)
    if name is not None:
        listing.directories.add(name)
        put_beside(listing, name)


def _note_no_file(segment: str, listing: Listing) -> None:
    for name in (name_of(segment), name_beside(segment)):
        listing.objects.pop(name or "", None)


def _note_no_directory(segment: str, listing: Listing) -> None:
    name = name_of(segment)
    listing.directories.discard(name or "")
    beside = listing.objects.pop(name_beside(segment) or "", None)
    if name is not None and beside is not None:
        listing.objects[name] = beside


def _note_marker(listing: Listing) -> None:
    listing.has_marker = True
