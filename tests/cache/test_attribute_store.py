"""Descriptions on the disk: what was saved is there for the next mount, and whatever is wrong is a miss."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from spacesfs.cache.attribute_store import SCHEMA, AttributeStore, Row, pack_info, unpack_info
from spacesfs.cache.metadata import ObjectCache
from spacesfs.client.models import ListedObject, ObjectInfo, ObjectProperties

LIMIT = 64 << 20
SECOND_NS = 10**9
NOW_NS = 1_800_000_000 * SECOND_NS
PROPERTIES = ObjectProperties("text/plain", "no-cache", metadata={"mode": "33188", "x": "é"}, storage_class="STANDARD")


def info(key: str, modified_ns: int = 5, etag: str = "e") -> ObjectInfo:
    return ObjectInfo(key, 3, etag, modified_ns, PROPERTIES, 1, is_encrypted=True, version_id="v")


def row(key: str, etag: str = "e") -> Row:
    return Row(key, etag, 1, 2, pack_info(info(key, etag=etag)))


@asynccontextmanager
async def opened(path: Path, space: str = "s", limit_bytes: int = LIMIT) -> AsyncIterator[AttributeStore]:
    store = AttributeStore(path, limit_bytes, space)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        yield store
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "attributes.sqlite"
    async with opened(path) as store:
        for key in ("a", "b", "c"):
            store.save(row(key))
        store.forget("b")
        assert [found.key for found in await store.find(["a", "b"])] == ["a"]  # not on the disk yet
    assert path.stat().st_mode & 0o777 == 0o600
    async with opened(path) as store:
        found = await store.find(["a", "b", "c", "d"])
        assert sorted(found) == [row("a"), row("c")]
        assert unpack_info(found[0]) == info(found[0].key)
    async with opened(path, space="other") as store:
        assert await store.find(["a"]) == []


async def test_a_process_that_is_killed_leaves_nothing_that_fits_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "attributes.sqlite"
    stored = Row("k", "e", 0, NOW_NS, pack_info(info("k", 0)))  # by a PUT: it may be changed again within its bounds

    async def on_disk() -> list[Row]:
        async with opened(path) as other:
            return await other.find(["k"])

    async with opened(path) as store:
        store.save(row("k", "older"))
        await trio.sleep(0.5)
        assert await on_disk() == [row("k", "older")]
        store.save(stored)
        await trio.sleep(0.5)
        [unbound] = await on_disk()
        assert (unbound.etag, unpack_info(unbound)) == ("e", info("k", 0))
        assert unbound.first_ns > unbound.last_ns
        assert await store.find(["k"]) == [stored]
        await trio.sleep(3.5)
        assert await on_disk() == [stored]


async def test_what_another_mount_has_heard_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "attributes.sqlite"
    async with opened(path) as store, opened(path) as other:
        store.save(Row("k", "e", 0, NOW_NS, pack_info(info("k", 0))))
        await trio.sleep(0.5)
        other.save(row("k", "newer"))
        await trio.sleep(4.0)
        assert await store.find(["k"]) == [row("k", "newer")]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + os.urandom(5000)])
async def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "attributes.sqlite"
    path.write_bytes(content)
    for attempt in range(2):
        async with opened(path) as store:
            await store.find(["a"])
            if attempt:
                assert [found.key for found in await store.find(["a"])] == ["a"]
            store.save(row("a"))
            await trio.sleep(0.5)
            assert store.trouble is None


async def test_another_schema_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "attributes.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE objects (other TEXT)")
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    async with opened(path) as store:
        store.save(row("a"))
        await trio.sleep(0.5)
        assert store.trouble is None
    async with opened(path) as store:
        assert await store.find(["a"]) == [row("a")]


async def test_a_disk_that_refuses_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    async with opened(tmp_path / "file" / "attributes.sqlite") as store:
        assert await store.find(["a"]) == []
        assert store.trouble is not None
        store.save(row("a"))
        assert await store.find(["a"]) == []
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    caplog.clear()


async def test_the_file_stays_below_its_limit(tmp_path: Path) -> None:
    path, limit = tmp_path / "attributes.sqlite", 256 << 10
    async with opened(path, limit_bytes=limit) as store:
        for batch in range(20):
            for number in range(200):
                store.save(row(f"{batch:02}-{number:03}"))
            await trio.sleep(0.3)
        assert await store.find(["00-000"]) == []
        assert [found.key for found in await store.find(["19-199"])] == ["19-199"]
    assert path.stat().st_size < 2 * limit


class Kept:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def save(self, row: Row) -> None:
        self.rows[row.key] = row

    def forget(self, key: str) -> None:
        self.rows.pop(key, None)


def listed(modified_ns: int) -> ListedObject:
    return ListedObject("k", 3, "e", modified_ns)


def recalled(kept: Kept, seen: ListedObject) -> ObjectInfo | None:
    """Return what a later mount of the same host knows of what a listing shows it."""
    cache = ObjectCache(60.0, kept, lambda: NOW_NS)
    for saved in kept.rows.values():
        cache.recall(saved, seen)
    return cache.get(seen)


async def test_what_a_put_stored_is_bound_by_the_first_listing_that_fits() -> None:
    kept = Kept()
    ObjectCache(60.0, kept, lambda: NOW_NS).store(info("k", 0))
    later = NOW_NS + SECOND_NS
    assert recalled(kept, listed(later)) is None  # somebody changed its properties since
    first = NOW_NS - 3_000_000
    assert recalled(kept, listed(first)) is not None
    assert recalled(kept, listed(first)) is not None
    assert recalled(kept, listed(first + 1_000_000)) is None


async def test_a_head_is_bound_by_the_listing_that_led_to_it() -> None:
    kept = Kept()
    second = NOW_NS - SECOND_NS  # just now: it could change again within this second
    ObjectCache(60.0, kept, lambda: NOW_NS).store(info("k", second), listed(second + 7_000_000))
    assert recalled(kept, listed(second + 7_000_000)) is not None
    assert recalled(kept, listed(second + 8_000_000)) is None


async def test_a_head_without_a_listing_counts_once_its_second_is_over() -> None:
    kept = Kept()
    cache = ObjectCache(60.0, kept, lambda: NOW_NS)
    cache.store(info("k", NOW_NS - SECOND_NS))
    assert kept.rows == {}
    assert cache.latest("k") is not None
    old = NOW_NS - 100 * SECOND_NS
    cache.store(info("k", old))
    assert recalled(kept, listed(old + 999_000_000)) is not None
    assert recalled(kept, listed(old + SECOND_NS)) is None


async def test_damage_in_a_row_is_a_miss() -> None:
    cache = ObjectCache(60.0)
    cache.recall(Row("k", "e", 1, 1, b"\xc1"), listed(1))
    assert cache.get(listed(1)) is None


async def test_what_lies_below_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "attributes.sqlite"
    async with opened(path) as store:
        for key in ("a/b", "a0", "c/d", "c/e"):
            store.save(row(key))
        assert await store.has_below("a/")  # not on the disk yet
        assert not await store.has_below("b/")
    async with opened(path) as store:
        assert await store.has_below("a/")
        assert not await store.has_below("a/b/")
        store.forget("c/d")
        assert await store.has_below("c/")
        store.forget("c/e")
        assert not await store.has_below("c/")
    async with opened(path, space="other") as store:
        assert not await store.has_below("a/")
