"""The parts of a mount that read, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from spacesfs.cache.disk import DiskCache
from spacesfs.cache.pages import PageCache
from spacesfs.content.budget import ByteBudget
from spacesfs.content.glimpse import Glimpse, HeadStore
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import PageReader, RangeStore, Spawn

_MAX_DISK_BYTES = 4 << 30
_OPEN_SECONDS = 2.0
_QUEUED_SHARE = 2  # of the bytes on their way, for what waits to be written to the disk


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """Where pages lie on the disk, how many bytes they may take there, and what tells this bucket from all others."""

    directory: Path
    limit_bytes: int
    space: str


class ReadingStore(RangeStore, HeadStore, Protocol):
    """What is needed of a bucket here."""


@dataclass(frozen=True, slots=True)
class ReadSide:
    """The parts of a mount that read."""

    pages: PageCache
    disk: DiskCache | None
    budget: ByteBudget
    reader: PageReader
    glimpse: Glimpse

    async def resize(self, memory_bytes: int, disk_bytes: int) -> None:
        """Take so much memory and disk at most from now on."""
        self.pages.resize(memory_bytes // 2)
        self.budget.resize(memory_bytes - self.pages.limit_bytes)
        if self.disk is not None:
            await self.disk.resize(disk_bytes, self.budget.limit_bytes // _QUEUED_SHARE)

    @property
    def notices(self) -> Iterator[str]:
        """What the user should know, one line each."""
        if self.disk is not None and self.disk.trouble is not None:
            yield self.disk.trouble


async def open_reading(store: ReadingStore, memory_bytes: int, on_disk: DiskOptions | None, spawn: Spawn) -> ReadSide:
    """Join the parts, over the pages of earlier mounts.

    Args:
        store: The bucket.
        memory_bytes: For pages and for bytes on their way, uploads too; they get half each.
        on_disk: Where pages are kept; None for nowhere.
        spawn: Starts what goes on as long as the mount.
    """
    pages = PageCache(memory_bytes // 2)
    budget = ByteBudget(memory_bytes - pages.limit_bytes)
    queued_bytes = budget.limit_bytes // _QUEUED_SHARE
    disk = await _open_disk(on_disk, queued_bytes, spawn) if on_disk is not None else None
    reader = PageReader(store, pages, budget, spawn, disk)
    return ReadSide(pages, disk, budget, reader, Glimpse(store, reader, spawn))


def read_ahead_within(memory_bytes: int) -> ReadAheadOptions:
    """Return how one reader fetches ahead: two fifths of the memory at most, so that several can read at once."""
    plain = ReadAheadOptions()
    return ReadAheadOptions(max_window_bytes=min(plain.max_window_bytes, memory_bytes * 2 // 5))


async def _open_disk(options: DiskOptions, max_queued_bytes: int, spawn: Spawn) -> DiskCache:
    """Return the pages on the disk; a very large cache is looked through while it is used already."""
    disk = DiskCache(options.directory, options.limit_bytes, options.space, max_queued_bytes)
    spawn(disk.open)
    with trio.move_on_after(_OPEN_SECONDS):
        await disk.opened.wait()
    return disk


def pages_bytes(cache_bytes: int) -> int:
    """Return which part of a cache is for pages: a quarter, at most 4 GiB; changes need the rest more."""
    return min(cache_bytes // 4, _MAX_DISK_BYTES)
