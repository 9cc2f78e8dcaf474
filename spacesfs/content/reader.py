"""Reading object versions: pages from memory or disk, the missing ones by range requests that every reader shares.

A request brings one page, and its bytes are served while they arrive. What is on its way is a `Fetch`: it lies on the
shelf of its version like a page does, so that whoever wants the same bytes waits for it instead of asking again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from spacesfs.cache.disk import DiskCache
from spacesfs.cache.pages import GRAIN_BYTES, Page, PageCache, Shelf
from spacesfs.client.errors import InvalidRange, NoSuchKey, PreconditionFailed, SpacesError
from spacesfs.client.models import ObjectInfo, ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.fetch import Fetch
from spacesfs.content.link import Link
from spacesfs.content.readahead import START_BYTES
from spacesfs.content.sharing import Reader, Readers
from spacesfs.errors import StaleFile
from spacesfs.metrics import Histogram, ReaderStatistics, ReadTotals

MAX_REQUEST_BYTES = 4 << 20  # RGW stripes objects by 4 MiB: longer ranges cost it more, not less
WHOLE_BYTES = 8 << 20  # a file up to here comes whole by one request when it is read from its start
SMALL_BYTES = 1 << 20  # and up to here wherever it is read

_LEAST_REQUEST_BYTES = 2 * GRAIN_BYTES
_AHEAD_REQUESTS = 12  # of the client's 16 connections; the others are for those who wait

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a background task in the mount's nursery."""


class RangeStore(Protocol):
    """What is needed of a bucket here."""

    async def get_range(
        self,
        key: str,
        start: int,
        buffer: memoryview,
        *,
        if_match: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        """Fill ``buffer`` with the bytes from ``start``."""


class PageReader:
    """Reads any version through the caches; what several readers want at once is fetched once.

    Invariant: a page and a fetch of one version never overlap. Between looking for bytes and registering their fetch
    there is no await.
    """

    def __init__(
        self, store: RangeStore, pages: PageCache, budget: ByteBudget, spawn: Spawn, disk: DiskCache | None = None
    ) -> None:
        self._store = store
        self._pages = pages
        self._budget = budget
        self._spawn = spawn
        self._disk = disk
        self._fetches: dict[ObjectVersion, Shelf[Fetch]] = {}
        self._ahead: set[Fetch] = set()
        self._ahead_bytes = 0
        self.readers = Readers()
        self._link = Link()
        self._totals = ReadTotals()
        self._waits = Histogram()
        self._fetch_times = Histogram()

    async def read(self, version: ObjectVersion, extent: Extent, wider: Extent | None = None) -> bytes | memoryview:
        """Return the bytes of an extent that lies within the object.

        Args:
            version: What to read.
            extent: Not empty.
            wider: What to fetch where bytes are missing; None for what the extent takes.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        view = self.ready(version, extent)
        if view is not None:
            return view
        self._totals.misses += 1
        return await self._read(version, extent, wider)

    def ready(self, version: ObjectVersion, extent: Extent) -> bytes | memoryview | None:
        """Return the bytes of an extent if they are all in memory; no await, no request."""
        span = self._span(version, extent.start)
        if span is None:
            return None
        spans = [span]
        while span.end < extent.end:
            if (following := self._span(version, span.end)) is None:
                return None
            spans.append(span := following)
        if not all(_has(span, min(span.end, extent.end)) for span in spans):
            return None
        self._totals.hits += 1
        if len(spans) == 1:
            return self._serve(span, extent.start, extent.end)
        return b"".join(self._serve(span, max(span.start, extent.start), min(span.end, extent.end)) for span in spans)

    def start(self, version: ObjectVersion, extent: Extent, wider: Extent | None = None) -> None:
        """Start to fetch what is missing of an extent, and what lies around that in ``wider``."""
        for run, is_local in self._missing(version, wider or self.request_around(version, extent)):
            if run.start < extent.end and extent.start < run.end:
                self._begin(Fetch(version, run.start, run.end, is_local, None), self._budget.reserve(run.length))

    def prefetch(self, version: ObjectVersion, extent: Extent, reader: Reader | None = None) -> Extent:
        """Start to fetch what is missing of an extent, as far as there are connections and memory to spare.

        Returns:
            What of the extent remains to be started.
        """
        end = min(extent.end, version.size)
        for run, is_local in self._missing(version, Extent(extent.start, end)):
            if len(self._ahead) >= _AHEAD_REQUESTS or not self._has_room_ahead(run.length):
                return Extent(run.start, end)
            permit = self._budget.try_reserve(run.length)
            if permit is None:
                return Extent(run.start, end)
            fetch = Fetch(version, run.start, run.end, is_local, reader or self)
            self._ahead.add(fetch)
            self._ahead_bytes += run.length
            self._begin(fetch, permit)
        return Extent(end, end)

    async def arrival(self, version: ObjectVersion) -> ObjectInfo | None:
        """Wait for the first page of an object if it is on its way.

        Returns:
            The description that came with it; None if it was here, came from the disk, or can't be had.
        """
        shelf = self._fetches.get(version)
        fetch = shelf.find(0) if shelf is not None else None
        if fetch is None:
            return None
        await fetch.wait(fetch.end + 1)  # for its end: the description comes after the last byte
        return fetch.info

    def leave(self, reader: Reader) -> None:
        """A reader reads no more: what is on its way for it alone is not waited for, and gives way."""
        version = self.readers.leave(reader)
        if version is None:
            return
        for fetch in [fetch for fetch in self._ahead if fetch.reader is reader and not fetch.waiting]:
            self._totals.cancelled_requests += 1
            self._put_away(fetch)
            fetch.scope.cancel()
        self._pages.give_up(version)

    def request_around(self, version: ObjectVersion, extent: Extent, *, in_order: bool = True) -> Extent:
        """Return what to fetch with bytes that are missing."""
        share = self._share()
        is_at_start = extent.start < START_BYTES
        is_whole = version.size <= SMALL_BYTES or (version.size <= WHOLE_BYTES and in_order and is_at_start)
        if is_whole and version.size <= share:
            return Extent(0, version.size)
        if not in_order:
            return self._random_request(version, extent)
        unit = self.request_bytes
        grid = unit if is_at_start else GRAIN_BYTES
        return Extent(extent.start // grid * grid, min(-(-extent.end // unit) * unit, version.size))

    @property
    def request_bytes(self) -> int:
        """How long requests are when reading in order: shorter when many readers share little memory."""
        unit, share = MAX_REQUEST_BYTES, self._share()
        while unit * 2 > share and unit > _LEAST_REQUEST_BYTES:
            unit //= 2
        return unit

    def statistics(self) -> ReaderStatistics:
        """Return how it is now."""
        return ReaderStatistics(
            self._totals.copy(),
            self._waits.copy(),
            self._fetch_times.copy(),
            sum(fetch.end - fetch.start for shelf in self._fetches.values() for fetch in shelf),
            len(self._ahead),
            len(self.readers),
            self.readers.window_bytes,
            self.request_bytes,
            self._link.random_bytes,
            self._link.round_trip_seconds,
            self._link.bytes_per_second,
        )

    def _random_request(self, version: ObjectVersion, extent: Extent) -> Extent:
        """Return what to bring with a read out of order: from the disk, which is near, no more than it takes.

        What was asked for comes first, so nobody waits for the rest. Who reads backwards has what follows already, and
        needs what is before.
        """
        start, end = extent.start // GRAIN_BYTES * GRAIN_BYTES, -(-extent.end // GRAIN_BYTES) * GRAIN_BYTES
        if self._disk is not None and self._disk.page_at(version, start) is not None:
            return Extent(start, min(end, version.size))
        size = max(min(self._link.random_bytes, self.request_bytes), end - start)
        if end < version.size and self._span(version, end) is None:
            return Extent(start, min(start + size, version.size))
        return Extent(max(end - size, 0), min(end, version.size))

    # --- what is here or on its way

    def _span(self, version: ObjectVersion, offset: int) -> Page | Fetch | None:
        page = self._pages.find(version, offset)
        if page is not None:
            return page
        fetches = self._fetches.get(version)
        return fetches.find(offset) if fetches is not None else None

    def _serve(self, span: Page | Fetch, start: int, end: int) -> memoryview:
        if isinstance(span, Fetch) and span.is_over and (page := self._pages.find(span.version, start)) is not None:
            span = page  # where its use is noted
        if isinstance(span, Page) and end <= span.end:
            return self._pages.serve(span, start, end)
        assert isinstance(span, Fetch)
        span.served_bytes += end - start
        return span.view[start - span.start : end - span.start]

    def _missing(self, version: ObjectVersion, extent: Extent) -> Iterator[tuple[Extent, bool]]:
        """Yield what to request of an extent, and whether it is on the local disk. Fetches may begin in between."""
        unit = WHOLE_BYTES if version.size <= WHOLE_BYTES else self.request_bytes
        is_one = extent.length <= unit
        position = extent.start // GRAIN_BYTES * GRAIN_BYTES
        while position < extent.end:
            span = self._span(version, position)
            if span is not None:
                position = span.end
                continue
            end = min(-(-extent.end // GRAIN_BYTES) * GRAIN_BYTES, version.size)
            end = end if is_one else min(end, (position // unit + 1) * unit)
            for shelf in (self._pages.shelf(version), self._fetches.get(version)):
                end = shelf.next_start(position, end) if shelf is not None else end
            local = self._disk.page_at(version, position) if self._disk is not None else None
            if local is not None:
                end = min(end, local[1])
            elif self._disk is not None:
                end = self._disk.next_start(version, position, end)
            yield Extent(position, end), local is not None
            position = end

    def _has_room_ahead(self, size: int) -> bool:
        """Say whether what is fetched ahead still fits beside what was and is not read yet."""
        return self._pages.unread_bytes + self._ahead_bytes + size <= self._pages.limit_bytes

    def _share(self) -> int:
        """Return how much memory a reader can have."""
        return self.readers.share(min(self._pages.limit_bytes, self._budget.limit_bytes))

    # --- fetching

    async def _read(self, version: ObjectVersion, extent: Extent, wider: Extent | None) -> bytes | memoryview:
        started = trio.current_time()
        pieces: list[memoryview] = []
        position = extent.start
        try:
            while position < extent.end:
                self.start(version, Extent(position, extent.end), wider)
                for span in self._spans(version, Extent(position, extent.end)):
                    end = min(span.end, extent.end)
                    if isinstance(span, Fetch):
                        await span.wait(end)
                        if not span.has(end):
                            if span.error is not None:
                                raise span.error
                            break  # it was cancelled
                    pieces.append(self._serve(span, position, end))
                    position = end
        finally:
            self._waits.observe(trio.current_time() - started)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _spans(self, version: ObjectVersion, extent: Extent) -> list[Page | Fetch]:
        """Return what covers an extent, to hold on to it: the cache may be too small for all of it."""
        spans: list[Page | Fetch] = []
        position = extent.start
        while position < extent.end and (span := self._span(version, position)) is not None:
            spans.append(span)
            position = span.end
        return spans

    def _begin(self, fetch: Fetch, permit: AbstractAsyncContextManager[None]) -> None:
        self._fetches.setdefault(fetch.version, Shelf()).add(fetch)

        async def run() -> None:
            try:
                with fetch.scope:
                    async with permit:
                        await self._fetch(fetch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
                fetch.error = error
            finally:
                self._put_away(fetch)

        self._spawn(run)

    def _put_away(self, fetch: Fetch) -> None:
        """Take a fetch off its shelf; what it brought is a page by then. Once."""
        if fetch.is_over:
            return
        shelf = self._fetches[fetch.version]
        shelf.remove(fetch)
        if not shelf:
            del self._fetches[fetch.version]
        if fetch in self._ahead:
            self._ahead.discard(fetch)
            self._ahead_bytes -= fetch.end - fetch.start
        fetch.finish()

    async def _fetch(self, fetch: Fetch) -> None:
        """Bring a page. The permit lasts until it is on the disk, too, so what waits for the disk is paid for."""
        buffer = self._pages.buffer(fetch.end - fetch.start)
        fetch.view = buffer.toreadonly()
        is_local = (
            fetch.is_local and self._disk is not None and await self._disk.load(fetch.version, fetch.start, buffer)
        )
        if not is_local:
            await self._request(fetch, buffer)
        fetch.progress(len(buffer))
        page = Page(fetch.version, fetch.start, fetch.view, fetch.served_bytes, is_ahead=fetch in self._ahead)
        self._put_away(fetch)
        self._pages.store(page)
        if not is_local and self._disk is not None:
            await self._disk.store(fetch.version, fetch.start, fetch.view)

    async def _request(self, fetch: Fetch, buffer: memoryview) -> None:
        """Bring a page from the Space; where a line breaks in the middle of a reply, the next one brings the rest."""
        self._totals.ahead_requests += fetch in self._ahead
        while fetch.info is None:
            done = fetch.filled
            try:
                fetch.info = await self._request_rest(fetch, buffer[done:])
            except SpacesError as error:
                if not error.retryable or fetch.filled in {done, len(buffer)}:
                    raise
            finally:
                self._totals.fetched_bytes += fetch.filled - done

    async def _request_rest(self, fetch: Fetch, rest: memoryview) -> ObjectInfo:
        asked = trio.current_time()
        first = 0.0
        done = fetch.filled

        def on_bytes(filled: int) -> None:
            nonlocal first
            first = first or trio.current_time()
            fetch.progress(done + filled)

        self._totals.requests += 1
        info = await read_version(self._store, fetch.version, fetch.start + done, rest, on_bytes)
        fetch.progress(done + len(rest))
        ended = trio.current_time()
        self._fetch_times.observe(ended - asked)
        if first:
            self._link.note(first - asked, ended - first, len(rest))
        return info


async def read_version(
    store: RangeStore,
    version: ObjectVersion,
    start: int,
    buffer: memoryview,
    on_bytes: Callable[[int], None] | None = None,
) -> ObjectInfo:
    """Fill ``buffer`` with bytes of exactly one version; return its description.

    Raises:
        StaleFile: The key holds another version by now, or none.
    """
    try:
        info = await store.get_range(version.key, start, buffer, if_match=version.etag, on_bytes=on_bytes)
    except (PreconditionFailed, NoSuchKey, InvalidRange) as error:
        raise StaleFile from error
    if info.size != version.size:  # the same bytes are as many; a server that says otherwise may have sent too few
        raise StaleFile
    return info


def _has(span: Page | Fetch, end: int) -> bool:
    return isinstance(span, Page) or span.has(end)
