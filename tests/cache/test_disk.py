"""Pages on disk: there after a restart, never a wrong byte, within the cap, and no harm when the disk fails."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from spacesfs.cache import disk as disk_module
from spacesfs.cache import pagefile
from spacesfs.cache.disk import RETRY_SECONDS, DiskCache
from spacesfs.cache.pagefile import HEADER_BYTES
from spacesfs.cache.pages import GRAIN_BYTES, PageCache
from spacesfs.client.models import ObjectVersion

KIB, MIB = 1 << 10, 1 << 20
BODY = random.Random(1).randbytes(4 * MIB + 777)
MEMORY = PageCache(64 * MIB)


def version(key: str = "k", etag: str = "e") -> ObjectVersion:
    return ObjectVersion(key, etag, 1 << 30)


async def opened(directory: Path, limit: int = 64 * MIB, *, space: str = "s", queued: int = 64 * MIB) -> DiskCache:
    cache = DiskCache(directory, limit, space, queued)
    await cache.open()
    return cache


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[DiskCache]:
    cache = await opened(tmp_path / "pages")
    yield cache
    cache.check_invariants()


def view(size: int, seed: int = 0) -> memoryview:
    """Return bytes in memory like that which pages are received in."""
    buffer = MEMORY.buffer(size)
    buffer[:] = BODY[seed : seed + size]
    return buffer.toreadonly()


async def load(cache: DiskCache, of: ObjectVersion, start: int, length: int) -> bytes | None:
    buffer = MEMORY.buffer(length)
    return bytes(buffer) if await cache.load(of, start, buffer) else None


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [1, 4096, 100_000, 256 * KIB, 256 * KIB + 1, MIB, 4 * MIB, 4 * MIB + 777])
async def test_a_page_comes_back_also_after_a_restart(tmp_path: Path, size: int) -> None:
    start = 8 * MIB
    cache = await opened(tmp_path)
    assert cache.page_at(version(), start) is None
    await cache.store(version(), start, view(size))
    again = await opened(tmp_path)
    for one in (cache, again):
        assert one.page_at(version(), start + size - 1) == (start, start + size)
        assert one.page_at(version(), start + size) is None
        assert one.page_at(version(), start - 1) is None
        assert await load(one, version(), start, size) == BODY[:size]
        one.check_invariants()
    [file] = files(tmp_path)
    assert file.stat().st_size == HEADER_BYTES + size


async def test_a_part_of_a_page(cache: DiskCache) -> None:
    await cache.store(version(), 0, view(len(BODY)))
    for start in (0, GRAIN_BYTES, 5 * GRAIN_BYTES, 32 * GRAIN_BYTES):
        length = min(3 * GRAIN_BYTES, len(BODY) - start)
        assert await load(cache, version(), start, length) == BODY[start : start + length]
    assert await load(cache, version(), 4 * MIB, MIB) is None  # past its end


@pytest.mark.parametrize("other", [version("other"), version("k", "f"), ObjectVersion("k", "e", 1)])
async def test_versions_are_apart(cache: DiskCache, other: ObjectVersion) -> None:
    await cache.store(version(), 0, view(MIB))
    assert cache.page_at(other, 0) is None
    assert await load(cache, other, 0, MIB) is None


async def test_spaces_are_apart(tmp_path: Path) -> None:
    await (await opened(tmp_path)).store(version(), 0, view(MIB))
    assert (await opened(tmp_path, space="other")).page_at(version(), 0) is None


@pytest.mark.parametrize("place", ["magic", "identity", "checksums", "first", "last"])
async def test_a_flipped_bit_is_a_miss_and_the_page_goes(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await opened(tmp_path)
    await cache.store(version(), 0, view(MIB))
    [file] = files(tmp_path)
    offset = {"magic": 3, "identity": 26, "checksums": 40, "first": HEADER_BYTES, "last": HEADER_BYTES + MIB - 1}[place]
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
    assert await load(cache, version(), 0, MIB) is None
    assert "damaged" in caplog.text
    assert cache.page_at(version(), 0) is None
    assert not files(tmp_path)
    assert cache.statistics().bad_pages == 1
    await cache.store(version(), 0, view(MIB))
    assert await load(cache, version(), 0, MIB) == BODY[:MIB]


@pytest.mark.parametrize("length", [0, 10, HEADER_BYTES, HEADER_BYTES + 10])
async def test_a_page_cut_short_is_a_miss(tmp_path: Path, length: int) -> None:
    cache = await opened(tmp_path)
    await cache.store(version(), 0, view(MIB))
    [file] = files(tmp_path)
    os.truncate(file, length)
    assert await load(await opened(tmp_path), version(), 0, MIB) is None


async def test_a_page_of_another_under_this_name_is_a_miss(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    await cache.store(version("a"), 0, view(MIB))
    [mine] = files(tmp_path)
    await cache.store(version("b"), 0, view(MIB, 5))
    [other] = [file for file in files(tmp_path) if file != mine]
    shutil.copy(other, mine)
    assert await load(cache, version("a"), 0, MIB) is None


async def test_another_mount_may_remove_a_page(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    await cache.store(version(), 0, view(MIB))
    shutil.rmtree(tmp_path)
    assert await load(cache, version(), 0, MIB) is None
    assert cache.trouble is None
    assert cache.used_bytes == 0


async def test_two_mounts_store_the_same_page(tmp_path: Path) -> None:
    one, two = await opened(tmp_path), await opened(tmp_path)
    for cache in (one, two, one):
        await cache.store(version(), 0, view(MIB))
    assert [await load(cache, version(), 0, MIB) == BODY[:MIB] for cache in (one, two)] == [True, True]
    assert len(files(tmp_path)) == 1


async def test_the_cap_holds_for_all_mounts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "RESCAN_SECONDS", 0.0)
    mounts = [await opened(tmp_path, 8 * MIB) for _ in range(2)]
    for number in range(40):
        await mounts[number % 2].store(version(str(number)), 0, view(MIB))
    for cache in mounts:
        cache.check_invariants()
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 9 * MIB


async def test_what_was_used_longest_ago_goes_first(cache: DiskCache) -> None:
    for number in range(100):
        await cache.store(version(str(number)), 0, view(MIB))
    there = [number for number in range(100) if cache.page_at(version(str(number)), 0)]
    assert there == [*range(100 - len(there), 100)]
    assert 60 <= len(there) <= 64


async def test_a_pass_over_a_huge_file_leaves_the_rest_alone(cache: DiskCache) -> None:
    for number in range(20):
        await cache.store(version(str(number)), 0, view(MIB))
        await load(cache, version(str(number)), 0, MIB)
    for number in range(40):
        await cache.store(version("once"), number * MIB, view(MIB))
    for number in range(200):
        await cache.store(version("huge"), number * MIB, view(MIB))
    assert all(cache.page_at(version(str(number)), 0) for number in range(20))
    kept = sum(cache.page_at(version("huge"), number * MIB) is not None for number in range(200))
    assert 20 <= kept <= 32  # half of the cache, and its beginning
    assert cache.page_at(version("huge"), 0)


async def test_use_is_remembered_over_a_restart(tmp_path: Path) -> None:
    cache = await opened(tmp_path, 16 * MIB)
    for number in range(10):
        await cache.store(version(str(number)), 0, view(MIB))
    await trio.sleep(0.02)  # the clock of the file system is coarse
    for number in (2, 5):
        await load(cache, version(str(number)), 0, MIB)
    again = await opened(tmp_path, 16 * MIB)
    for number in range(10, 40):
        await again.store(version(str(number)), 0, view(MIB))
    assert again.page_at(version("2"), 0)
    assert again.page_at(version("5"), 0)
    assert not again.page_at(version("3"), 0)


async def test_a_disk_that_is_nearly_full_is_left_alone_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await opened(tmp_path)
    monkeypatch.setattr(pagefile, "KEPT_FREE_BYTES", 1 << 60)
    for number in range(5):
        await cache.store(version(), number * MIB, view(MIB))
    assert cache.trouble is not None
    assert "nearly full" in cache.trouble
    assert caplog.text.count("goes on without") == 1
    assert not files(tmp_path)
    monkeypatch.setattr(pagefile, "KEPT_FREE_BYTES", 0)
    await cache.store(version(), 0, view(MIB))
    assert not files(tmp_path)  # it waits a minute
    later = trio.current_time() + RETRY_SECONDS + 1
    monkeypatch.setattr(trio, "current_time", lambda: later)
    await cache.store(version(), 0, view(MIB))
    assert cache.trouble is None
    assert await load(cache, version(), 0, MIB) == BODY[:MIB]


async def test_a_folder_that_can_not_be_made_is_trouble_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = await opened(tmp_path / "file" / "pages")
    assert cache.opened.is_set()
    assert cache.trouble is not None
    await cache.store(version(), 0, view(MIB))
    assert await load(cache, version(), 0, MIB) is None


async def test_a_failing_disk_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = await opened(tmp_path)
    await cache.store(version(), 0, view(MIB))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    assert await load(cache, version(), 0, MIB) is None
    assert cache.trouble is not None
    assert "Input/output error" in cache.trouble


async def test_a_file_system_that_can_not_pass_the_page_cache_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so when opening, or only when writing; the pages go through the page cache then."""
    open_file, write = os.open, os.writev
    direct: set[int] = set()

    def opening(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor = open_file(path, flags, mode, dir_fd=dir_fd)
        (direct.add if flags & os.O_DIRECT else direct.discard)(descriptor)
        return descriptor

    def writing(descriptor: int, views: list[memoryview]) -> int:
        if descriptor in direct:
            raise OSError(22, "Invalid argument")
        return write(descriptor, views)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "writev", writing)
    cache = await opened(tmp_path)
    await cache.store(version("lost"), 0, view(MIB))
    await cache.store(version(), 0, view(MIB))
    assert cache.trouble is None
    assert await load(cache, version(), 0, MIB) == BODY[:MIB]


async def test_what_would_wait_too_long_is_not_stored(tmp_path: Path) -> None:
    cache = await opened(tmp_path, queued=2 * MIB + 64 * KIB)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(cache.store, version(), number * MIB, view(MIB))
    told = cache.statistics()
    assert (told.written_pages, told.skipped_pages) == (2, 6)


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    foreign = tmp_path / "00" / "notes.txt"
    foreign.write_text("mine")
    (tmp_path / "00" / "00.zz.-1").write_text("")
    again = await opened(tmp_path)
    assert again.used_bytes == cache.used_bytes == 0
    assert foreign.exists()


@pytest.mark.slow
async def test_a_hundred_thousand_pages_are_known_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names tell all that is needed: none is opened, and it takes little more than to walk through them."""
    await opened(tmp_path)
    rng = random.Random(2)
    for _ in range(100_000):
        digest = rng.randbytes(16).hex()
        os.close(os.open(f"{tmp_path}/{digest[:2]}/{digest}.0.1000", os.O_CREAT | os.O_WRONLY, 0o600))
    begun = time.process_time()
    for folder in (entry for entry in os.scandir(tmp_path) if entry.is_dir()):
        for entry in os.scandir(folder):
            entry.stat()
    walked = time.process_time()
    with monkeypatch.context() as scanning:
        scanning.setattr(os, "open", None)
        cache = await opened(tmp_path, 4 << 30)
    # CPU time of both, here and now: a busy machine makes both dearer. Measured: 3 to 5 times.
    assert time.process_time() - walked < 8 * (walked - begun)
    assert cache.statistics().pages == 100_000
    cache.check_invariants()


async def test_a_smaller_cache_removes_files_at_once(cache: DiskCache, tmp_path: Path) -> None:
    for number in range(8):
        await cache.store(version(f"k{number}"), 0, view(MIB))
    assert await load(cache, version("k0"), 0, MIB) is not None  # used again, so it goes last
    await cache.resize(3 * MIB, 64 * MIB)
    assert cache.used_bytes <= 3 * MIB
    assert sum(path.stat().st_size for path in files(tmp_path / "pages")) <= 3 * MIB
    assert await load(cache, version("k0"), 0, MIB) is not None
    await cache.resize(64 * MIB, 64 * MIB)
    for number in range(8):
        await cache.store(version(f"n{number}"), 0, view(MIB))
    assert cache.used_bytes > 8 * MIB
