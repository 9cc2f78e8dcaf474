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


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What the parts need to know. Sizes in bytes.

    Attributes:
        memory_bytes: For pages and for bytes on their way, uploads too; they get half each.
        directory: Where pages lie on the disk.
        disk_bytes: What they may take there.
        space: What tells this bucket from all others.
    """

    memory_bytes: int
    directory: Path
    disk_bytes: int
    space: str


class ReadingStore(RangeStore, HeadStore, Protocol):
    """What is needed of a bucket here."""


@dataclass(frozen=True, slots=True)
class ReadSide:
    """The parts of a mount that read."""

    pages: PageCache
    disk: DiskCache
    budget: ByteBudget
    reader: PageReader
    glimpse: Glimpse
    read_ahead: ReadAheadOptions

    @property
    def notices(self) -> Iterator[str]:
        """What the user should know, one line each."""
        if self.disk.trouble is not None:
            yield self.disk.trouble


async def open_reading(store: ReadingStore, options: ReadingOptions, spawn: Spawn) -> ReadSide:
    """Join the parts, over the pages of earlier mounts; a very large cache is looked through while it is used already.

    One reader fetches ahead what fits into a third of the memory at most, so that several can read at once.
    """
    pages = PageCache(options.memory_bytes // 2)
    budget = ByteBudget(options.memory_bytes - options.memory_bytes // 2)
    disk = DiskCache(options.directory, options.disk_bytes, options.space, budget.limit_bytes // 2)
    spawn(disk.open)
    with trio.move_on_after(_OPEN_SECONDS):
        await disk.opened.wait()
    reader = PageReader(store, pages, budget, spawn, disk)
    plain = ReadAheadOptions()
    read_ahead = ReadAheadOptions(max_window_bytes=min(plain.max_window_bytes, options.memory_bytes // 3))
    return ReadSide(pages, disk, budget, reader, Glimpse(store, reader, spawn), read_ahead)


def pages_bytes(cache_bytes: int) -> int:
    """Return which part of a cache is for pages: a quarter, at most 4 GiB; changes need the rest more."""
    return min(cache_bytes // 4, _MAX_DISK_BYTES)
