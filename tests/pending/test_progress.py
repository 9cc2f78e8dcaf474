"""How far the rename of a directory is, and how fast it goes."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from spacesfs.client.models import ObjectVersion
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.progress import Moves, Progress


def copy(key: str, new_key: str, size: int = 10) -> Intent:
    return Intent(new_key, 1, Present(size, source=ObjectVersion(key, "e", size)), None, 0.0)


DIRECTORY = [copy(f"a/old/s/{number}", f"b/new/s/{number}") for number in range(9)] + [copy("a/old/", "b/new/", 0)]


async def test_a_rename_tells_what_is_left_and_when_it_is_done(mock_clock: MockClock) -> None:
    moves = Moves()
    moves.begin("a/old/s/0", "b/new/s/0", len(DIRECTORY))
    assert await moves.under_way(DIRECTORY) == [Progress("a/old", "b/new", 0, 10, 90, None)]
    mock_clock.jump(2.0)
    [progress] = await moves.under_way(DIRECTORY[6:])
    assert (progress.done, progress.total, progress.bytes_left) == (6, 10, 30)
    assert progress.a_second == pytest.approx(3.0)
    assert progress.seconds_left == pytest.approx(4 / 3)
    assert await moves.under_way([]) == []
    assert await moves.under_way(DIRECTORY[:1]) == []  # it is forgotten; this is one file


async def test_after_a_crash_only_what_is_left_is_known() -> None:
    [progress] = await Moves().under_way(DIRECTORY[:4])
    assert (progress.done, progress.total, progress.seconds_left) == (0, 4, None)


async def test_files_and_other_changes_are_no_directories() -> None:
    others = [
        copy("f", "g"),
        copy("d/f", "d/g"),
        copy("same", "same"),
        Intent("d/x", 1, Absent(), None, 0.0),
        Intent("d/y", 1, Present(1, content=3), None, 0.0),
    ]
    assert await Moves().under_way(others) == []


async def test_only_so_many_are_remembered() -> None:
    moves = Moves()
    for number in range(100):
        moves.begin(f"old{number}/f", f"new{number}/f", 2)
    assert await moves.under_way([copy("old0/f", "new0/f")]) == []
    moves.begin("old99/f", "new99/f", 2)
    assert [one.done for one in await moves.under_way([copy("old99/f", "new99/f")])] == [1]
