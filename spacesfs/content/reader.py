"""Reading object versions: pages from memory, the missing ones by range requests that every reader shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from spacesfs.cache.pages import PAGE_BYTES, PageCache, PageKey
from spacesfs.client.errors import InvalidRange, NoSuchKey, PreconditionFailed
from spacesfs.client.models import ObjectInfo, ObjectVersion
from spacesfs.content.budget import ByteBudget
from spacesfs.content.extents import Extent
from spacesfs.content.readahead import ReadAhead, ReadAheadOptions
from spacesfs.errors import StaleFile

MAX_REQUEST_BYTES = 4 << 20  # RGW stripes objects by 4 MiB: longer ranges cost it more, not less

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a background task in the mount's nursery."""


class RangeStore(Protocol):
    """What is needed of a bucket here."""

    async def get_range(self, key: str, start: int, buffer: memoryview, *, if_match: str | None = None) -> ObjectInfo:
        """Fill ``buffer`` with the bytes from ``start``."""


@dataclass(slots=True)
class _Fetch:
    """A run of pages on its way."""

    done: trio.Event
    error: Exception | None = None


class PageReader:
    """Reads any version through the page cache; what several readers want at once is fetched once."""

    def __init__(self, store: RangeStore, pages: PageCache, budget: ByteBudget, spawn: Spawn) -> None:
        self._store = store
        self._pages = pages
        self._budget = budget
        self._spawn = spawn
        self._fetches: dict[PageKey, _Fetch] = {}

    async def read(self, version: ObjectVersion, extent: Extent) -> bytes | memoryview:
        """Return the bytes of an extent that lies within the object.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        views = []
        for index in range(extent.start // PAGE_BYTES, (extent.end - 1) // PAGE_BYTES + 1):
            page = await self._page(version, index, extent)
            offset = index * PAGE_BYTES
            views.append(page[max(extent.start - offset, 0) : extent.end - offset])
        return views[0] if len(views) == 1 else b"".join(views)

    def prefetch(self, version: ObjectVersion, extent: Extent) -> None:
        """Start to fetch what is missing of an extent, as far as there is memory to spare."""
        extent = Extent(extent.start, min(extent.end, version.size))
        for run in self._missing_runs(version, extent):
            permit = self._budget.try_reserve(run.length)
            if permit is None:
                return
            self._start(version, run, permit)

    async def _page(self, version: ObjectVersion, index: int, wanted: Extent) -> memoryview:
        key = PageKey(version.key, version.etag, index)
        while (page := self._pages.get(key)) is None:
            fetch = self._fetches.get(key)
            if fetch is None:
                for run in self._missing_runs(version, Extent(index * PAGE_BYTES, wanted.end)):
                    self._start(version, run, self._budget.reserve(run.length))
                fetch = self._fetches[key]
            await fetch.done.wait()
            if fetch.error is not None:
                raise fetch.error
        return page

    def _missing_runs(self, version: ObjectVersion, extent: Extent) -> list[Extent]:
        """Return the extents to request, each of whole pages, for what is neither here nor on its way."""
        runs: list[Extent] = []
        for index in range(extent.start // PAGE_BYTES, -(-extent.end // PAGE_BYTES)):
            key = PageKey(version.key, version.etag, index)
            if key in self._pages or key in self._fetches:
                continue
            start, end = index * PAGE_BYTES, min((index + 1) * PAGE_BYTES, version.size)
            if runs and runs[-1].end == start and end - runs[-1].start <= MAX_REQUEST_BYTES:
                runs[-1] = Extent(runs[-1].start, end)
            else:
                runs.append(Extent(start, end))
        return runs

    def _start(self, version: ObjectVersion, run: Extent, permit: AbstractAsyncContextManager[None]) -> None:
        """Register a fetch and let it run; no await in between, so nobody else starts the same one."""
        fetch = _Fetch(trio.Event())
        keys = [
            PageKey(version.key, version.etag, index)
            for index in range(run.start // PAGE_BYTES, -(-run.end // PAGE_BYTES))
        ]
        for key in keys:
            self._fetches[key] = fetch

        async def run_fetch() -> None:
            try:
                async with permit:
                    await self._fetch(version, run, keys)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
                fetch.error = error
            finally:
                for key in keys:
                    del self._fetches[key]
                fetch.done.set()

        self._spawn(run_fetch)

    async def _fetch(self, version: ObjectVersion, run: Extent, keys: list[PageKey]) -> None:
        buffer = memoryview(bytearray(run.length))
        await read_version(self._store, version, run.start, buffer)
        view = buffer.toreadonly()
        for number, key in enumerate(keys):
            self._pages.store(key, view[number * PAGE_BYTES : (number + 1) * PAGE_BYTES])


async def read_version(store: RangeStore, version: ObjectVersion, start: int, buffer: memoryview) -> None:
    """Fill ``buffer`` with bytes of exactly one version.

    Raises:
        StaleFile: The key holds another version by now, or none.
    """
    try:
        info = await store.get_range(version.key, start, buffer, if_match=version.etag)
    except (PreconditionFailed, NoSuchKey, InvalidRange) as error:
        raise StaleFile from error
    if info.size != version.size:  # the same bytes are as many; a server that says otherwise may have sent too few
        raise StaleFile


class FileReader:
    """The reading side of one handle."""

    def __init__(self, pages: PageReader, options: ReadAheadOptions) -> None:
        self._pages = pages
        self._read_ahead = ReadAhead(options)

    async def read(self, version: ObjectVersion, extent: Extent) -> bytes | memoryview:
        """Return the bytes of an extent that lies within the object, and fetch what is likely to be asked next.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        ahead = self._read_ahead.observe(extent)
        if ahead is not None and ahead.start < version.size:
            self._pages.prefetch(version, ahead)
        return await self._pages.read(version, extent)
