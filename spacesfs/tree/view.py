"""What the Space shows, through the caches: names in directories, and the objects behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import trio
from cachetools import LRUCache, TTLCache

from spacesfs.attributes import AttributeDefaults, Attributes, attributes_of
from spacesfs.cache.metadata import ListingCache
from spacesfs.client.models import ListedObject, ListPage, ObjectInfo, ObjectVersion
from spacesfs.tasks import open_team
from spacesfs.tree.ahead import Spawn
from spacesfs.tree.descriptions import DescribingStore, Descriptions, Glimpse, Memory
from spacesfs.tree.directory import (
    Lister,
    Listing,
    keys_in,
    listing_of,
    note_directory,
    note_file,
    note_marker,
    note_no_directory,
    note_no_file,
)
from spacesfs.tree.markers import Markers
from spacesfs.tree.names import OWN_BYTES, is_beside, name_of, segment_in, split_key
from spacesfs.tree.stream import Stream
from spacesfs.tree.sweeps import Sweeps

_MAX_ASKED = 10_000
_ASKED_OFTEN = 3  # names in one directory within the TTL; asking for each costs two requests, for all usually one
_MAX_ABSENT = 50_000
_MAX_SAMPLES = 100  # pages of 1,000 keys
_MAX_BARE = 1000


class ViewStore(Lister, DescribingStore, Protocol):
    """What is needed of a bucket here."""

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        max_keys: int = ...,
        start_after: str | None = None,
        resume: str | None = None,
    ) -> ListPage:
        """Return one page of a listing."""

    def resume_after(self, key: str) -> str:
        """Return what resumes any listing after a key."""


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

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        store: ViewStore,
        defaults: AttributeDefaults,
        ttl_seconds: float,
        mounted_ns: int,
        glimpse: Glimpse | None = None,
        memory: Memory | None = None,
        spawn: Spawn | None = None,
        *,
        asks_objects: bool = True,
    ) -> None:
        """Begin with nothing.

        Args:
            store: The bucket.
            defaults: What an object without attributes has.
            ttl_seconds: How long a listing, and the absence of something, is believed.
            mounted_ns: The time that directories without a marker have.
            glimpse: May know objects from their bytes.
            memory: What this host has learnt of objects before.
            spawn: Starts what is asked ahead; without, nothing is.
            asks_objects: Whether files have the attributes that their objects carry; else a listing says all.
        """
        self._store = store
        self._defaults = defaults
        self._mounted_ns = mounted_ns
        self._asks_objects = asks_objects
        self._changes = 0  # an answer is remembered only if nothing changed here while the Space was asked
        self._listings: ListingCache[Listing] = ListingCache(ttl_seconds)
        self._objects = Descriptions(store, ttl_seconds, glimpse, memory if asks_objects else None, spawn)
        self._spawn = spawn
        self._streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._sweeps = Sweeps(store, self._listings, self._objects.learn, ttl_seconds)
        self._markers = Markers(self._objects, self._sweeps, ttl_seconds, spawn)
        self._asked: TTLCache[str, int] = TTLCache(_MAX_ASKED, ttl_seconds, timer=trio.current_time)
        self._samples: TTLCache[str, set[str]] = TTLCache(_MAX_SAMPLES, ttl_seconds, timer=trio.current_time)
        self._absent: TTLCache[str, None] = TTLCache(_MAX_ABSENT, ttl_seconds, timer=trio.current_time)
        self._bare: LRUCache[str, None] = LRUCache(_MAX_BARE)  # directories with files whose names have no dot

    async def find(self, prefix: str, name: str) -> Found | None:
        """Return what is behind a name in a directory, described; None if there is nothing."""
        if name == OWN_BYTES:
            return await self.look(prefix) if prefix else None
        key = prefix + segment_in(name)
        listing = self._listings.get(prefix)
        if listing is None and self._listings.is_worth_renewing(prefix):
            listing = await self.listing(prefix)
        if listing is None and (stream := self._streams.get(prefix)) is not None and stream.reaches(key):
            listing = stream.part()
        if listing is None:
            listing = await self._sweeps.answering(prefix, key)
        if listing is None:
            if self._sweeps.has_seen(f"{key}/") and not is_beside(name):
                return await self.directory(f"{key}/")
            listing = await self._listing_of_asked_often(prefix)
        if listing is None:
            return await self._probe(prefix, name)
        if name in listing.directories:
            marker = await self._markers.of_listed(prefix, name, listing.directories) if self._asks_objects else None
            return self._directory_of(marker)
        return await self._find_listed(prefix, name, listing)

    async def recalled(self, prefix: str, name: str) -> Found | None:
        """Return what this host has ever learnt of a name and not unlearnt, without asking; None if that is nothing."""
        segment = segment_in(name)
        key = prefix + segment
        if not is_beside(name) and await self._objects.was_below(f"{key}/"):
            return await self.recalled_directory(f"{key}/")
        info = await self._objects.recalled(key) if segment else None
        return self.found(info) if info is not None else None

    async def recalled_directory(self, key: str) -> Found:
        """Return a directory as this host last knew it, without asking."""
        return self._directory_of(await self._objects.recalled(key))

    async def _find_listed(self, prefix: str, name: str, listing: Listing) -> Found | None:
        if is_beside(name) and name not in listing.objects:
            name = name_of(segment_in(name))  # both are good once the directory is gone: rm -r removes it first
        listed = listing.objects.get(name)
        if listed is None:
            return None
        if not self._asks_objects:
            return self.glance_at_file(listed)
        info = await self._objects.of_listed(prefix, name, listing)
        if info is None:
            self._drop(listed.key)
            return None
        if info is not self._objects.get(listed):
            self._update_listing(info)
        return self.found(info)

    async def listing(self, prefix: str) -> Listing:
        """Return a directory as the Space shows it."""
        listing = await self._listing_at_hand(prefix)
        if listing is None:
            with self._listings.loading(prefix) as load:
                begun = self._sweeps.begun(prefix)
                pages = [begun[0] if begun is not None else await self.page(prefix, None)]
                while pages[-1].resume is not None:
                    pages.append(await self.page(prefix, pages[-1].resume))
                listing = listing_of(pages, prefix)
                self._listings.store(load, listing)
        return listing

    async def opened(self, prefix: str) -> Listing | Stream:
        """Return a directory as the Space shows it; one that takes more than one request comes page by page."""
        listing = await self._listing_at_hand(prefix)
        if listing is not None:
            return listing
        begun = self._sweeps.begun(prefix)
        stream = Stream(self, self._listings, prefix, self._spawn, self._listings.begin(prefix), begun)
        try:
            page = await stream.page(0)
        except BaseException:
            stream.close()
            raise
        if stream.is_whole and page is not None:
            return self._listings.peek(prefix) or page.listing
        self._streams[prefix] = stream
        return stream

    async def page(self, prefix: str, resume: str | None) -> ListPage:
        """Return a page of a directory, and recall what this host knows of what is in it."""
        page = await self._store.list_page(prefix, delimiter="/", resume=resume)
        await self._objects.learn(page.objects)
        return page

    async def holds(self, prefix: str) -> bool:
        """Ask whether any key begins with a prefix."""
        return bool((await self._store.list_page(prefix, max_keys=1)).objects)

    async def _listing_at_hand(self, prefix: str) -> Listing | None:
        """Return the listing of a directory if it is fresh, or comes with others."""
        listing = self._listings.get(prefix)
        if listing is not None:
            self._sweeps.note_use(prefix)
        elif await self._sweeps.bring(prefix):
            listing = self._listings.get(prefix)
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
            page = await self.page(prefix, None)
            if page.resume is not None:
                return None
            listing = listing_of([page], prefix)
            self._listings.store(load, listing)
            return None if load.is_outdated else listing

    async def listing_of_part(self, prefix: str, part: str) -> Listing:
        """Return what of a directory has long names that begin with a part."""
        listing = self._listings.get(prefix)
        if listing is None:
            pages = self._store.list(prefix + segment_in(part), delimiter="/")
            listing = listing_of([page async for page in pages], prefix)
        begin = f"{part}/"
        objects = {name: listed for name, listed in listing.objects.items() if name.startswith(begin)}
        return Listing(objects, {name for name in listing.directories if name.startswith(begin)}, has_marker=False)

    def glance_at_directory(self, key: str) -> Found:
        """Return what is known of a listed directory without asking."""
        if not self._asks_objects:
            return self.plain_directory()
        is_known, marker = self._markers.known(key)
        return replace(self._directory_of(marker), is_described=is_known)

    def glance_at_file(self, listed: ListedObject) -> Found:
        """Return what is known of a listed file without asking."""
        info = self._objects.get(listed) if self._asks_objects else None
        if info is not None:
            return self.found(info)
        version = ObjectVersion(listed.key, listed.etag, listed.size)
        attributes = self._defaults.for_file(listed.last_modified_ns)
        return Found(attributes, version, is_described=not self._asks_objects)

    async def look(self, key: str) -> Found | None:
        """Ask the Space for a file; None if there is none. That of a directory's key is the bytes of its marker."""
        if self._asks_objects and key.endswith("/"):
            marker = await self.marker(key)
            return self.found(marker) if marker is not None and marker.size else None
        if self._asks_objects:
            info = await self.describe(key)
            return self.found(info) if info is not None else None
        page = await self._store.list_page(key, max_keys=1)
        listed = page.objects[0] if page.objects else None
        is_file = listed is not None and listed.key == key and (listed.size or not key.endswith("/"))
        return self.glance_at_file(listed) if listed is not None and is_file else None

    async def describe(self, key: str) -> ObjectInfo | None:
        """Ask the Space for an object; None if there is none. Remembers the answer."""
        if key.endswith("/"):
            return await self.marker(key)
        info = await self._objects.ask(key)
        if info is None:
            self._drop(key)
        else:
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
        marker = self._markers.heard(key)
        return self._directory_of(marker) if marker else None

    def plain_directory(self) -> Found:
        """Return a directory of which nothing is known."""
        return Found(self._defaults.for_directory(self._mounted_ns), None)

    def version_of(self, key: str) -> ObjectVersion | None:
        """Return the version last heard of under a key."""
        info = self._objects.latest(key)
        return ObjectVersion(info.key, info.etag, info.size) if info is not None else None

    def known(self, version: ObjectVersion) -> ObjectInfo | None:
        """Return what is remembered of exactly this version."""
        return self._objects.known(version)

    async def directory(self, key: str) -> Found:
        """Return the attributes of a directory that exists; without a marker it has those of the mount's options."""
        return self._directory_of(await self.marker(key) if self._asks_objects else None)

    async def marker(self, key: str) -> ObjectInfo | None:
        """Return the object that a directory has of its own, if any."""
        return await self._markers.of(key)

    def _directory_of(self, marker: ObjectInfo | None) -> Found:
        if marker is None:
            return self.plain_directory()
        return Found(attributes_of(marker, self._defaults, is_directory=True), None)

    async def is_empty(self, key: str, is_gone: Callable[[str], bool]) -> bool:
        """Say whether a directory holds nothing but its marker, be that as it may, and what is gone for this mount."""
        listing = self._listings.get(key)
        if listing is not None:
            return all(other == key or is_gone(other) for other in keys_in(listing, key))
        async with aclosing(self._store.list(key)) as pages:
            async for page in pages:
                if any(listed.key != key and not is_gone(listed.key) for listed in page.objects):
                    return False
        return True

    async def keeps_itself(self, key: str, is_gone: Callable[[str], bool]) -> bool:
        """Say whether a directory goes on to exist without help: it has a marker, or something that is not gone."""
        listing = self._listings.get(key)
        if self._markers.heard(key) or (listing is not None and listing.has_marker):
            return True
        if listing is not None and not all(map(is_gone, keys_in(listing, key))):
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
        self._objects.store(info)
        if info.key.endswith("/"):
            self._markers.store(info)
            prefix, name = split_key(info.key)
            self._listings.change(prefix, partial(note_directory, name))
            self._listings.change(info.key, partial(note_marker, info))
            return
        self._update_listing(info)

    def note_copied(self, listed: ListedObject) -> None:
        """A file was stored by this mount, as a copy of one that was not described either."""
        self._changes += 1
        self._absent.pop(listed.key, None)
        self._note_directories(listed.key)
        self._objects.outdate(listed.key)
        self._update_listing(listed)

    async def recall(self, objects: Sequence[ListedObject]) -> None:
        """Recall what this host knows of a page of a listing, and forget what is known of other versions."""
        await self._objects.recall(objects)

    def _note_directories(self, key: str) -> None:
        """The directories that a key lies in are there, for they hold it."""
        directory = split_key(key)[0]
        while directory:
            parent, name = split_key(directory)
            self._listings.change(parent, partial(note_directory, name))
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
            self._markers.drop(key)
            self._objects.forget(key)
            self._listings.forget(key)
            self._listings.change(prefix, partial(note_no_directory, name))
            return
        self._objects.forget(key)
        self._listings.change(prefix, partial(note_no_file, name))

    def refresh(self, key: str) -> None:
        """Forget what is remembered of a key, of everything below it, and of the directory that it is in."""
        self._changes += 1
        self._absent.clear()
        self._asked.clear()
        self._samples.clear()
        self._markers.forget_below(key)
        self._objects.forget_below(key)
        self._sweeps.close()
        self._listings.forget(key)
        if key:
            self._listings.forget_one(split_key(key)[0])

    def doubt(self, prefix: str) -> None:
        """Something went wrong in a directory: what is remembered of it may be untrue."""
        self._listings.forget(prefix)
        self._absent.clear()

    async def _probe(self, prefix: str, name: str) -> Found | None:
        """Ask for a directory and a file of one segment; the name is the directory's if there is one.

        Nothing tells whether a name is the last of a path. One that looks like a directory's is asked for as that, and
        as a file only if it is none, so that a deep path costs one request; else both are asked for at once.
        """
        segment = segment_in(name)
        key = prefix + segment
        if key in self._absent:
            return None
        if is_beside(name):
            return await self.look(key)
        changes = self._changes
        is_bare = "." not in name[1:]
        if is_bare and prefix not in self._bare:
            is_directory = await self._sweeps.is_directory(key + "/")
            file = await self.look(key) if segment and not is_directory else None
        else:
            is_directory, file = await self._ask_both(key, has_file=bool(segment))
        if is_directory:
            return await self.directory(key + "/")
        if file is None and self._changes == changes:
            self._absent[key] = None
        if file is not None and is_bare:
            self._bare[prefix] = None
        return file

    async def _ask_both(self, key: str, *, has_file: bool) -> tuple[bool, Found | None]:
        """Ask at once whether there is a directory and for the file; without a segment the key is a marker's."""
        file: Found | None = None
        is_directory = False

        async def ask_file() -> None:
            nonlocal file
            file = await self.look(key) if has_file else None

        async def ask_directory() -> None:
            nonlocal is_directory
            is_directory = await self._sweeps.is_directory(key + "/")

        async with open_team() as team:
            team.start_soon(ask_file)
            team.start_soon(ask_directory)
        return is_directory, file

    def found(self, info: ObjectInfo) -> Found:
        """Return a described object as the file that is behind a name."""
        attributes = attributes_of(info, self._defaults, is_directory=False)
        return Found(attributes, ObjectVersion(info.key, info.etag, info.size))

    def _update_listing(self, info: ObjectInfo | ListedObject) -> None:
        prefix, name = split_key(info.key)
        self._listings.change(prefix, partial(note_file, name, info))
