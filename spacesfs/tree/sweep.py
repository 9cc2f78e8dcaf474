"""Many directories by one listing: what a walk through a tree needs, a thousand keys with each request.

A listing without a delimiter shows all keys below a prefix in order, so those of each directory come together. A walk
visits directories in that order too. Where one begins, the page that would list one small directory lists those after
it as well, for the same single request. What comes is grouped by directory; a directory is known when the first key
past it was seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from spacesfs.cache.metadata import ListingCache, Load
from spacesfs.client.models import ListedObject, ListPage
from spacesfs.tree.directory import Listing, listing_of

_LAST_CHARACTER = "\U0010ffff"  # sorts after every other, in UTF-8 as in code points


class FlatStore(Protocol):
    """What is needed of a bucket here."""

    async def list_page(
        self, prefix: str, *, delimiter: str | None = None, start_after: str | None = None, resume: str | None = None
    ) -> ListPage:
        """Return one page of a listing."""

    def resume_after(self, key: str) -> str:
        """Return what resumes any listing after a key."""


@dataclass(slots=True)
class _Group:
    """What was seen of one directory so far."""

    prefix: str
    asked_at: float
    changes_before: int
    objects: list[ListedObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)

    part: Listing | None = None
    applied: int = 0

    def listing(self) -> Listing:
        """Return what was seen, as a listing of the directory shows it."""
        return listing_of([ListPage(tuple(self.objects), tuple(self.prefixes), None)], self.prefix)


class Sweep:
    """One listing of everything below ``top`` from some directory on, as far as it was asked for.

    Whole directories go to the cache as if each had been listed. One task at a time reads on.

    Attributes:
        used_at: When it last was of use, in seconds of trio's clock.
        brought: Directories that it brought and that nobody has asked for yet.
        has_keys: There is something below ``top``, from the first directory on.
        is_over: Nothing more will come: all was seen, or what was changed here meanwhile makes it useless.
    """

    def __init__(
        self,
        store: FlatStore,
        cache: ListingCache[Listing],
        learn: Callable[[tuple[ListedObject, ...]], Awaitable[None]],
        top: str,
        first: str,
    ) -> None:
        """Describe it; ``first`` is the directory to begin with, ``top`` itself or below it."""
        self.top = top
        self.used_at = trio.current_time()
        self.brought: set[str] = set()
        self.has_keys = False
        self.is_over = False
        self._store = store
        self._cache = cache
        self._learn = learn
        self._load: Load[Listing] = cache.begin(top, is_deep=True)
        self._start_after = f"{first[:-1]}.{_LAST_CHARACTER}" if first != top else None  # "." comes just before "/"
        self._resume: str | None = None
        self._last = ""
        self._groups: list[_Group] = []
        self._first = first
        self._reading = trio.Lock()

    def shows(self, prefix: str) -> bool:
        """Say whether a directory was begun with and is not complete yet, so that reading on completes it."""
        return not self.is_over and self._is_whole(prefix) and any(group.prefix == prefix for group in self._groups)

    def marker(self, prefix: str) -> ListedObject | None:
        """Return the marker of a directory that `shows`, or None if it has none: it is the first of its keys."""
        group = next(group for group in self._groups if group.prefix == prefix)
        return group.objects[0] if group.objects and group.objects[0].key == prefix else None

    def reaches(self, key: str) -> bool:
        """Say whether a file's key, and a directory's of that name, were come to."""
        return f"{key}/" <= self._last

    def part(self, prefix: str) -> Listing:
        """Return what is in a directory that `shows`, as far as it was come to."""
        group = next(group for group in self._groups if group.prefix == prefix)
        if group.part is None:
            group.part, group.applied = group.listing(), group.changes_before
        for changed, change in self._load.changes[group.applied :]:
            if changed == prefix:
                change(group.part)
        group.applied = len(self._load.changes)
        return group.part

    def begun(self, prefix: str) -> tuple[ListPage, float] | None:
        """Return a directory that `shows` as the first page of a listing of it alone, and when that was asked for.

        None if that can't be told: there are directories in it, or what was changed here is not in it.
        """
        group = self._groups[-1]
        is_changed = any(changed == prefix for changed, _ in self._load.changes[group.changes_before :])
        if group.prefix != prefix or group.prefixes or is_changed or not group.objects:
            return None
        page = ListPage(tuple(group.objects), (), self._store.resume_after(self._last))
        return page, group.asked_at

    async def read_on(self, prefix: str) -> None:
        """Ask for the next page, unless somebody did meanwhile and a directory is complete."""
        async with self._reading:
            if self.is_over or (self._groups and not self.shows(prefix)):
                return
            self.used_at = asked_at = trio.current_time()
            changes_before = len(self._load.changes)
            try:
                page = await self._store.list_page(self.top, start_after=self._start_after, resume=self._resume)
                await self._learn(page.objects)
            except BaseException:
                self.close()
                raise
            self.has_keys |= bool(page.objects)
            if not self._groups:
                self._groups.append(_Group(self.top, asked_at, changes_before))
            for listed in page.objects:
                self._take(listed, asked_at, changes_before)
            self._start_after, self._resume = None, page.resume
            if self.is_over:
                return
            if page.resume is None:
                while self._groups:
                    self._complete(self._groups.pop())
                self.close()
            elif self._load.is_outdated:
                self.close()

    def close(self) -> None:
        """Give up what is not complete."""
        self.is_over = True
        self._groups.clear()
        self._cache.end(self._load)

    def _is_whole(self, prefix: str) -> bool:
        """Say whether a directory is seen from its start: not those that the first one lies in."""
        return prefix == self._first or not self._first.startswith(prefix)

    def _take(self, listed: ListedObject, asked_at: float, changes_before: int) -> None:
        key, groups = listed.key, self._groups
        if self.is_over or key <= self._last or not key.startswith(self.top):
            self.close()  # whose server does not keep to the order, or the prefix, can't be listed so
            return
        self._last = key
        while not key.startswith(groups[-1].prefix):
            self._complete(groups.pop())
        begin = len(groups[-1].prefix)
        while (end := key.find("/", begin) + 1) > 0:
            groups[-1].prefixes.append(key[:end])
            groups[-1].part = None
            groups.append(_Group(key[:end], asked_at, changes_before))
            begin = end
        groups[-1].objects.append(listed)
        groups[-1].part = None

    def _complete(self, group: _Group) -> None:
        if self._is_whole(group.prefix):
            self.brought.add(group.prefix)
            self._cache.store_part(self._load, group.prefix, group.listing(), group.asked_at, group.changes_before)
