"""A journal read from outside, whether it is mounted, left, parked or damaged; nothing in it is changed.

Bytes are taken as recovery would take them: what the row of a content names. A mount may write, cut and let go
meanwhile, so the row is looked at again afterwards; it frees no bytes before its journal says so.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spacesfs.content.extents import Extent, ExtentSet
from spacesfs.content.records import ContentRecord
from spacesfs.errors import MountError
from spacesfs.pending.changes import decode_content, decode_intent
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.schema import FILE_NAME, set_aside

_BUSY_SECONDS = 5.0
_PIECE_BYTES = 1 << 20
_ATTEMPTS = 5
PARTIAL = ".partial"
"""What the name of a file ends with of which not all bytes are here."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one content: the file, or None with the reason. ``missing`` bytes are only in the Space."""

    key: str
    path: Path | None
    size_bytes: int = 0
    missing_bytes: int = 0
    reason: str = ""


def journal_files(folder: Path) -> list[Path]:
    """Return the journal in a state folder, and those that were set aside there."""
    current = folder / FILE_NAME
    return [*([current] if current.exists() else []), *set_aside(folder)]


def intents_in(file: Path) -> tuple[list[Intent], int]:
    """Return the intents of a journal, oldest first, and how many rows can't be read.

    Raises:
        MountError: Not even the table can be.
    """
    found, bad = [], 0
    with _connected(file) as connection:
        rows = connection.execute("SELECT CAST(key AS BLOB), body FROM intents")
        while True:
            try:
                row = rows.fetchone()
            except sqlite3.Error:  # the page is damaged; SQLite goes no further
                bad += 1
                break
            if row is None:
                break
            try:
                found.append(decode_intent(row[0].decode(), row[1]))
            except (TypeError, ValueError):
                bad += 1
    return sorted(found, key=lambda intent: intent.order), bad


def export(file: Path, prefix: str, intents: list[Intent], target: Path) -> Iterator[Saved]:
    """Write the local bytes of intents below a folder, under their keys without the mount's prefix.

    What the journal has of a file that it does not have whole goes to a sparse file whose name ends in ``.partial``.
    Nothing that is there is written over. Yields what became of each content, as it goes.

    Raises:
        MountError: The journal can't be read, or the folder can't be made.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MountError(f"can't make the folder {target}: {error.strerror}") from error
    staged = file.parent / "staged"
    with _connected(file) as connection:
        for intent in intents:
            if isinstance(intent.want, Present) and intent.want.content is not None:
                path = target / _relative(intent.key.removeprefix(prefix))
                yield _saved(connection, staged, intent, intent.want, path)


class _Changed(Exception):
    """The mount has written to the content while it was copied."""


def _saved(connection: sqlite3.Connection, staged: Path, intent: Intent, want: Present, path: Path) -> Saved:
    for _ in range(_ATTEMPTS):
        try:
            return _save(connection, staged, intent, want, path)
        except _Changed:
            continue
        except FileExistsError as error:
            return Saved(intent.key, None, reason=f"{error.filename} is there already")
        except (OSError, sqlite3.Error, ValueError, TypeError) as error:
            return Saved(intent.key, None, reason=str(error))
    return Saved(intent.key, None, reason="it is being written without a pause")


def _save(connection: sqlite3.Connection, staged: Path, intent: Intent, want: Present, path: Path) -> Saved:
    assert want.content is not None, "the caller has looked"
    if intent.key.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
        return Saved(intent.key, path)
    found = _content(connection, want.content)
    if found is None:
        return Saved(intent.key, None, reason="its bytes are not in the journal any more")
    record, inline = found
    here = ExtentSet()
    for extent in record.present if inline is None else [Extent(0, record.size)]:
        here.add(extent.start, min(extent.end, record.size))
    missing_bytes = record.size - here.total_bytes
    path = path.with_name(path.name + PARTIAL) if missing_bytes else path
    with _written(path, want) as descriptor:
        _copy(record, inline, staged, descriptor)
        if _content(connection, want.content) != found:
            raise _Changed
    return Saved(intent.key, path, record.size, missing_bytes)


@contextmanager
def _written(path: Path, want: Present) -> Iterator[int]:
    """Make a file for the block to fill, with the times and permissions that it should have; it goes if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
        if want.attributes is not None and stat.S_ISREG(want.attributes.mode):
            os.fchmod(descriptor, want.attributes.mode & 0o777)
            os.utime(descriptor, ns=(want.attributes.atime_ns, want.attributes.mtime_ns))
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _copy(record: ContentRecord, inline: bytes | None, staged: Path, descriptor: int) -> None:
    if inline is not None:
        os.pwrite(descriptor, inline, 0)
        return
    os.ftruncate(descriptor, record.size)
    if not record.written:
        return
    source = os.open(staged / str(record.number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for extent in record.written:
            _copy_extent(source, descriptor, extent.start, min(extent.end, record.size))
    finally:
        os.close(source)


def _copy_extent(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        piece = os.pread(source, min(_PIECE_BYTES, end - start), start)
        if not piece:
            raise ValueError("the staged file is shorter than the journal says")
        start += os.pwrite(target, piece, start)


def _content(connection: sqlite3.Connection, number: int) -> tuple[ContentRecord, bytes | None] | None:
    row = connection.execute("SELECT body, inline FROM contents WHERE number = ?", (number,)).fetchone()
    return (decode_content(row[0]), row[1]) if row is not None else None


def _relative(key: str) -> Path:
    """Return where a key goes below a folder; no key leads out of it."""
    segments = [segment for segment in key.split("/") if segment]
    return Path(*(segment if segment not in (".", "..") else segment.replace(".", "%2E") for segment in segments))


@contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MountError(f"the journal {file} can't be read: {error}") from error
