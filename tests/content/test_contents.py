"""Small contents that wait are in memory only as far as the limit lets them, and never lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from spacesfs.content.content import Content, Contents
from spacesfs.content.extents import Extent
from spacesfs.content.staging import StagingArea
from tests.memory_store import MemoryStore

KIB = 1 << 10
SIZE = 20 * KIB


def _never(run: object) -> None:
    raise AssertionError(f"nothing is so large that {run} should run")


class Bench:
    """Contents over a journal that remembers what it is given."""

    def __init__(self, folder: Path) -> None:
        numbers = itertools.count(1)
        self.journal: dict[int, bytes] = {}
        self.wanted: set[int] = set()
        self.forgotten: list[int] = []
        self.area = StagingArea(folder, 64 << 20, lambda: next(numbers), 1.0, _never)
        self.contents = Contents(MemoryStore(), self.area, self.wanted.__contains__, self.read, self.forget, 64 * KIB)

    def forget(self, number: int, delete: Callable[[], None] | None) -> None:
        assert delete is None, "small contents have no file"
        self.forgotten.append(number)

    async def read(self, number: int) -> bytes:
        return self.journal[number]

    def save(self, fill: int) -> Content:
        """Write a content and close its file, as a program does."""
        content = self.contents.new()
        self.contents.hold(content)
        content.staged.write(0, bytes([fill]) * SIZE)
        record = content.staged.record()
        assert record.inline is not None
        self.journal[content.number] = record.inline
        content.saved_changes = content.staged.changes
        self.wanted.add(content.number)
        self.contents.release(content)
        return content


async def test_what_waits_leaves_memory_and_comes_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    numbers = [bench.save(fill).number for fill in range(10)]
    assert bench.area.used_bytes == 10 * SIZE
    for fill, number in enumerate(numbers):
        content = await bench.contents.get(number)
        buffer = memoryview(bytearray(SIZE))
        content.read_present(Extent(0, SIZE), buffer)
        assert buffer == bytes([fill]) * SIZE
        assert content.is_saved
        assert not content.is_clean
    in_memory = sum(bench.contents.is_in_memory(number) for number in numbers)
    assert 1 <= in_memory <= 3
    assert bench.area.used_bytes == 10 * SIZE
    bench.wanted.clear()
    for number in numbers:
        bench.contents.tidy(number)
    assert bench.area.used_bytes == 0
    assert bench.forgotten == numbers


async def test_what_is_used_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    used = bench.save(1)
    bench.contents.hold(used)
    for fill in range(10):
        bench.save(fill)
    assert await bench.contents.get(used.number) is used
    bench.contents.release(used)


async def test_with_less_memory_more_waits_in_the_journal_and_nothing_is_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.contents.resize_idle(1 << 20)
    numbers = [bench.save(fill).number for fill in range(10)]
    assert all(bench.contents.is_in_memory(number) for number in numbers)
    bench.contents.resize_idle(64 * KIB)
    assert 1 <= sum(bench.contents.is_in_memory(number) for number in numbers) <= 3
    for fill, number in enumerate(numbers):
        content = await bench.contents.get(number)
        buffer = memoryview(bytearray(SIZE))
        content.read_present(Extent(0, SIZE), buffer)
        assert buffer == bytes([fill]) * SIZE
