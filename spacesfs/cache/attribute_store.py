"""Descriptions of objects on the local disk, so that no mount of this host asks for one version's twice.

A SQLite file that all mounts with the same cache folder share. It only remembers: losing it, or any trouble with it, is
a miss. Its connection is used by one thread at a time; what is saved goes to the disk in batches, some time later.

A process that is killed takes the last rows with it, so what the file says must not fit an object that was changed
since. Of what was just stored nobody has seen LastModified, and the time bounds it only to within a second or so, in
which it may be changed again. Such a row is in the file at once, but bound to no time, so that it only says what there
was when the Space can't be asked; it gets its bounds when those are past for sure.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import trio

from spacesfs.client.models import ObjectInfo, ObjectProperties

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA = 1
MAX_WAITING_ROWS = 20_000  # about 10 MB; a disk that does not keep pace with that gets the newest
_SAVE_SECONDS = 0.2  # what is saved meanwhile goes into one transaction
_SETTLING_SECONDS = 3.0  # until the Space's clock is past the end of a bound that was now: it shows whole seconds
_CLOSE_SECONDS = 5.0
_BUSY_SECONDS = 1.0  # another mount writes
_PAGE_BYTES = 4096
_TRIMMED_SHARE = 8  # of the rows, the oldest, when the file is full

_TABLE = """
CREATE TABLE IF NOT EXISTS objects (
    number INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    key TEXT NOT NULL,
    etag TEXT NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    description BLOB NOT NULL,
    UNIQUE (space, key)
)"""


class Row(NamedTuple):
    """One object: what it is bound to, and its packed description.

    Its LastModified lies within ``first_ns`` and ``last_ns``, both included; the first is 0 if nobody has seen it.
    """

    key: str
    etag: str
    first_ns: int
    last_ns: int
    packed: bytes

    def unbound(self) -> Row:
        """Return it as one that fits no listing."""
        return self._replace(first_ns=1, last_ns=0)


@dataclass(slots=True)
class _Waiting:
    """What the file is to hold of a key; nothing, if there is no row.

    It gets its bounds at ``due``, in seconds of trio's clock; ``is_there`` once the file has it without them.
    """

    row: Row | None
    due: float
    is_there: bool = False


class _Packed(msgspec.Struct, array_like=True):
    """What a HEAD tells, but for what the row says. The ACL and the tags are left out: a HEAD does not tell of them."""

    size: int
    modified_ns: int
    tag_count: int
    is_encrypted: bool
    version_id: str
    content_type: str | None
    cache_control: str | None
    content_disposition: str | None
    content_encoding: str | None
    content_language: str | None
    expires: str | None
    storage_class: str | None
    metadata: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack_info(info: ObjectInfo) -> bytes:
    """Return a description for the disk."""
    kept = info.properties
    return _encode(
        _Packed(
            info.size,
            info.last_modified_ns,
            info.tag_count,
            info.is_encrypted,
            info.version_id,
            kept.content_type,
            kept.cache_control,
            kept.content_disposition,
            kept.content_encoding,
            kept.content_language,
            kept.expires,
            kept.storage_class,
            dict(kept.metadata),
        )
    )


def unpack_info(row: Row) -> ObjectInfo | None:
    """Return a description from the disk; None if it is damaged."""
    try:
        packed = _decode(row.packed)
    except msgspec.DecodeError:
        return None
    properties = ObjectProperties(
        packed.content_type,
        packed.cache_control,
        packed.content_disposition,
        packed.content_encoding,
        packed.content_language,
        packed.expires,
        packed.metadata,
        storage_class=packed.storage_class,
    )
    return ObjectInfo(
        row.key,
        packed.size,
        row.etag,
        packed.modified_ns,
        properties,
        packed.tag_count,
        packed.is_encrypted,
        packed.version_id,
    )


class AttributeStore:
    """Owns this mount's connection to the file, and the rows that are not in it yet.

    Attributes:
        trouble: What is wrong with the disk or the file, or None; then everything is a miss.
    """

    def __init__(self, path: Path, limit_bytes: int, space: str) -> None:
        """Describe it; it is opened when first used.

        Args:
            path: The file; folders are made.
            limit_bytes: What the file may take. Beyond that the rows that were written longest ago go.
            space: What tells this bucket from all others.
        """
        self.trouble: str | None = None
        self._path = path
        self._limit_pages = limit_bytes // _PAGE_BYTES
        self._space = int.from_bytes(hashlib.blake2b(space.encode(), digest_size=8).digest(), signed=True)
        self._connection: sqlite3.Connection | None = None
        self._is_anew = False  # once is enough: a disk that damages every file is no place for one
        self._thread = trio.CapacityLimiter(1)
        self._waiting: dict[str, _Waiting] = {}
        self._has_waiting = trio.Event()

    async def find(self, keys: Sequence[str]) -> list[Row]:
        """Return what is known of keys, a listing's page of them, by one query."""
        found = await self._in_thread(partial(self._select, keys)) or []
        waiting = self._waiting  # what is saved, and not on the disk yet, counts more
        rows = [row for row in found if row.key not in waiting]
        newer = [waiting[key].row for key in keys if key in waiting] if waiting else []
        return rows + [row for row in newer if row is not None]

    async def has_below(self, prefix: str) -> bool:
        """Say whether anything is known of keys that begin with a prefix."""
        below = {key: waiting.row for key, waiting in self._waiting.items() if key.startswith(prefix)}
        gone = [key for key, row in below.items() if row is None]
        if len(gone) < len(below):
            return True
        return bool(await self._in_thread(partial(self._select_below, prefix, gone)))

    def resize(self, limit_bytes: int) -> None:
        """Let the file take so much from now on; it shrinks when something is saved."""
        self._limit_pages = limit_bytes // _PAGE_BYTES

    def save(self, row: Row) -> None:
        """Remember an object, some time soon."""
        settling = 0.0 if row.first_ns else _SETTLING_SECONDS
        self._put(row.key, _Waiting(row, trio.current_time() + settling))

    def forget(self, key: str) -> None:
        """Forget an object, some time soon."""
        self._put(key, _Waiting(None, trio.current_time()))

    async def run(self) -> None:
        """Write what is saved until cancelled, and then what is left."""
        try:
            while True:
                await self._has_waiting.wait()
                await trio.sleep(_SAVE_SECONDS)
                await self._write(trio.current_time())
        finally:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._write(float("inf"))  # who changes these objects next takes a second to begin
                await self._in_thread(self._close)

    def _put(self, key: str, waiting: _Waiting) -> None:
        if self.trouble is None:
            self._waiting.pop(key, None)
            self._waiting[key] = waiting
            if len(self._waiting) > MAX_WAITING_ROWS:
                del self._waiting[next(iter(self._waiting))]
            self._has_waiting.set()

    async def _write(self, now: float) -> None:
        """Write what is new, and the bounds of what is due; what can't be written is tried again."""
        waiting = dict(self._waiting)
        new = [key for key, one in waiting.items() if not one.is_there]
        due = [key for key, one in waiting.items() if one.due <= now]
        rows = [row if waiting[row.key].due <= now else row.unbound() for row in _rows(waiting, new)]
        bound = [row for row in _rows(waiting, due) if waiting[row.key].is_there]
        self._has_waiting = trio.Event()
        write = partial(self._store, new, rows, bound)
        if bool(new or due) and await self._in_thread(write):
            for key in new:
                waiting[key].is_there = True
            for key in due:
                if self._waiting.get(key) is waiting[key]:
                    del self._waiting[key]
        if self._waiting:
            self._has_waiting.set()

    async def _in_thread(self, call: Callable[[], T]) -> T | None:
        """Make a call in the thread; None if the file is of no use."""
        if self.trouble is not None:
            return None
        try:
            return await trio.to_thread.run_sync(call, limiter=self._thread)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                return None  # another mount took its time
            if _is_damage(error) and not self._is_anew:
                self._is_anew = True
                await self._in_thread(self._begin_anew)
                return None
            self.trouble = f"attributes are not remembered on disk: {self._path}: {error}"
            self._waiting.clear()
            log.warning("%s", self.trouble)
            return None

    # --- in the thread

    def _select(self, keys: Sequence[str]) -> list[Row]:
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, etag, first_ns, last_ns, description FROM objects WHERE space = ? AND key IN ({marks})"  # noqa: S608 - question marks alone
        return [Row(*columns) for columns in self._open().execute(query, (self._space, *keys))]

    def _select_below(self, prefix: str, gone: Sequence[str]) -> bool:
        query = "SELECT key FROM objects WHERE space = ? AND key >= ? AND key < ?"
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)  # a prefix ends in a slash, which is not the last of characters
        return any(key not in gone for (key,) in self._open().execute(query, (self._space, prefix, end)))

    def _store(self, keys: Sequence[str], rows: Sequence[Row], bound: Sequence[Row]) -> bool:
        """Bring keys up to date by rows, and give bounds to earlier ones that nobody has changed in the file since."""
        connection = self._open()
        with connection:
            connection.executemany(
                "DELETE FROM objects WHERE space = ? AND key = ?", [(self._space, key) for key in keys]
            )
            connection.executemany(
                "INSERT INTO objects (space, key, etag, first_ns, last_ns, description) VALUES (?, ?, ?, ?, ?, ?)",
                [(self._space, *row) for row in rows],
            )
            connection.executemany(
                "UPDATE objects SET first_ns = ?, last_ns = ?"
                " WHERE space = ? AND key = ? AND etag = ? AND first_ns > last_ns AND description = ?",
                [(row.first_ns, row.last_ns, self._space, row.key, row.etag, row.packed) for row in bound],
            )
            self._trim(connection)
        return True

    def _trim(self, connection: sqlite3.Connection) -> None:
        """Drop the oldest rows where the file is over its limit."""
        ((pages,),) = connection.execute("PRAGMA page_count")
        ((free,),) = connection.execute("PRAGMA freelist_count")
        if pages - free > self._limit_pages:
            connection.execute(
                "DELETE FROM objects WHERE number <= (SELECT number FROM objects ORDER BY number LIMIT 1 OFFSET"
                " (SELECT COUNT(*) / ? FROM objects))",
                (_TRIMMED_SHARE,),
            )

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = _connect(self._path)
        return self._connection

    def _begin_anew(self) -> None:
        log.info("%s is damaged, and begun anew", self._path)
        self._close()
        self._connection = None
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _rows(waiting: Mapping[str, _Waiting], keys: Sequence[str]) -> list[Row]:
    return [row for key in keys if (row := waiting[key].row) is not None]


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last rows, never the file
        ((version,),) = connection.execute("PRAGMA user_version")
        if version != SCHEMA:
            connection.execute("DROP TABLE IF EXISTS objects")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute(_TABLE)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_damage(error: Exception) -> bool:
    """Say whether it is the file that is to blame, and not the disk."""
    return type(error) is sqlite3.DatabaseError  # its subclasses stand for other things
