"""Folded changes leave the rows that the same changes leave one after another."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs.content.extents import Extent
from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.pending.changes import (
    Change,
    DropContent,
    DropIntent,
    DropParts,
    DropUpload,
    Rows,
    SaveContent,
    SaveFact,
    SaveIntent,
    SavePart,
    SaveUpload,
)
from spacesfs.pending.schema import open_journal
from tests.pending.rows import absent, present

KEYS = st.sampled_from(["a", "b/", "\u00e9"])
NUMBERS = st.integers(1, 3)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda key, order, content: SaveIntent(present(key, order=order, content=content)), KEYS, NUMBERS, NUMBERS
    ),
    st.builds(lambda key, order: SaveIntent(absent(key, order=order)), KEYS, NUMBERS),
    st.builds(DropIntent, KEYS),
    st.builds(lambda number, data: SaveContent(ContentRecord(number, len(data), data)), NUMBERS, st.binary(max_size=3)),
    st.builds(lambda number, size: SaveContent(ContentRecord(number, size)), NUMBERS, NUMBERS),
    st.builds(DropContent, NUMBERS),
    st.builds(lambda content, name: SaveUpload(UploadRecord("k", content, name, 0.5)), NUMBERS, st.sampled_from("xy")),
    st.builds(
        lambda content, number, end: SavePart(content, SentPart(number, Extent(0, end), "etag")),
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
    st.builds(lambda content, numbers: DropParts(content, tuple(numbers)), NUMBERS, st.sets(NUMBERS)),
    st.builds(DropUpload, NUMBERS),
    st.builds(SaveFact, KEYS, st.sampled_from("12")),
)
TABLES = ("intents", "contents", "uploads", "parts", "facts")


def stored(batches: Iterable[Rows]) -> list[list[tuple[object, ...]]]:
    """Return all rows of a new journal that is given batches one after another."""
    with tempfile.TemporaryDirectory() as folder:
        connection, _ = open_journal(Path(folder))
        with closing(connection):
            connection.execute("BEGIN")
            for rows in batches:
                rows.store(connection)
            connection.execute("COMMIT")
            return [table(connection, name) for name in TABLES]


def table(connection: sqlite3.Connection, name: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()  # noqa: S608 - a name from above


def merged(batches: Iterable[Rows]) -> Rows:
    together = Rows()
    for rows in batches:
        together.merge(rows)
    return together


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.lists(st.lists(CHANGES, max_size=6), max_size=4), max_size=4))
def test_folding(groups: list[list[list[Change]]]) -> None:
    one_by_one = [Rows([change]) for group in groups for call in group for change in call]
    folded = [merged(map(Rows, group)) for group in groups]
    assert stored(folded) == stored(one_by_one)
