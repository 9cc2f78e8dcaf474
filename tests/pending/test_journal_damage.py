"""A journal that is damaged, or of another time, is never lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from spacesfs.content.extents import Extent
from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.errors import MountError
from spacesfs.pending import schema
from spacesfs.pending.changes import SaveContent, SaveFact, SaveIntent, SavePart, SaveUpload
from spacesfs.pending.journal import Journal
from tests.pending.rows import IDENTITY, file, present


async def filled(folder: Path) -> None:
    """Leave a journal behind with rows of each kind."""
    journal = Journal.open(folder, IDENTITY)
    await journal.commit(*(SaveIntent(present(f"{number:0100}")) for number in range(2000)))
    await journal.commit(*file("a", 1, b"abc"), SaveContent(ContentRecord(2, 1 << 20)), SaveFact("fact", "value"))
    await journal.commit(SaveUpload(UploadRecord("big", 2, "id", 0.0)), SavePart(2, SentPart(1, Extent(0, 9), "etag")))
    await journal.aclose()


def altered(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def not_a_database(path: Path) -> None:
    path.write_bytes(b"This is a letter.\n" * 1000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 40_000] = b"\xff" * 40_000
    path.write_bytes(data)


def without_a_table(path: Path) -> None:
    altered(path.parent, "DROP TABLE uploads")


@pytest.mark.parametrize("damage", [not_a_database, cut_short, overwritten_in_the_middle, without_a_table])
async def test_a_damaged_journal_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    await filled(tmp_path)
    damage(tmp_path / "journal.db")
    before = (tmp_path / "journal.db").read_bytes()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"journal.db{suffix}").write_bytes(b"")
    journal = Journal.open(tmp_path, IDENTITY)
    (notice,) = journal.recovered.notices
    assert journal.recovered.intents == {}
    await journal.commit(SaveIntent(present("new")))
    number = journal.next_content_number()
    await journal.aclose()
    (aside,) = [path for path in tmp_path.glob("journal.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]  # noqa: ASYNC240
    assert aside.read_bytes() == before
    assert str(aside) in notice
    assert "\n" not in notice
    assert number > 1 << 40, "staged files of the old journal keep their names"
    again = Journal.open(tmp_path, IDENTITY)
    assert (set(again.recovered.intents), again.recovered.notices) == ({"new"}, [])
    await again.aclose()


async def test_journals_set_aside_within_a_second_are_all_kept(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        not_a_database(tmp_path / "journal.db")
        await Journal.open(tmp_path, IDENTITY).aclose()
        assert len(list(tmp_path.glob("journal.db.damaged-*"))) == count  # noqa: ASYNC240 - local


async def test_rows_that_make_no_sense_are_kept_apart(tmp_path: Path) -> None:
    await filled(tmp_path)
    altered(
        tmp_path,
        "UPDATE intents SET body = x'c1' WHERE key LIKE '%7'",
        "INSERT INTO intents VALUES (CAST(x'ff' AS TEXT), x'80')",
        "UPDATE contents SET body = 'text' WHERE number = 1",
        "UPDATE parts SET body = x'81'",
    )
    journal = Journal.open(tmp_path, IDENTITY)
    recovered = journal.recovered
    assert len(recovered.intents) == 2001 - 200
    assert set(recovered.contents) == {2}
    assert recovered.uploads == {2: UploadRecord("big", 2, "id", 0.0)}
    assert recovered.facts == {"fact": "value"}
    assert recovered.notices == [
        "203 damaged row(s) of the journal (contents, intents, parts) are kept in its table 'damaged' and count no more"
    ]
    await journal.aclose()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        rows = connection.execute("SELECT kind, name, inline FROM damaged WHERE kind != 'intents'").fetchall()
    assert sorted(rows) == [("contents", b"1", b"abc"), ("parts", b"2/1", None)]
    again = Journal.open(tmp_path, IDENTITY)
    assert again.recovered.notices == []
    await again.aclose()


async def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    await filled(tmp_path)
    altered(tmp_path, "PRAGMA user_version = 99")
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(
        MountError, match=r"journal\.db has schema version 99, this spacesfs knows 1: use a newer"
    ) as error:
        Journal.open(tmp_path, IDENTITY)
    assert "\n" not in str(error.value)
    assert (tmp_path / "journal.db").read_bytes() == before


async def test_an_older_journal_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path)
    later = (
        ("ALTER TABLE facts ADD COLUMN since REAL", "UPDATE facts SET since = 1"),
        ("INSERT INTO facts SELECT name || '-2', value, since + 1 FROM facts WHERE name = 'fact'",),
    )
    monkeypatch.setattr(schema, "_STEPS", schema._STEPS + later)  # noqa: SLF001 - no later step exists yet
    connection, recovered = schema.open_journal(tmp_path)
    with closing(connection):
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("SELECT since FROM facts WHERE name = 'fact-2'").fetchone() == (2.0,)
    assert len(recovered.intents) == 2001
    assert recovered.notices == []


async def test_a_migration_is_made_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path)
    wrong = (("DELETE FROM intents",), ("INSERT INTO facts VALUES (NULL)",))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS + wrong)  # noqa: SLF001 - no later step exists yet
        with pytest.raises(MountError, match=r"can't migrate the journal .* from schema version 1 to 3: "):
            schema.open_journal(tmp_path)
    journal = Journal.open(tmp_path, IDENTITY)
    assert len(journal.recovered.intents) == 2001
    assert journal.recovered.notices == []
    await journal.aclose()


def test_each_commit_is_synced(tmp_path: Path) -> None:
    first, _ = schema.open_journal(tmp_path)
    for connection in (first, schema.reopen(tmp_path)):
        with closing(connection):
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # sqlite.org, pragma: FULL
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_an_empty_file_is_a_journal_that_was_never_begun(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"")
    journal = Journal.open(tmp_path, IDENTITY)
    assert journal.recovered.notices == []
    await journal.aclose()


def test_a_place_where_no_journal_can_be(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"can't open the journal .*: No such file"):
        Journal.open(tmp_path / "missing", IDENTITY)
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(MountError, match="can't open the journal"):
        Journal.open(tmp_path, IDENTITY)
