"""The journal's file: made, checked, migrated, read; set aside when it is damaged.

``PRAGMA user_version`` is the version of the schema. A step leads from each version to the next; an empty file has
version 0. All that a file lacks is done in one transaction.
"""

from __future__ import annotations

import errno
import gc
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.errors import MountError
from spacesfs.pending.changes import decode_content, decode_intent, decode_part, decode_upload
from spacesfs.pending.intents import Intent

Record = TypeVar("Record")

FILE_NAME = "journal.db"
_BUSY_SECONDS = 10.0  # how long somebody who looks into the file may hold us up
_PAGES_IN_LOG = 1000  # 4 MiB; a checkpoint of as much takes a few milliseconds
_LOG_LIMIT_BYTES = 16 << 20  # what a log that grew by a large transaction is cut to
_STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE intents (key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE contents (number INTEGER PRIMARY KEY, body BLOB NOT NULL, inline BLOB)",
        "CREATE TABLE uploads (content INTEGER PRIMARY KEY, body BLOB NOT NULL)",
        "CREATE TABLE parts (content INTEGER, number INTEGER, body BLOB, PRIMARY KEY (content, number)) WITHOUT ROWID",
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE damaged (kind TEXT, name BLOB, body BLOB, inline BLOB, noticed REAL)",
    ),
)


@dataclass(slots=True)
class Recovered:
    """What a journal held when it was opened.

    Attributes:
        contents: Of a small content ``inline`` is b"", whatever its size: the bytes are read when they are needed.
        notices: What the user should know, a line each.
        has_damage: Something is set aside, now or by an earlier process, that may need what lies in the state folder.
    """

    intents: dict[str, Intent] = field(default_factory=dict)
    contents: dict[int, ContentRecord] = field(default_factory=dict)
    uploads: dict[int, UploadRecord] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    has_damage: bool = False


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's result code without its refinement; 0 if the error isn't SQLite's own."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def open_journal(folder: Path) -> tuple[sqlite3.Connection, Recovered]:
    """Open the journal in a folder and read it; a damaged one is set aside and a fresh one begun.

    Raises:
        MountError: It is of a newer schema, or can't be opened.
    """
    connection, recovered = _open_or_set_aside(folder / FILE_NAME)
    recovered.has_damage = bool(set_aside(folder)) or bool(connection.execute("SELECT 1 FROM damaged").fetchone())
    return connection, recovered


def set_aside(folder: Path) -> list[Path]:
    """Return the damaged and parked journals that are kept in a state folder."""
    return [path for path in sorted(folder.glob(f"{FILE_NAME}.*")) if not path.name.endswith(("-wal", "-shm"))]


def park(folder: Path) -> Path:
    """Set aside a whole journal, which nobody has open, because what it is about is gone; return its new name.

    Raises:
        OSError: The disk is in the way.
    """
    return _set_aside(folder / FILE_NAME, "parked")


def _open_or_set_aside(path: Path) -> tuple[sqlite3.Connection, Recovered]:
    try:
        return _open(path)
    except _Damaged as damage:
        aside = _set_aside(path, "damaged")
        try:
            connection, recovered = _open(path)
        except _Damaged as again:
            raise MountError(f"the disk damages the journal in {path.parent}: {again}") from again
        recovered.notices.append(
            f"the journal was damaged ({damage}) and is kept as {aside}; what it held that is not in the Space is there"
        )
        return connection, recovered


def reopen(folder: Path) -> sqlite3.Connection:
    """Connect to a journal that was open already.

    Raises:
        sqlite3.Error, OSError: It can't be opened.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))  # a fresh one would lack the rest
    return _connect(path)


class _Damaged(Exception):
    """The file is no journal, or not a whole one."""


@contextmanager
def _damage_told_apart(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file into `_Damaged` or, when the file is not to blame, a MountError."""
    try:
        yield
    except sqlite3.Error as error:
        if primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise _Damaged(str(error)) from error
        raise MountError(f"can't open the journal {path}: {error}") from error
    except OSError as error:
        raise MountError(f"can't open the journal {path}: {error.strerror}") from error


def _open(path: Path) -> tuple[sqlite3.Connection, Recovered]:
    with _damage_told_apart(path):
        connection = _connect(path)
    try:
        with _damage_told_apart(path):
            _check(connection)
            _migrate(connection, path)
            with _no_collection():
                return connection, _read(connection)
    except BaseException:
        connection.close()
        raise


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from looking through all rows again and again while more come; all of them stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _Damaged(" ".join(str(verdict).split()))


def _connect(path: Path) -> sqlite3.Connection:
    is_new = not path.exists()
    if is_new:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # what SQLite adds has the same mode
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if path.stat().st_size == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts before the first table only, but writes
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_IN_LOG}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}")
        if is_new:
            sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_STEPS):
        raise MountError(
            f"the journal {path} has schema version {version}, this spacesfs knows {len(_STEPS)}: use a newer spacesfs"
        )
    if version == len(_STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        roll_back(connection)
        if version == 0 or primary_code(error) == sqlite3.SQLITE_CORRUPT:
            raise
        told = f"can't migrate the journal {path} from schema version {version} to {len(_STEPS)}: {error}"
        raise MountError(told) from error


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _set_aside(path: Path, why: str) -> Path:
    """Rename the file and what belongs to it; SQLite finds them together under the new name too."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.{why}-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}-{count}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    sync_folder(path.parent)
    return aside


def _read(connection: sqlite3.Connection) -> Recovered:
    bad: list[_Row] = []
    intents = _decoded(connection, _INTENTS, bad)
    contents = _decoded(connection, _CONTENTS, bad)
    uploads = _decoded(connection, _UPLOADS, bad)
    parts: dict[int, list[SentPart]] = {}
    for row, part in _decoded(connection, _PARTS, bad):
        parts.setdefault(row.content, []).append(part)
    recovered = Recovered(
        intents={intent.key: intent for _, intent in intents},
        contents={row.content: replace(record, inline=b"") if row.is_inline else record for row, record in contents},
        uploads={row.content: replace(upload, parts=tuple(parts.get(row.content, ()))) for row, upload in uploads},
        facts=dict(connection.execute("SELECT name, value FROM facts")),
    )
    if bad:
        _keep_damaged_rows(connection, bad)
        tables = ", ".join(sorted({row.table for row in bad}))
        recovered.notices.append(
            f"{len(bad)} damaged row(s) of the journal ({tables}) are kept in its table 'damaged' and count no more"
        )
    return recovered


@dataclass(slots=True)  # not frozen: one is made for each of very many
class _Row:
    """A stored row: its table, its name as it is in the file, its number or that of its content, its body."""

    table: str
    name: bytes
    content: int
    body: bytes
    is_inline: bool


@dataclass(frozen=True, slots=True)
class _Table(Generic[Record]):
    """How rows of a table are found and read. ``name`` is an SQL expression that tells one row from all others."""

    table: str
    name: str
    content: str
    is_inline: str
    decode: Callable[[_Row], Record]


_PART_NAME = "CAST(content || '/' || number AS BLOB)"
_INTENTS = _Table("intents", "CAST(key AS BLOB)", "0", "0", lambda row: decode_intent(row.name.decode(), row.body))
_CONTENTS = _Table(
    "contents", "CAST(number AS BLOB)", "number", "inline IS NOT NULL", lambda row: decode_content(row.body)
)
_UPLOADS = _Table("uploads", "CAST(content AS BLOB)", "content", "0", lambda row: decode_upload(row.body))
_PARTS = _Table("parts", _PART_NAME, "content", "0", lambda row: decode_part(row.body))
_NAMES = {table.table: table.name for table in (_INTENTS, _CONTENTS, _UPLOADS, _PARTS)}


def _decoded(connection: sqlite3.Connection, table: _Table[Record], bad: list[_Row]) -> list[tuple[_Row, Record]]:
    """Return a table's rows with what they hold; those that make no sense are put to ``bad``."""
    select = f"SELECT {table.name}, {table.content}, body, {table.is_inline} FROM {table.table}"  # noqa: S608 - ours
    found = []
    for name, content, body, is_inline in connection.execute(select):
        row = _Row(table.table, name, content, body, bool(is_inline))
        try:
            found.append((row, table.decode(row)))
        except (TypeError, ValueError):
            bad.append(row)
    return found


def _keep_damaged_rows(connection: sqlite3.Connection, bad: list[_Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for row in bad:
            inline = "inline" if row.table == "contents" else "NULL"
            where = f"FROM {row.table} WHERE {_NAMES[row.table]} = ?"
            connection.execute(
                f"INSERT INTO damaged SELECT ?, {_NAMES[row.table]}, body, {inline}, ? {where}",
                (row.table, time.time(), row.name),
            )
            connection.execute(f"DELETE {where}", (row.name,))
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
