"""When to list many directories at once, and what came of it.

A directory that is asked for right after the one it lies in was listed may be a step of a walk: the tree from there on
is listed instead of the directory alone, which costs one request too. Whether that was worth it, credit decides: it is
given back, and more, by directories that were asked for and were there already. Programs that look at one directory
among many soon get that directory alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from cachetools import TTLCache

from spacesfs.cache.metadata import ListingCache
from spacesfs.client.models import ListedObject, ListPage
from spacesfs.tree.directory import Listing
from spacesfs.tree.names import split_key
from spacesfs.tree.sweep import FlatStore, Sweep

_FIRST_CREDIT, _MAX_CREDIT = 2, 8
_PROVEN = 4  # credit of a walk, in which a large directory is worth its pages
_MAX_PAGES = 4  # for one directory, in a walk; beyond that it is listed alone, which shows entries as they come
_MAX_SWEEPS = 16
_MAX_TOPS = 1000


class Sweeps:
    """Owns the sweeps that may go on, and the credit of the directories above them."""

    def __init__(
        self,
        store: FlatStore,
        cache: ListingCache[Listing],
        learn: Callable[[tuple[ListedObject, ...]], Awaitable[None]],
        ttl_seconds: float,
    ) -> None:
        self._store = store
        self._cache = cache
        self._learn = learn
        self._ttl_seconds = ttl_seconds
        self._sweeps: list[Sweep] = []
        self._credit: TTLCache[str, int] = TTLCache(_MAX_TOPS, max(ttl_seconds, 1.0), timer=trio.current_time)

    def has_seen(self, prefix: str) -> bool:
        """Say whether a directory is known to be there from a listing of it or of what lies above."""
        listing = self._cache.peek(prefix)
        return (listing is not None and not listing.is_vanished) or self._showing(prefix) is not None

    def marker(self, prefix: str) -> tuple[bool, ListedObject | None]:
        """Return whether a listing has told which object a directory has of its own, and that object or None."""
        listing = self._cache.peek(prefix)
        if listing is not None:
            return listing.marker is not None or not listing.has_marker, listing.marker
        sweep = self._showing(prefix)
        return (True, sweep.marker(prefix)) if sweep is not None else (False, None)

    def note_use(self, prefix: str) -> None:
        """A directory's listing was asked for, and was there."""
        for sweep in self._sweeps:
            if prefix in sweep.brought:
                sweep.brought.discard(prefix)
                self._earn(sweep)

    def close(self) -> None:
        """Give up what is not complete."""
        for sweep in self._sweeps:
            sweep.close()
        self._sweeps.clear()

    async def answering(self, prefix: str, key: str) -> Listing | None:
        """Return a listing of a directory that tells the truth of one key in it, if that is or looks worth a sweep."""
        sweep = self._showing(prefix) or await self._start(prefix)
        if sweep is None:
            return None
        if sweep.shows(prefix) and not sweep.reaches(key) and self._has_earned(sweep.top) and self._spend(sweep.top):
            await sweep.read_on(prefix)
        listing = self._cache.peek(prefix)
        if listing is None and sweep.shows(prefix) and sweep.reaches(key):
            self._earn(sweep)
            listing = sweep.part(prefix)
        return listing

    async def bring(self, prefix: str) -> bool:
        """List a directory together with others, if that looks worth it; return whether the cache has it now."""
        sweep = self._showing(prefix) or await self._start(prefix)
        if sweep is None:
            return False
        for _ in range(1, _MAX_PAGES):
            if sweep.shows(prefix) and self._is_proven(sweep.top):
                await sweep.read_on(prefix)
        return self._cache.peek(prefix) is not None

    def begun(self, prefix: str) -> tuple[ListPage, float] | None:
        """Return what came of a directory, as the first page of a listing of it alone, and when that was asked for."""
        sweep = self._showing(prefix)
        begun = sweep.begun(prefix) if sweep is not None else None
        return begun if begun is not None and trio.current_time() - begun[1] <= self._ttl_seconds else None

    async def look(self, prefix: str) -> None:
        """Learn something of a directory that is known to be there, its marker at least, by at most one request."""
        if self._showing(prefix) is None:
            await self._start(prefix)

    def may_look(self, prefix: str) -> bool:
        """Say whether `look` would ask the Space about a directory, and so learn of those after it."""
        top = self._top_above(prefix)
        return self._showing(prefix) is None and top is not None and self._credit.get(top, _FIRST_CREDIT) > 0

    async def is_directory(self, prefix: str) -> bool:
        """Ask the Space whether there is anything below a prefix; what is there is remembered."""
        sweep = self._open(prefix, prefix)
        await sweep.read_on(prefix)
        return sweep.has_keys

    async def _start(self, prefix: str) -> Sweep | None:
        """Begin a sweep with a directory, if it may be a step of a walk."""
        top = self._top_above(prefix)
        if top is None or not self._spend(top):
            return None
        sweep = self._open(top, prefix)
        await sweep.read_on(prefix)
        sweep.brought.discard(prefix)
        return sweep

    def _open(self, top: str, first: str) -> Sweep:
        self._drop_idle()
        sweep = Sweep(self._store, self._cache, self._learn, top, first)
        self._sweeps.append(sweep)
        return sweep

    def _top_above(self, prefix: str) -> str | None:
        """Return from where on a walk may have come to a directory; None if it was asked for out of the blue."""
        if not prefix:
            return None
        live = [s.top for s in self._sweeps if prefix.startswith(s.top) and s.top != prefix and self._is_live(s)]
        if live:
            return min(live, key=len)
        above = split_key(prefix)[0]
        return above if self._cache.peek(above) is not None else None

    def _showing(self, prefix: str) -> Sweep | None:
        return next((sweep for sweep in self._sweeps if sweep.shows(prefix) and self._is_live(sweep)), None)

    def _spend(self, top: str) -> bool:
        credit = self._credit.get(top, _FIRST_CREDIT)
        self._credit[top] = max(credit - 1, 0)
        return credit > 0

    def _earn(self, sweep: Sweep) -> None:
        sweep.used_at = trio.current_time()
        self._credit[sweep.top] = min(self._credit.get(sweep.top, _FIRST_CREDIT) + 1, _MAX_CREDIT)

    def _has_earned(self, top: str) -> bool:
        """Say whether a sweep has answered anything yet: who asks for one name in a large tree wants no more of it."""
        return self._credit.get(top, _FIRST_CREDIT) > _FIRST_CREDIT

    def _is_proven(self, top: str) -> bool:
        return self._credit.get(top, 0) >= _PROVEN

    def _is_live(self, sweep: Sweep) -> bool:
        return trio.current_time() - sweep.used_at <= self._ttl_seconds

    def _drop_idle(self) -> None:
        live = [sweep for sweep in self._sweeps if self._is_live(sweep)]
        kept = live[-(_MAX_SWEEPS - 1) :]
        for sweep in self._sweeps:
            if sweep not in kept:
                sweep.close()
        self._sweeps = kept
