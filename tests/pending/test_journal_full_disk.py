"""A full disk: those who need room are refused, those who make room are not, and nothing that was asked for is lost."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from spacesfs.errors import FsError, NoSpace
from spacesfs.pending import reserve
from spacesfs.pending.changes import DropContent, DropIntent, SaveIntent
from spacesfs.pending.intents import Present
from spacesfs.pending.journal import Journal
from tests.pending.rows import IDENTITY, absent, file, present

DISK_BYTES = 24 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    mountpoint = tmp_path / "disk"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mountpoint)], check=True)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    os.write(descriptor, b"x" * size)
                except OSError:
                    break
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return ballast


async def until_full(journal: Journal) -> list[str]:
    """Close small files until one is refused; return the names of those that were not."""
    kept: list[str] = []
    for number in range(1, 10_000):
        try:
            await journal.commit(*file(f"f{number}", number, os.urandom(60_000)))
        except NoSpace:
            return kept
        kept.append(f"f{number}")
    raise AssertionError("the disk never filled")


async def test_a_full_disk(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "spacesfs")
    journal = Journal.open(disk, IDENTITY)
    await journal.commit(*(SaveIntent(present(f"old{number}")) for number in range(300)))
    ballast = fill(disk)
    kept = await until_full(journal)
    refused = f"f{len(kept) + 1}"
    assert journal.statistics().degraded == "The journal's disk is full."

    for number in range(300):  # unlink, rename and the drain's confirmations go on
        await journal.commit(SaveIntent(absent(f"old{number}", order=2)))
    with pytest.raises(NoSpace):  # what builds upon the refused waits with it
        await journal.commit(SaveIntent(present(refused, order=7, size=60_000, content=len(kept) + 1)))
    with pytest.raises(NoSpace):
        await journal.commit(*file("another", 20_000, bytes(60_000)))
    assert await journal.inline(20_000) == bytes(60_000)
    assert journal.is_behind
    await journal.commit(DropIntent("another"), DropContent(20_000))  # the refused one can go
    assert journal.statistics().waiting > 0

    ballast.unlink()
    await journal.commit(SaveIntent(present("later")))
    assert not journal.is_behind
    assert journal.statistics().degraded is None
    assert journal.statistics().waiting == 0
    await journal.aclose()
    journal = Journal.open(disk, IDENTITY)
    intents = journal.recovered.intents
    assert set(intents) == {*kept, refused, "later", *(f"old{number}" for number in range(300))}
    assert intents[refused].order == 7
    assert len(await journal.inline(len(kept) + 1)) == 60_000
    assert all(intents[f"old{number}"] == absent(f"old{number}", order=2) for number in range(300))
    await journal.aclose()


async def test_a_content_stays_while_what_replaces_it_is_held(disk: Path) -> None:
    journal = Journal.open(disk, IDENTITY)
    await journal.commit(*file("f", 40_000, b"acknowledged"))
    fill(disk)
    await until_full(journal)
    with pytest.raises(NoSpace):
        await journal.commit(*file("f", 50_000, os.urandom(60_000), order=2))
    with pytest.raises(NoSpace):
        await journal.commit(DropContent(40_000))
    with pytest.raises(NoSpace):
        await journal.aclose()
    journal = Journal.open(disk, IDENTITY)
    want = journal.recovered.intents["f"].want
    assert isinstance(want, Present)
    assert want.content == 40_000
    assert await journal.inline(40_000) == b"acknowledged"
    await journal.aclose()


async def test_held_rows_are_written_when_nothing_else_comes(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacesfs.pending.writer._RETRY_SECONDS", 0.05)
    journal = Journal.open(disk, IDENTITY)
    ballast = fill(disk)
    kept = await until_full(journal)
    ballast.unlink()
    with trio.fail_after(60):
        while journal.statistics().waiting:  # noqa: ASYNC110 - nothing tells when, as nobody waits for it
            await trio.sleep(0.05)
    assert journal.statistics().degraded is None
    await journal.aclose()
    journal = Journal.open(disk, IDENTITY)
    assert len(journal.recovered.intents) == len(kept) + 1
    await journal.aclose()


async def test_the_reserve_comes_back(disk: Path) -> None:
    journal = Journal.open(disk, IDENTITY)
    assert (disk / "reserve").stat().st_blocks * 512 >= reserve.RESERVE_BYTES
    ballast = fill(disk)
    await until_full(journal)
    assert not (disk / "reserve").exists()
    ballast.unlink()
    await journal.commit()
    assert (disk / "reserve").stat().st_blocks * 512 >= reserve.RESERVE_BYTES
    await journal.aclose()


async def test_a_huge_change_does_not_keep_small_ones_back(disk: Path) -> None:
    journal = Journal.open(disk, IDENTITY)
    fill(disk)
    await until_full(journal)
    with pytest.raises(NoSpace):
        await journal.commit(*(SaveIntent(present(f"{number:0200}")) for number in range(20_000)))
    for number in range(100):
        await journal.commit(SaveIntent(absent(f"small{number}")))
    await journal.commit(*(DropIntent(f"{number:0200}") for number in range(20_000)))
    with pytest.raises(NoSpace):
        await journal.aclose()


async def test_closing_on_a_full_disk_says_so(disk: Path) -> None:
    journal = Journal.open(disk, IDENTITY)
    fill(disk)
    await until_full(journal)
    with pytest.raises(NoSpace):
        await journal.aclose()


async def test_a_journal_opens_on_a_full_disk(disk: Path) -> None:
    journal = Journal.open(disk, IDENTITY)
    await journal.commit(SaveIntent(present("a")))
    await journal.aclose()
    fill(disk)
    journal = Journal.open(disk, IDENTITY)
    assert set(journal.recovered.intents) == {"a"}
    await journal.commit(DropIntent("a"))
    await journal.aclose()


async def test_a_journal_that_cannot_be_written_goes_on_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who locks the file is the failure that can be had without a broken disk."""
    monkeypatch.setattr("spacesfs.pending.schema._BUSY_SECONDS", 0.1)
    journal = Journal.open(tmp_path, IDENTITY)
    await journal.commit(SaveIntent(present("a")))
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FsError, match="can't be written: database is locked"):
            await journal.commit(SaveIntent(present("b")))
        assert journal.statistics().degraded is not None
        other.execute("ROLLBACK")
    await journal.commit(SaveIntent(present("c")))
    assert journal.statistics().degraded is None
    await journal.aclose()
    journal = Journal.open(tmp_path, IDENTITY)
    assert set(journal.recovered.intents) == {"a", "b", "c"}
    await journal.aclose()
