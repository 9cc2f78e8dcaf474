"""A walk over many more names than anything here may remember: what it takes must not grow with it.

A model at a hundredth of the scale, caps included. What the real caps take together is measured by
``python -m tests.bench.namespace --part huge``.
"""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import cast

import pytest
import trio

from spacesfs.assembly import MountOptions, Parts, assemble
from spacesfs.cache import metadata
from spacesfs.client.client import Bucket
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import Identity
from spacesfs.tree import inodes
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.filesystem.in_memory import DEFAULTS
from tests.memory_store import MemoryStore

FOLDERS, FILES = 40, 500
LISTED, INODES = 2_000, 512
GROWTH_BYTES = 1_000_000
"""Of the second half of the walk, 10,000 names: their inodes would take 8 MB, what listings tell of them 2.5 MB."""


class ForgettingKernel:
    """Holds what it is shown until it is told to forget it; lets go a while after."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def invalidate_inode(self, inode: int, *, attributes_only: bool = False) -> None:
        """Its pages and attributes are nothing here."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Note it."""
        self.told.append((parent, name.decode()))

    def let_go(self, parts: Parts) -> None:
        """Send the FORGETs."""
        for parent, name in self.told:
            inode = parts.filesystem.inode(parent).children.get(name)
            if inode is not None:
                parts.filesystem.forget(inode.number, inode.lookups)
        self.told.clear()


async def walk(parts: Parts, kernel: ForgettingKernel, folders: range) -> int:
    """Read directories with the attributes of what is in them, as ``find -size`` does; return how many names."""
    count = 0
    for number in folders:
        directory = await parts.filesystem.lookup(ROOT_NUMBER, b"d%03d" % number)
        handle = await parts.filesystem.opendir(directory.number)
        position: int | None = 0
        while position is not None:
            while (entry := parts.filesystem.entry(handle, position)) is not None:
                _, inode, position = entry
                inode.lookups += 1
                count += 1
            position = await parts.filesystem.load(handle, position)
        parts.filesystem.releasedir(handle)
        kernel.let_go(parts)
    return count


async def test_a_walk_takes_no_more_the_longer_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_LISTED_ENTRIES", LISTED)
    monkeypatch.setattr("spacesfs.assembly.LEAST_INODES", INODES)
    (tmp_path / "staged").mkdir()
    journal = Journal.open(tmp_path, Identity("https://space", "bucket", ""))
    options = MountOptions(
        prefix="",
        defaults=DEFAULTS,
        memory_bytes=2 * INODES * inodes.INODE_BYTES,
        staging_bytes=1 << 20,
        ttl_seconds=60.0,
        timeout_seconds=30.0,
        grace_seconds=5.0,
        is_direct=False,
        sends_on_fsync=False,
    )
    kernel, bucket = ForgettingKernel(), MemoryStore()
    for number in range(FOLDERS * FILES):
        bucket.set(f"d{number // FILES:03}/f{number % FILES:03}", b"")
    async with trio.open_nursery() as nursery:
        parts = await assemble(cast("Bucket", bucket), journal, tmp_path / "staged", options, nursery, kernel=kernel)
        tracemalloc.start()
        try:
            half = FOLDERS // 2
            assert await walk(parts, kernel, range(half)) == half * FILES
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            assert await walk(parts, kernel, range(half, FOLDERS)) == half * FILES
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < GROWTH_BYTES
        finally:
            tracemalloc.stop()
        parts.table.check_invariants()
        assert len(parts.table) < INODES + FOLDERS + 2 * FILES
        nursery.cancel_scope.cancel()
    await journal.aclose()
