"""The rename of a directory of many objects: what it takes, and what happens to what changes while it is listed."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Self, cast

import pytest
import trio

from spacesfs.assembly import MountOptions, Parts, assemble
from spacesfs.client.client import Bucket
from spacesfs.errors import NameTooLong
from spacesfs.filesystem import Caller
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import Identity
from spacesfs.tree.inodes import ROOT_NUMBER
from tests import memory_store
from tests.filesystem.in_memory import DEFAULTS
from tests.memory_store import MemoryStore

KEYS = 2_000
FOLDERS = 20
ME = Caller(1000, 1000)
CALLS_A_KEY = 7
"""Of functions, that the longest stretch without a turn for others may make; to decide in one go takes 90."""
BYTES_A_KEY = 1_300  # measured: 1,040


def path_of(number: int) -> str:
    return f"s{number % FOLDERS:02d}/f{number:05d}"


@asynccontextmanager
async def mounted(store: MemoryStore, folder: Path) -> AsyncIterator[Parts]:
    """Run a mount of a bucket in memory over the real journal, which has its own thread."""
    (folder / "staged").mkdir()
    journal = Journal.open(folder, Identity("https://space", "bucket", ""))
    options = MountOptions(
        prefix="",
        defaults=DEFAULTS,
        memory_bytes=64 << 20,
        staging_bytes=64 << 20,
        ttl_seconds=60.0,
        timeout_seconds=30.0,
        grace_seconds=600.0,  # nothing goes before it is asked for
        is_direct=False,
        sends_on_fsync=False,
    )
    async with trio.open_nursery() as nursery:
        yield await assemble(cast("Bucket", store), journal, folder / "staged", options, nursery)
        nursery.cancel_scope.cancel()
    await journal.aclose()


async def rename(parts: Parts, name: bytes = b"old", new_name: bytes = b"new") -> None:
    await parts.filesystem.names.rename(ROOT_NUMBER, name, ROOT_NUMBER, new_name, may_replace=True)


async def settle(parts: Parts) -> None:
    async for _ in parts.filesystem.sync(""):
        pass


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for number in range(KEYS):
        store.set(f"old/{path_of(number)}", b"%d" % number)
    return store


class Stretches:
    """Counts the functions that are called on this thread from one turn of a task to its next.

    Those of the store in memory don't count: it plays the server, which is no part of the process.
    """

    def __init__(self) -> None:
        self.longest = 0
        self._calls = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    async def run(self) -> None:
        """Be the other task."""
        while True:
            self._calls = 0
            await trio.lowlevel.checkpoint()
            self.longest = max(self.longest, self._calls)

    def _count(self, frame: FrameType, event: str, _: object) -> None:
        self._calls += event == "call" and frame.f_code.co_filename != memory_store.__file__


async def test_others_have_their_turns(store: MemoryStore, tmp_path: Path) -> None:
    """While it is decided, while the changes become due, and while somebody waits for all of them."""
    store.page_keys = 100
    async with mounted(store, tmp_path) as parts, trio.open_nursery() as nursery:
        stretches = Stretches()
        nursery.start_soon(stretches.run)
        with stretches:
            await rename(parts)
            assert len(parts.ledger.overlay) >= 2 * KEYS
            decided = stretches.longest
            await settle(parts)
        nursery.cancel_scope.cancel()
    assert 0 < decided < CALLS_A_KEY * KEYS
    assert stretches.longest < 2 * CALLS_A_KEY * KEYS
    assert store.names() == sorted(f"new/{path_of(number)}" for number in range(KEYS))


async def test_what_a_key_takes_until_it_is_sent(store: MemoryStore, tmp_path: Path) -> None:
    async with mounted(store, tmp_path) as parts:
        await parts.filesystem.lookup(ROOT_NUMBER, b"old")
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await rename(parts)
            await trio.testing.wait_all_tasks_blocked()  # until all are queued
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(parts.ledger.overlay) >= 2 * KEYS
    assert (held - before) / KEYS < BYTES_A_KEY


Change = Callable[[Parts], Awaitable[None]]


async def write(parts: Parts, path: str, data: bytes) -> None:
    folder, name = path.rsplit("/", 1)
    parent = ROOT_NUMBER
    for segment in folder.split("/"):
        parent = (await parts.filesystem.lookup(parent, segment.encode())).number
    handle, _ = await parts.filesystem.create(parent, name.encode(), 0o644, 2, ME)
    await parts.filesystem.files.write(handle, 0, data)
    await parts.filesystem.files.flush(handle)
    await parts.filesystem.files.release(handle)


async def unlink(parts: Parts, path: str) -> None:
    folder, name = path.rsplit("/", 1)
    parent = ROOT_NUMBER
    for segment in folder.split("/"):
        parent = (await parts.filesystem.lookup(parent, segment.encode())).number
    await parts.filesystem.names.unlink(parent, name.encode())


@pytest.mark.parametrize("settles", [False, True], ids=["unsent", "sent"])
@pytest.mark.parametrize("at_page", [2, 10, 19])
async def test_changes_while_it_is_listed(store: MemoryStore, tmp_path: Path, at_page: int, *, settles: bool) -> None:
    """Files made meanwhile move as they are then, sent or not; those removed are not there again."""
    store.page_keys = 100
    expected = {f"new/{path_of(number)}": b"%d" % number for number in range(KEYS)}
    pages = 0
    async with mounted(store, tmp_path) as parts:

        async def change(call: str, prefix: str) -> None:
            nonlocal pages
            if call != "list_page" or prefix != "old/":
                return
            pages += 1
            if pages != at_page:
                return
            for number in (0, 19):  # in the first folder, which is listed by then, and in the last
                await write(parts, f"old/{path_of(number)}-made", b"made")
                expected[f"new/{path_of(number)}-made"] = b"made"
                await unlink(parts, f"old/{path_of(number + 20)}")
                del expected[f"new/{path_of(number + 20)}"]
            if settles:
                await settle(parts)

        await parts.filesystem.lookup(ROOT_NUMBER, b"old")
        store.hook = change
        await rename(parts)
        assert pages >= at_page
        parts.ledger.overlay.check_invariants()
        await settle(parts)
        parts.ledger.overlay.check_invariants()
        assert not len(parts.ledger.overlay)
    assert {key: store.body(key) for key in store.names() if not key.endswith("/")} == expected


async def test_back_and_forth_at_once(store: MemoryStore, tmp_path: Path) -> None:
    """What was renamed and not sent yet is renamed again, and what is back where it was costs nothing."""
    async with mounted(store, tmp_path) as parts:
        await rename(parts)
        await rename(parts, b"new", b"other")
        await rename(parts, b"other", b"old")
        parts.ledger.overlay.check_invariants()
        await settle(parts)
    assert {key: store.body(key) for key in store.names() if not key.endswith("/")} == {
        f"old/{path_of(number)}": b"%d" % number for number in range(KEYS)
    }


async def test_a_key_that_is_too_long_is_found_before_anything_is_changed(store: MemoryStore, tmp_path: Path) -> None:
    store.set(f"old/{'x' * 250}/{'y' * 250}/{'z' * 250}/{'z' * 100}", b"")
    async with mounted(store, tmp_path) as parts:
        with pytest.raises(NameTooLong):
            await rename(parts, b"old", b"n" * 200)
        assert not len(parts.ledger.overlay)
        assert (await parts.filesystem.lookup(ROOT_NUMBER, b"old")).name == "old"
