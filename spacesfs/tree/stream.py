"""Very large directories, page by page: shown as they come, never all in memory.

A position in a directory is a page and a place in it. Pages are cut by the Space's own order of names, so a page that
was let go of and is asked for again begins and ends with the same names, whatever changed in between: a program that
goes on, or back, sees every name that was there all the time exactly once.

A file is shown under another name if there is a directory of its own. In the order of keys that comes later, after what
differs from ``/`` by a lesser character: ``a``, ``a-b``, ``a.c``, ``a/``. So the last file of a page waits for the next
page, and for one before it the Space is asked if the page ends in between.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Protocol

import trio

from spacesfs.cache.metadata import MAX_LISTED_ENTRIES, ListingCache, Load
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ListedObject, ListPage
from spacesfs.tree.ahead import Spawn
from spacesfs.tree.directory import Listing, listing_of, put_beside
from spacesfs.tree.names import name_of, segment_in

_KEPT_PAGES = 4


class Pager(Protocol):
    """Who asks the Space, and remembers what this host knows of what it shows."""

    async def page(self, prefix: str, resume: str | None) -> ListPage:
        """Return a page of a directory."""

    async def holds(self, prefix: str) -> bool:
        """Ask whether any key begins with a prefix."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A file that came with the page before, when that was asked for, and how many changes there were by then."""

    listed: ListedObject
    asked_at: float
    changes_before: int


@dataclass(frozen=True, slots=True)
class Page:
    """What one page shows of a directory; ``asked_at`` is when it was asked for.

    ``after`` and ``upto`` are the segments, directories with a slash, between which it tells of all: the first is not
    included, the last is; None is the end. ``begun`` are parts of long names that were shown before.
    """

    listing: Listing
    asked_at: float
    after: str
    upto: str | None
    begun: frozenset[str] = frozenset()


class Stream:
    """One directory on its way. What was come to answers questions for names; the whole goes to the cache.

    Attributes:
        is_whole: All pages were seen.
    """

    def __init__(  # noqa: PLR0917 - View makes them
        self,
        pager: Pager,
        cache: ListingCache[Listing],
        prefix: str,
        spawn: Spawn | None,
        load: Load[Listing],
        begun: tuple[ListPage, float] | None = None,
    ) -> None:
        """Begin with the first page and when it was asked for, or with nothing; ``load`` watches the directory."""
        self._pager = pager
        self._cache = cache
        self._prefix = prefix
        self._spawn = spawn
        self._load = load
        self._first = begun
        self._begun_at = begun[1] if begun is not None else trio.current_time()
        self._resumes: list[str | None] = [None]
        self._ends: list[str] = [""]
        self._held: list[_Held | None] = [None]
        self._begun: list[frozenset[str]] = [frozenset()]
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self._asking: dict[int, trio.Event] = {}
        self._seen = Listing({}, set(), has_marker=False)
        self._seen_pages = 0
        self._applied = 0
        self.is_whole = False

    async def page(self, number: int) -> Page | None:
        """Return one page, counted from 0, of those up to the one after the last that was seen; None past the end."""
        while (page := self._pages.get(number)) is None:
            if number >= len(self._resumes):
                return None
            arriving = self._asking.get(number)
            if arriving is None:
                await self._ask(number)
            else:
                await arriving.wait()
        self._pages.move_to_end(number)
        self._ask_ahead(number + 1)
        return page

    def reaches(self, key: str) -> bool:
        """Say whether a key, and the directory of that name, were come to; what is known of them is in `part`."""
        segment = key.removeprefix(self._prefix)
        return not self.is_whole and self._seen_pages > 0 and f"{segment}/" <= self._ends[self._seen_pages]

    def part(self) -> Listing | None:
        """Return what is in the directory as far as it was come to; None if that was too much to remember."""
        if self._load.is_outdated or len(self._seen) >= MAX_LISTED_ENTRIES:
            return None
        for _, change in self._load.changes[self._applied :]:
            change(self._seen)
        self._applied = len(self._load.changes)
        return self._seen

    def close(self) -> None:
        """Watch the directory no more; what was seen tells nothing from now on."""
        self._load.is_outdated = True
        self._cache.end(self._load)

    def _ask_ahead(self, number: int) -> None:
        """Ask for a page in the background, if it is the next that was not seen."""
        if self._spawn is not None and number == self._seen_pages < len(self._resumes) and number not in self._asking:
            self._asking[number] = trio.Event()
            self._spawn(partial(self._ask_quietly, number))

    async def _ask_quietly(self, number: int) -> None:
        with suppress(SpacesError):  # who needs the page asks again, and hears of it
            await self._ask(number)

    async def _ask(self, number: int) -> None:
        arriving = self._asking.setdefault(number, trio.Event())
        try:
            asked_at, changes_before = trio.current_time(), len(self._load.changes)
            if number == 0 and self._first is not None:
                (page, asked_at), self._first = self._first, None
            else:
                page = await self._pager.page(self._prefix, self._resumes[number])
            held = self._held[number]
            if held is not None:
                page = replace(page, objects=(held.listed, *page.objects))
                asked_at, changes_before = held.asked_at, held.changes_before
            if number + 1 < len(self._resumes):
                page = await self._cut(page, self._prefix + self._ends[number + 1])
            elif page.resume is not None:
                page, last = _without_last_file(page, self._prefix)
                self._held.append(_Held(last, asked_at, changes_before) if last is not None else None)
                self._resumes.append(page.resume)
                self._ends.append(_end(page).removeprefix(self._prefix) or self._ends[number])
            listing = listing_of([page], self._prefix)
            upto = self._ends[number + 1] if number + 1 < len(self._ends) else None
            await self._put_late_beside(listing, self._come_to(number))
            self._pages[number] = Page(listing, asked_at, self._ends[number], upto, self._begun[number])
            if upto is not None and len(self._begun) == number + 1:
                self._begun.append(_begun(self._pages[number], upto))
            if len(self._pages) > _KEPT_PAGES:
                self._pages.popitem(last=False)
            if number == self._seen_pages:
                self._gather(listing, changes_before)
        finally:
            del self._asking[number]
            arriving.set()

    def _come_to(self, number: int) -> str:
        """Return the last segment that came with a page; "" for the last page."""
        if number + 1 == len(self._resumes):
            return ""
        held = self._held[number + 1]
        return held.listed.key.removeprefix(self._prefix) if held is not None else self._ends[number + 1]

    async def _put_late_beside(self, listing: Listing, last: str) -> None:
        """Find the directories of a page's files that a later page would show: ``last`` is between the two."""
        for end in range(1, len(last)):
            name = name_of(last[:end]) if last[end] < "/" else ""
            if name in listing.objects and await self._pager.holds(f"{self._prefix}{last[:end]}/"):
                put_beside(listing, name)

    async def _cut(self, page: ListPage, end: str) -> ListPage:
        """Return what a page that was let go of shows now, up to where the next one begins."""
        objects, prefixes = list(page.objects), list(page.prefixes)
        while page.resume is not None and _end(page) < end:
            page = await self._pager.page(self._prefix, page.resume)
            objects += page.objects
            prefixes += page.prefixes
        return ListPage(
            tuple(listed for listed in objects if listed.key <= end),
            tuple(prefix for prefix in prefixes if prefix <= end),
            None,
        )

    def _gather(self, listing: Listing, changes_before: int) -> None:
        """Add what the next page shows to what was seen, and remember the whole if that was the last."""
        self._seen_pages += 1
        self._applied = min(self._applied, changes_before)  # they may be newer than the page
        seen = self._seen
        if len(seen) < MAX_LISTED_ENTRIES:
            seen.objects.update(listing.objects)
            seen.directories |= listing.directories
            seen.has_marker |= listing.has_marker
            seen.marker = seen.marker or listing.marker
        if self._seen_pages == len(self._resumes):
            for name in seen.directories & seen.objects.keys():
                put_beside(seen, name)
            self._cache.store_part(self._load, self._prefix, seen, self._begun_at, self._applied)
            self._seen = Listing({}, set(), has_marker=False)
            self.is_whole = True
            self.close()


def _end(page: ListPage) -> str:
    """Return the last name that a page shows."""
    return max([listed.key for listed in page.objects[-1:]] + list(page.prefixes[-1:]), default="")


def _without_last_file(page: ListPage, prefix: str) -> tuple[ListPage, ListedObject | None]:
    """Return a page without the file that it ends with, and that; the marker of the directory is none."""
    last = page.objects[-1] if page.objects else None
    if last is None or last.key != _end(page) or last.key == prefix:
        return page, None
    return replace(page, objects=page.objects[:-1]), last


def _begun(page: Page, upto: str) -> frozenset[str]:
    """Return the parts of long names that are shown by now and go on after ``upto``, where a page ends."""
    names = chain(page.listing.objects, page.listing.directories)
    parts = {name.partition("/")[0] for name in names if "/" in name} | page.begun
    return frozenset(part for part in parts if upto.startswith(segment_in(part)))
