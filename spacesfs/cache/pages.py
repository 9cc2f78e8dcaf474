"""Pages of object versions in memory."""

from __future__ import annotations

from typing import NamedTuple

from cachetools import LRUCache

PAGE_BYTES = 1 << 20


class PageKey(NamedTuple):
    """One page of one version; nothing less identifies bytes."""

    key: str
    etag: str
    number: int


class PageCache:
    """Pages by version, the least recently used dropped first; never more than ``limit_bytes``.

    A page is a read-only view of exactly ``PAGE_BYTES`` bytes, of fewer at the end of the object.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._pages: LRUCache[PageKey, memoryview] = LRUCache(limit_bytes, getsizeof=len)

    @property
    def used_bytes(self) -> int:
        """Bytes held now."""
        return int(self._pages.currsize)

    def __contains__(self, page: PageKey) -> bool:
        return page in self._pages

    def get(self, page: PageKey) -> memoryview | None:
        """Return a page, or None if it is not here."""
        return self._pages.get(page)

    def store(self, page: PageKey, view: memoryview) -> None:
        """Keep a page."""
        if len(view) <= self.limit_bytes:
            self._pages[page] = view

    def clear(self) -> None:
        """Drop all pages."""
        self._pages.clear()
