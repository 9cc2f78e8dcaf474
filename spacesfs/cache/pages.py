"""Pages of object versions in memory.

A page is a run of bytes of one version in a buffer of its own, as one request brought it: from 128 KiB of a random read
to 8 MiB of a whole small file. So bytes stay where they were received, and dropping a page frees exactly its bytes.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from spacesfs.client.models import ObjectVersion

GRAIN_BYTES = 128 << 10  # pages begin at multiples of this: what the kernel asks for at least when it reads ahead
_PROTECTED_SHARE = 0.75  # of the cache, for pages that were read more than once
_SPARE_SHARE = 1 / 6  # of the cache, for buffers that wait to be used again
_LEAST_SPARE_BYTES = 256 << 10  # smaller ones the allocator looks after by itself


class Span(Protocol):
    """Something that lies at ``[start, end)`` of a version."""

    @property
    def start(self) -> int:
        """The first byte."""

    @property
    def end(self) -> int:
        """The byte after the last."""


S = TypeVar("S", bound=Span)


class Shelf(Generic[S]):
    """Spans that do not overlap, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._spans: list[S] = []

    def __iter__(self) -> Iterator[S]:
        return iter(self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def find(self, offset: int) -> S | None:
        """Return the span that holds a byte, or None."""
        index = bisect_right(self._starts, offset) - 1
        if index >= 0 and self._spans[index].end > offset:
            return self._spans[index]
        return None

    def next_start(self, offset: int, default: int) -> int:
        """Return where the first span past ``offset`` begins, at most ``default``."""
        index = bisect_right(self._starts, offset)
        return min(self._starts[index], default) if index < len(self._starts) else default

    def add(self, span: S) -> bool:
        """Put a span in; say whether it fits between the others."""
        index = bisect_left(self._starts, span.start)
        if index and self._spans[index - 1].end > span.start:
            return False
        if index < len(self._starts) and self._starts[index] < span.end:
            return False
        self._starts.insert(index, span.start)
        self._spans.insert(index, span)
        return True

    def remove(self, span: S) -> None:
        """Take a span out that is in."""
        index = bisect_left(self._starts, span.start)
        assert self._spans[index] is span, "only what is in can be taken out"
        del self._starts[index], self._spans[index]


@dataclass(slots=True, eq=False)
class Page:
    """A run of bytes of one version.

    Attributes:
        view: The bytes, read-only.
        served_bytes: How many were read so far, counting repetitions.
        is_ahead: It was fetched before anybody asked for it.
        is_kept: It is in the cache.
    """

    version: ObjectVersion
    start: int
    view: memoryview
    served_bytes: int = 0
    is_ahead: bool = False
    is_kept: bool = False

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + len(self.view)

    @property
    def unread_bytes(self) -> int:
        """What was fetched ahead and is still to be read."""
        return max(len(self.view) - self.served_bytes, 0) if self.is_ahead else 0


class _Buffers:
    """Memory of dropped pages, to receive new ones in.

    Memory that is new to the process costs more than all else that receiving takes: the kernel clears each 4 KiB of it
    at first touch (0.9 CPU seconds for a GiB were seen). A buffer is used again once nobody refers to it. Large ones
    are mappings of their own, so that freeing one frees it, and the disk can read and write them directly.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._spare: list[mmap.mmap] = []
        self.used_bytes = 0

    def take(self, size: int) -> memoryview:
        if size < _LEAST_SPARE_BYTES:
            return memoryview(bytearray(size))
        rounded = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        for index, buffer in enumerate(self._spare):
            if len(buffer) == rounded and _is_free(buffer):
                self.used_bytes -= rounded
                return memoryview(self._spare.pop(index))[:size]
        return memoryview(mmap.mmap(-1, rounded))[:size]

    def give(self, buffer: mmap.mmap) -> None:
        if len(buffer) > self._limit_bytes:
            return
        self._spare.append(buffer)
        self.used_bytes += len(buffer)
        self.resize(self._limit_bytes)

    def resize(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        while self.used_bytes > self._limit_bytes:
            self.used_bytes -= len(self._spare.pop(0))


def _is_free(buffer: mmap.mmap) -> bool:
    """Tell whether no view of a buffer is left: only then can its size be set, here to what it is."""
    try:
        buffer.resize(len(buffer))
    except BufferError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class PageStatistics:
    """Bytes held, of them fetched ahead and not yet read; bytes fetched ahead in all and of those dropped unread."""

    used_bytes: int
    limit_bytes: int
    unread_bytes: int
    pages: int
    ahead_bytes: int
    wasted_bytes: int


class PageCache:
    """Owns the pages in memory, never more than ``limit_bytes``, and spare buffers. Sync only: each method is atomic.

    What was read once from end to end goes first, for whoever read it has it, or the kernel has; then what was not read
    to its end, the oldest first; last what was read more than once, up to three quarters of the cache. So one pass over
    a huge file drops nothing that is in use.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Make an empty cache that takes ``limit_bytes`` with the spare buffers, without them five sixths of that."""
        self._buffers = _Buffers(0)
        self.used_bytes = 0
        self.unread_bytes = 0
        self._shelves: dict[ObjectVersion, Shelf[Page]] = {}
        self._done: OrderedDict[Page, None] = OrderedDict()
        self._fresh: OrderedDict[Page, None] = OrderedDict()
        self._protected: OrderedDict[Page, None] = OrderedDict()
        self._protected_bytes = 0
        self._ahead_bytes = 0
        self._wasted_bytes = 0
        self.resize(limit_bytes)

    def resize(self, limit_bytes: int) -> None:
        """Take so much at most from now on, spare buffers included."""
        spare_bytes = int(_SPARE_SHARE * limit_bytes)
        self.limit_bytes = limit_bytes - spare_bytes
        self._keep_limit()
        self._buffers.resize(spare_bytes)

    def buffer(self, size: int) -> memoryview:
        """Return writable memory for a page to come; what is in it is arbitrary."""
        return self._buffers.take(size)

    def shelf(self, version: ObjectVersion) -> Shelf[Page] | None:
        """Return the pages of a version, to look at; None if there are none."""
        return self._shelves.get(version)

    def find(self, version: ObjectVersion, offset: int) -> Page | None:
        """Return the page that holds a byte of a version, or None."""
        shelf = self._shelves.get(version)
        return shelf.find(offset) if shelf is not None else None

    def serve(self, page: Page, start: int, end: int) -> memoryview:
        """Return the bytes ``[start, end)`` of the object, which lie in a page, and note their use.

        The page may have been dropped meanwhile: who waited for the bytes behind it still has it.
        """
        before = page.unread_bytes
        page.served_bytes += end - start
        if not page.is_kept:
            return page.view[start - page.start : end - page.start]
        self.unread_bytes += page.unread_bytes - before
        if page in self._protected:
            self._protected.move_to_end(page)
        elif page.served_bytes > len(page.view):
            self._protect(page)
        elif page.served_bytes == len(page.view) and page in self._fresh:
            del self._fresh[page]
            self._done[page] = None
        return page.view[start - page.start : end - page.start]

    def store(self, page: Page) -> None:
        """Keep a page, unless it is larger than the cache or overlaps one that is there."""
        size = len(page.view)
        if page.is_ahead:
            self._ahead_bytes += size
        shelf = self._shelves.get(page.version)
        if size > self.limit_bytes or (shelf is not None and not shelf.add(page)):
            self._wasted_bytes += page.unread_bytes
            return
        if shelf is None:
            shelf = self._shelves[page.version] = Shelf()
            shelf.add(page)
        page.is_kept = True
        (self._done if page.served_bytes >= size else self._fresh)[page] = None
        self.used_bytes += size
        self.unread_bytes += page.unread_bytes
        self._keep_limit()

    def give_up(self, version: ObjectVersion) -> None:
        """Nobody is going to read on in a version: what was fetched ahead of it goes first."""
        for page in self._shelves.get(version, ()):
            if page.unread_bytes and page in self._fresh:
                del self._fresh[page]
                self._done[page] = None
                self._done.move_to_end(page, last=False)
                self.unread_bytes -= page.unread_bytes
                self._wasted_bytes += page.unread_bytes
                page.is_ahead = False

    def clear(self) -> None:
        """Drop all pages."""
        for page in [*self._done, *self._fresh, *self._protected]:
            self._drop(page)

    def statistics(self) -> PageStatistics:
        """Return how it is now."""
        pages = len(self._done) + len(self._fresh) + len(self._protected)
        return PageStatistics(
            self.used_bytes, self.limit_bytes, self.unread_bytes, pages, self._ahead_bytes, self._wasted_bytes
        )

    def check_invariants(self) -> None:
        """Raise AssertionError where the cache contradicts itself; for tests."""
        pages = [*self._done, *self._fresh, *self._protected]
        on_shelves = [page for shelf in self._shelves.values() for page in shelf]
        assert len(pages) == len(on_shelves)
        assert set(pages) == set(on_shelves)
        assert self.used_bytes == sum(len(page.view) for page in pages) <= self.limit_bytes
        assert self.unread_bytes == sum(page.unread_bytes for page in pages)
        assert self._protected_bytes == sum(len(page.view) for page in self._protected)
        assert all(shelf for shelf in self._shelves.values())

    def _keep_limit(self) -> None:
        while self.used_bytes > self.limit_bytes:
            self._drop(next(iter(self._done or self._fresh or self._protected)))

    def _protect(self, page: Page) -> None:
        self._done.pop(page, None)
        self._fresh.pop(page, None)
        self._protected[page] = None
        self._protected_bytes += len(page.view)
        while self._protected_bytes > _PROTECTED_SHARE * self.limit_bytes:
            oldest, _ = self._protected.popitem(last=False)
            self._protected_bytes -= len(oldest.view)
            self._done[oldest] = None
            oldest.served_bytes = len(oldest.view)  # to come back it must be read again

    def _drop(self, page: Page) -> None:
        if page in self._protected:
            del self._protected[page]
            self._protected_bytes -= len(page.view)
        elif page in self._done:
            del self._done[page]
        else:
            del self._fresh[page]
        page.is_kept = False
        self.used_bytes -= len(page.view)
        self.unread_bytes -= page.unread_bytes
        self._wasted_bytes += page.unread_bytes
        shelf = self._shelves[page.version]
        shelf.remove(page)
        if not shelf:
            del self._shelves[page.version]
        if isinstance(page.view.obj, mmap.mmap):
            self._buffers.give(page.view.obj)
