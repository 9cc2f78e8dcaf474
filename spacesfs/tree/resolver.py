"""From names to inodes: what the Space shows, joined with what this mount has in hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from spacesfs.attributes import Attributes
from spacesfs.client.errors import DeadlineExceeded, SpacesError, Unreachable, Untrusted
from spacesfs.client.models import ListedObject, ObjectVersion
from spacesfs.errors import NotDirectory, NotFound, StaleFile
from spacesfs.tree.directory import Listing
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import check_key, is_part, segment_in
from spacesfs.tree.stream import Page
from spacesfs.tree.view import Found, View

# The first calls after the Space went only run into their deadline. They count, too: to a look-up that fails the kernel
# forgets the name, and with it goes what is known.
_AWAY = (Unreachable, DeadlineExceeded)


@dataclass(frozen=True, slots=True)
class Told:
    """What this mount has acknowledged of a name: what is there, or None for nothing.

    With ``asks_space`` a directory that the Space has counts more: one that is there for what is below it may have a
    marker, and where a file was removed there may be a directory.
    """

    found: Found | None
    asks_space: bool = False


@dataclass(frozen=True, slots=True)
class ToldNames:
    """What this mount has acknowledged of a directory's names; ``directories`` are those of ``shown`` that are some."""

    shown: frozenset[str]
    hidden_files: frozenset[str]
    hidden_directories: frozenset[str]
    directories: frozenset[str] = frozenset()


class Local(Protocol):
    """What this mount has that the Space does not show (yet)."""

    def is_ahead(self, inode: Inode) -> bool:
        """Say whether an inode has something here that is not in the Space, so that the Space's word does not count."""

    def is_open(self, inode: Inode) -> bool:
        """Say whether an inode has handles."""

    def version_of(self, inode: Inode) -> ObjectVersion | None:
        """Return the version that an inode stands for."""

    def told(self, prefix: str, name: str) -> Told | None:
        """Return what is acknowledged of a name in a directory; None if the Space's word counts."""

    def unsaved_names(self, directory: Inode) -> list[str]:
        """Return the names of open files in a directory that are not acknowledged yet."""

    def told_names(self, prefix: str) -> ToldNames:
        """Return what is acknowledged of the names in a directory."""


@dataclass(slots=True)
class Entry:
    """One name in a snapshot of a directory, as it is seen there.

    ``listed`` is None for a directory, and for a file that only this mount had then (``is_local``).
    """

    name: str
    listed: ListedObject | None
    asked_at: float
    is_local: bool = False


class Resolver:
    """Binds names to inodes. One inode has one foreign version: another version is another inode.

    While the Space can't be reached what is known of a name answers, however old it is, by this mount or by this host:
    a version whose bytes are here can be read, and those that are not here are asked for under the version's ETag, so
    nothing is ever mixed.
    """

    def __init__(self, table: InodeTable, view: View, local: Local, ttl_seconds: float) -> None:
        self._table = table
        self._view = view
        self._local = local
        self._ttl_seconds = ttl_seconds

    async def find(self, directory: Inode, name: str) -> Inode | None:
        """Return the inode of a name, or None if there is no such name."""
        if not directory.attributes.is_directory:
            raise NotDirectory
        if is_part(name):
            return self._part(directory, name)
        while True:
            inode = self._table.child(directory, name)
            if inode is not None and self._knows_better(inode):
                return inode
            before = self._local.version_of(inode) if inode is not None else None
            prefix = directory.key
            check_key(prefix + segment_in(name))
            try:
                found = await self._look(prefix, name)
            except _AWAY as error:
                return await self._known(directory, name, error)
            now = self._table.child(directory, name)
            if now is inode and (now is None or self._local.version_of(now) == before) and directory.key == prefix:
                break  # else it changed here while the Space was asked, and the answer is older
        if found is not None:
            return self.bind(directory, name, found)
        self._table.displace(directory, name)
        return None

    def _part(self, directory: Inode, name: str) -> Inode:
        """Return the inode of a part of long names. It is as its directory is, and always there: one may be made."""
        inode = self._table.child(directory, name) or self._table.add(directory, name, directory.attributes)
        inode.attributes, inode.validated_at = directory.attributes, directory.validated_at
        return inode

    async def _known(self, directory: Inode, name: str, failure: SpacesError) -> Inode:
        """Return what is known of a name that the Space can't be asked for: here, or by this host since earlier.

        Raises:
            SpacesError: The failure, if that is nothing.
        """
        prefix = directory.key
        recalled = None if isinstance(failure, Untrusted) else await self._view.recalled(prefix, name)
        known = self._table.child(directory, name)
        if known is not None and _may_answer(known, failure):
            return known
        if recalled is None or known is not None or directory.key != prefix or self._local.told(prefix, name):
            raise failure
        inode = self.bind(directory, name, recalled)
        inode.validated_at = float("-inf")
        return inode

    async def _look(self, prefix: str, name: str) -> Found | None:
        while True:
            told = self._local.told(prefix, name)
            if told is None or told.asks_space:
                try:
                    found = await self._view.find(prefix, name)
                except _AWAY as error:
                    if told is None or told.found is None or isinstance(error, Untrusted):
                        raise
                    return told.found  # it is there, whatever attributes a marker may have for it
                return found if told is None or (found is not None and found.version is None) else told.found
            if told.found is None or told.found.is_described:
                return told.found
            found = await self._view.describe_found(told.found)
            now = self._local.told(prefix, name)
            if now is not None and now.found is not None and now.found.version == told.found.version:
                return found  # else it was copied meanwhile: the name stands for an object of its own

    def made(self, directory: Inode, name: str, attributes: Attributes) -> Inode:
        """Return the inode of a name that was just made; somebody may have looked it up before the maker."""
        inode = self._table.child(directory, name)
        if inode is None or inode.attributes.kind != attributes.kind:
            inode = self._table.add(directory, name, attributes)
        return inode

    def is_ahead(self, inode: Inode) -> bool:
        """Say whether an inode has something here that is not in the Space."""
        return self._local.is_ahead(inode)

    def _knows_better(self, inode: Inode) -> bool:
        """Say whether an inode is as it should be, whatever the Space says."""
        return self._local.is_ahead(inode) and inode.is_kind_known

    async def get(self, directory: Inode, name: str) -> Inode:
        """Return the inode of a name.

        Raises:
            NotFound: There is no such name.
        """
        inode = await self.find(directory, name)
        if inode is None:
            raise NotFound
        return inode

    async def revalidate(self, inode: Inode) -> None:
        """Ask the Space about an inode unless that was done within the TTL, or it can't be asked.

        Raises:
            NotFound: It is gone.
            StaleFile: The name stands for another version now, which the next look-up finds.
        """
        if self._is_fresh(inode) or self._local.is_ahead(inode) or inode.parent is None or not inode.is_linked:
            return
        if inode.is_part:
            await self.revalidate(inode.home)
            self._part(inode.home, inode.name)
            return
        try:
            await self._ask_about(inode, inode.parent)
        except _AWAY as error:
            if not _may_answer(inode, error):
                raise

    async def _ask_about(self, inode: Inode, parent: Inode) -> None:
        if inode.attributes.is_directory:
            self._update(inode, await self._view.directory(inode.key))
            return
        key, expected = inode.key, self._local.version_of(inode)
        found = await self._view.look(key)
        if self._local.version_of(inode) != expected or inode.key != key:
            return  # changed or renamed here meanwhile: what was heard is old
        version = found.version if found is not None else None
        if found is not None and version is not None and expected is not None and version.etag == expected.etag:
            self._update(inode, found)
        else:
            self._table.displace(parent, inode.name)
            raise NotFound if found is None and not self._local.is_open(inode) else StaleFile

    def entries(self, directory: Inode, listing: Listing, asked_at: float) -> list[Entry]:
        """Return a snapshot of a directory, in the order of names; ``asked_at`` is when the listing was asked for."""
        return self.page_entries(directory, Page(listing, asked_at, "", None))

    def page_entries(self, directory: Inode, page: Page) -> list[Entry]:
        """Return a snapshot of a part of a directory, in the order of names."""
        home = directory.home
        told = self._local.told_names(home.key)
        asked_at = page.asked_at
        entries = {name: Entry(name, listed, asked_at) for name, listed in page.listing.objects.items()}
        for name in told.hidden_files:
            entries.pop(name, None)
        directories = page.listing.directories - told.hidden_directories
        entries.update((name, Entry(name, None, asked_at)) for name in directories)
        for name in told.shown:
            if _is_within(name, page, is_directory=name in told.directories):
                entries[name] = Entry(name, None, asked_at, is_local=True)
        for name in self._local.unsaved_names(home):
            if _is_within(name, page, is_directory=False):
                entries.setdefault(name, Entry(name, None, asked_at, is_local=True))
        if directory.is_part or any("/" in name for name in entries):
            entries = _seen_in(directory, entries, page)
        return sorted(entries.values(), key=lambda entry: entry.name)

    def entry(self, directory: Inode, entry: Entry) -> Inode | None:
        """Return the inode of an entry of a snapshot without asking the Space; None if it is known to be gone."""
        directory, name = directory.home, directory.name_inside(entry.name) or ""
        if is_part(name):
            return self._part(directory, name)
        inode = self._table.child(directory, name)
        if inode is not None and (self._local.is_ahead(inode) or inode.validated_at > entry.asked_at):
            return inode  # known better than by the listing
        told = self._local.told(directory.key, name)
        if told is not None and (not told.asks_space or (told.found is None and entry.listed is not None)):
            return self.bind(directory, name, told.found) if told.found is not None else None
        if entry.is_local and told is None:
            return inode
        if entry.listed is not None:
            return self.bind(directory, name, self._view.glance_at_file(entry.listed))
        return self.bind(directory, name, self._view.glance_at_directory(f"{directory.key}{segment_in(name)}/"))

    def bind(self, directory: Inode, name: str, found: Found) -> Inode:
        """Return the inode for what was found behind a name; a new one if that is another thing than before."""
        inode = self._table.child(directory, name)
        if inode is not None and self._knows_better(inode):
            return inode
        if inode is None or not self._is_same(inode, found):
            inode = self._table.add(directory, name, found.attributes)
            inode.is_kind_known = found.is_described
        if found.is_described or not inode.is_kind_known:
            self._update(inode, found)
        return inode

    def _update(self, inode: Inode, found: Found) -> None:
        is_older = bool(inode.touched_ns) and inode.touched_ns > found.attributes.mtime_ns
        inode.attributes = found.attributes.touched(inode.touched_ns) if is_older else found.attributes
        inode.version = found.version
        inode.is_kind_known = found.is_described
        if found.is_described:
            inode.validated_at = trio.current_time()

    def _is_fresh(self, inode: Inode) -> bool:
        return trio.current_time() - inode.validated_at <= self._ttl_seconds

    def _is_same(self, inode: Inode, found: Found) -> bool:
        known, other = inode.attributes, found.attributes
        if known.is_directory or other.is_directory:
            return known.is_directory and other.is_directory
        version = self._local.version_of(inode)
        is_same_kind = not found.is_described or known.kind == other.kind
        return is_same_kind and version is not None and found.version is not None and version.etag == found.version.etag


def _is_within(name: str, page: Page, *, is_directory: bool) -> bool:
    """Say whether a page tells of a name: pages are cut in the order of keys."""
    segment = segment_in(name) + "/" * is_directory
    return (page.after < segment or not page.after) and (page.upto is None or segment <= page.upto)


def _seen_in(directory: Inode, entries: dict[str, Entry], page: Page) -> dict[str, Entry]:
    """Return those of a listing's entries that are seen in a directory: long names go on in their parts."""
    begin = f"{directory.name}/" if directory.is_part else ""
    seen: dict[str, Entry] = {}
    for name, entry in entries.items():
        if name.startswith(begin):
            here, slash, _ = name.removeprefix(begin).partition("/")
            if not slash:
                seen[here] = replace(entry, name=here)
            elif here not in page.begun:
                seen[here] = Entry(here, None, page.asked_at)
    return seen


def _may_answer(known: Inode, failure: SpacesError) -> bool:
    """Say whether what is known may stand for what could not be asked: not if somebody else took the Space's place."""
    return known.is_kind_known and not isinstance(failure, Untrusted)


def walk(inode: Inode) -> Iterator[Inode]:
    """Yield every known inode below one."""
    for child in inode.children.values():
        yield child
        yield from walk(child)
