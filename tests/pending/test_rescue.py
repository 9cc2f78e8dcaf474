"""A journal read from outside gives the bytes that recovery would, and never leads out of the folder it is saved to."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from spacesfs.content.extents import Extent
from spacesfs.content.records import ContentRecord
from spacesfs.errors import MountError
from spacesfs.pending.changes import DropContent, SaveContent, SaveIntent
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.journal import Journal
from spacesfs.pending.rescue import Saved, export, intents_in, journal_files
from tests.pending.rows import IDENTITY


def wanted(key: str, number: int, size: int) -> SaveIntent:
    return SaveIntent(Intent(key, number, Present(size, content=number), None, 0.0))


def inline(number: int, body: bytes) -> SaveContent:
    return SaveContent(ContentRecord(number, len(body), inline=body))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "staged").mkdir(parents=True)
    return folder


def save_all(folder: Path, target: Path, prefix: str = "") -> list[Saved]:
    (file,) = journal_files(folder)
    return list(export(file, prefix, intents_in(file)[0], target))


async def test_of_a_sparse_file_what_is_not_here_is_told(folder: Path, tmp_path: Path) -> None:
    """Written bytes, zeros that are known, and a hole whose bytes only the Space has."""
    (folder / "staged" / "7").write_bytes(b"abcd" + bytes(96))
    record = ContentRecord(7, 100, written=(Extent(0, 4),), present=(Extent(0, 50),), dirty=(Extent(0, 4),))
    journal = Journal.open(folder, IDENTITY)
    await journal.commit(SaveContent(record), wanted("a/f", 7, 100))
    (saved,) = save_all(folder, tmp_path / "saved")
    await journal.aclose()
    assert saved == Saved("a/f", tmp_path / "saved" / "a" / "f.partial", 100, 50)
    assert saved.path is not None
    assert saved.path.read_bytes() == b"abcd" + bytes(96)


async def test_no_key_leads_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    keys = ["../../outside", "p/./x", "/absolute", "a//b"]
    journal = Journal.open(folder, IDENTITY)
    for number, key in enumerate(keys, 1):
        await journal.commit(inline(number, b"bytes"), wanted(key, number, 5))
    await journal.aclose()
    target = tmp_path / "deep" / "saved"
    for saved in save_all(folder, target):
        assert saved.path is not None
        assert saved.path.resolve().is_relative_to(target)
        assert saved.path.read_bytes() == b"bytes"
    assert not (tmp_path / "outside").exists()


async def test_a_link_in_the_way_is_not_followed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    target.mkdir()
    (target / "f").symlink_to(tmp_path / "elsewhere")
    journal = Journal.open(folder, IDENTITY)
    await journal.commit(inline(1, b"bytes"), wanted("f", 1, 5))
    await journal.aclose()
    (saved,) = save_all(folder, target)
    assert saved.path is None
    assert "is there already" in saved.reason
    assert not (tmp_path / "elsewhere").exists()


async def test_bytes_that_are_gone_are_told(folder: Path, tmp_path: Path) -> None:
    journal = Journal.open(folder, IDENTITY)
    record = ContentRecord(1, 100_000, written=(Extent(0, 100_000),), present=(Extent(0, 100_000),))
    await journal.commit(SaveContent(record), wanted("short", 1, 100_000))
    await journal.commit(SaveContent(ContentRecord(2, 5, inline=b"bytes")), wanted("gone", 2, 5), DropContent(2))
    await journal.aclose()
    (folder / "staged" / "1").write_bytes(b"short")
    saved = save_all(folder, tmp_path / "saved")
    assert [(one.path, bool(one.reason)) for one in saved] == [(None, True), (None, True)]
    assert os.listdir(tmp_path / "saved") == []


async def test_damaged_rows_are_counted(folder: Path) -> None:
    journal = Journal.open(folder, IDENTITY)
    await journal.commit(inline(1, b"a"), wanted("good", 1, 1), inline(2, b"b"), wanted("bad", 2, 1))
    await journal.aclose()
    connection = sqlite3.connect(folder / "journal.db")
    with connection:
        connection.execute("UPDATE intents SET body = x'ff' WHERE key = 'bad'")
    connection.close()
    intents, unreadable = intents_in(folder / "journal.db")
    assert [intent.key for intent in intents] == ["good"]
    assert unreadable == 1


def test_what_is_no_journal(folder: Path) -> None:
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(MountError, match=r"the journal .* can't be read: file is not a database"):
        intents_in(folder / "journal.db")
