"""Changes of the journal, and the rows that they amount to.

A change sets a row or drops it, so changes fold: of two that touch one row the later is all that is left. A failed
transaction can therefore be carried into the next one, whatever has been changed since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

import msgspec

from spacesfs.client.models import ObjectVersion
from spacesfs.content.records import ContentRecord, SentPart, UploadRecord
from spacesfs.pending.intents import Absent, Intent, Present

_ROWS_PER_STATEMENT = 256  # a statement gives the interpreter away once; SQLite takes 32,766 values in one


@dataclass(frozen=True, slots=True)
class SaveIntent:
    """The row of the intent's key."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class SaveIntents:
    """The rows of many intents, no two of one key."""

    intents: tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class DropIntent:
    """The key is as it was wanted; nothing if there is no such row."""

    key: str


@dataclass(frozen=True, slots=True)
class SaveContent:
    """The row of the content's number. Inline bytes, where there are any, have to be all."""

    record: ContentRecord


@dataclass(frozen=True, slots=True)
class DropContent:
    """The content is needed no more."""

    number: int


@dataclass(frozen=True, slots=True)
class SaveUpload:
    """The row of an upload, by the number of its content. Its parts are rows of their own and not looked at."""

    upload: UploadRecord


@dataclass(frozen=True, slots=True)
class SavePart:
    """A part of the upload of ``content``."""

    content: int
    part: SentPart


@dataclass(frozen=True, slots=True)
class DropParts:
    """Parts of the upload of ``content`` that no longer count, by number."""

    content: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropUpload:
    """The upload of ``content`` is completed or aborted; its parts go too."""

    content: int


@dataclass(frozen=True, slots=True)
class SaveFact:
    """Something learned that is to outlive the mount. Names that start with a dot are the journal's own."""

    name: str
    value: str


Change: TypeAlias = (
    SaveIntent
    | SaveIntents
    | DropIntent
    | SaveContent
    | DropContent
    | SaveUpload
    | SavePart
    | DropParts
    | DropUpload
    | SaveFact
)


class Rows:
    """What a series of changes makes of the journal's rows: the new row, or None for one that goes."""

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        """Fold changes, in their order.

        Raises:
            TypeError, ValueError, OverflowError: One can't be a row (text that is no Unicode, a number over 64 bits).
        """
        self.intents: dict[str, bytes | None] = {}
        self.contents: dict[int, tuple[bytes, bytes | None] | None] = {}
        self.uploads: dict[int, bytes | None] = {}
        self.parts: dict[int, dict[int, bytes | None]] = {}
        self.facts: dict[str, str] = {}
        self._without_parts: set[int] = set()  # uploads whose stored parts go before ``parts`` are stored
        self._referred: set[int] = set()  # contents that intents speak of
        for change in changes:
            self._fold(change)

    def __len__(self) -> int:
        parts = sum(map(len, self.parts.values()))
        return len(self.intents) + len(self.contents) + len(self.uploads) + parts + len(self.facts)

    @property
    def inline_bytes(self) -> int:
        """Bytes of small contents that are to be stored."""
        return sum(len(row[1]) for row in self.contents.values() if row and row[1] is not None)

    @property
    def only_drops_contents(self) -> bool:
        """Say whether these rows do nothing but forget contents, which intents in other rows may have spoken of."""
        return bool(self.contents) and len(self) == len(self.contents) and not any(self.contents.values())

    def touched(self) -> set[str | int]:
        """Return the keys and the numbers of contents that rows are about; facts stand alone."""
        return {*self.intents, *self.contents, *self.uploads, *self.parts, *self._without_parts, *self._referred}

    def merge(self, later: Rows) -> None:
        """Fold the rows of later changes over these."""
        self.intents.update(later.intents)
        self.contents.update(later.contents)
        self.uploads.update(later.uploads)
        for content in later._without_parts:
            self._drop_parts(content)
        for content, parts in later.parts.items():
            self.parts.setdefault(content, {}).update(parts)
        self.facts.update(later.facts)
        self._referred |= later._referred

    def store(self, connection: sqlite3.Connection) -> None:
        """Write the rows, within the caller's transaction.

        Raises:
            sqlite3.Error: Some may be written.
        """
        _delete(connection, "intents", "key", _gone(self.intents))
        _delete(connection, "contents", "number", _gone(self.contents))
        _delete(connection, "uploads", "content", _gone(self.uploads))
        _delete(connection, "parts", "content", self._without_parts)
        for content, parts in self.parts.items():
            _delete(connection, "parts", "number", _gone(parts), within=content)
        _insert(connection, "intents", 2, ((key, body) for key, body in self.intents.items() if body is not None))
        _insert(connection, "contents", 3, ((number, *row) for number, row in self.contents.items() if row is not None))
        _insert(connection, "uploads", 2, ((number, body) for number, body in self.uploads.items() if body is not None))
        _insert(connection, "parts", 3, self._part_rows())
        _insert(connection, "facts", 2, self.facts.items())

    def _part_rows(self) -> Iterator[tuple[int, int, bytes]]:
        for content, parts in self.parts.items():
            yield from ((content, number, body) for number, body in parts.items() if body is not None)

    def _drop_parts(self, content: int) -> None:
        self.parts.pop(content, None)
        self._without_parts.add(content)

    def _save(self, intent: Intent) -> None:
        self.intents[_text(intent.key)] = encode_intent(intent)
        if isinstance(intent.want, Present) and intent.want.content is not None:
            self._referred.add(intent.want.content)

    def _fold(self, change: Change) -> None:  # noqa: C901 - one short case for each kind of change
        match change:
            case SaveIntent(intent):
                self._save(intent)
            case SaveIntents(intents):
                for intent in intents:
                    self._save(intent)
            case DropIntent(key):
                self.intents[_text(key)] = None
            case SaveContent(record):
                self.contents[record.number] = _content_row(record)
            case DropContent(number):
                self.contents[number] = None
            case SaveUpload(upload):
                self.uploads[upload.content] = _encode(replace(upload, parts=()))
            case SavePart(content, part):
                self.parts.setdefault(content, {})[part.number] = _encode(part)
            case DropParts(content, numbers):
                self.parts.setdefault(content, {}).update(dict.fromkeys(numbers))
            case DropUpload(content):
                self.uploads[content] = None
                self._drop_parts(content)
            case SaveFact(name, value):
                self.facts[_text(name)] = _text(value)


class _IntentBody(msgspec.Struct, omit_defaults=True):
    """An intent without its key; a key that shall be absent has no ``present``."""

    order: int
    since: float
    present: Present | None = None
    base: ObjectVersion | None = None
    attempts: tuple[str, ...] = ()


def encode_intent(intent: Intent) -> bytes:
    """Return the stored form of all but the key."""
    present = intent.want if isinstance(intent.want, Present) else None
    return _encode(_IntentBody(intent.order, intent.since, present, intent.base, intent.attempts))


def decode_intent(key: str, body: bytes) -> Intent:
    """Return what ``encode_intent`` was given. Fields that a later version added are passed over.

    Raises:
        TypeError, ValueError: The row is damaged.
    """
    found = _INTENTS.decode(body)
    return Intent(key, found.order, found.present or Absent(), found.base, found.since, found.attempts)


def decode_content(body: bytes) -> ContentRecord:
    """Return a content without its inline bytes; errors as ``decode_intent``."""
    return _CONTENTS.decode(body)


def decode_upload(body: bytes) -> UploadRecord:
    """Return an upload without its parts; errors as ``decode_intent``."""
    return _UPLOADS.decode(body)


def decode_part(body: bytes) -> SentPart:
    """Return a part of an upload; errors as ``decode_intent``."""
    return _PARTS.decode(body)


def _content_row(record: ContentRecord) -> tuple[bytes, bytes | None]:
    if record.inline is not None and len(record.inline) != record.size:
        raise ValueError(f"{len(record.inline)} inline bytes of a content of {record.size}")
    return _encode(replace(record, inline=None)), record.inline


def _plain(value: object) -> dict[object, object]:
    """Return what msgspec doesn't know by itself: read-only mappings, as dictionaries."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} can't be stored")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
_encode = _ENCODER.encode
_INTENTS = msgspec.msgpack.Decoder(_IntentBody)
_CONTENTS = msgspec.msgpack.Decoder(ContentRecord)
_UPLOADS = msgspec.msgpack.Decoder(UploadRecord)
_PARTS = msgspec.msgpack.Decoder(SentPart)


def _text(text: str) -> str:
    """Return ``text`` if it can be stored: SQLite would refuse it only with all others in the transaction."""
    text.encode()
    return text


def _gone(rows: Mapping[str, object] | Mapping[int, object]) -> list[str | int]:
    return [key for key, row in rows.items() if row is None]


def _insert(connection: sqlite3.Connection, table: str, width: int, rows: Iterable[Sequence[object]]) -> None:
    """Store rows. Many go into one statement, as each takes the interpreter from a busy event loop anew."""
    one = f"({','.join('?' * width)})"
    remaining = iter(rows)
    while chunk := list(islice(remaining, _ROWS_PER_STATEMENT)):
        places = ",".join([one] * len(chunk))
        values = [value for row in chunk for value in row]
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {places}", values)  # noqa: S608 - names are ours


def _delete(
    connection: sqlite3.Connection, table: str, column: str, keys: Iterable[str | int], within: int | None = None
) -> None:
    """Remove rows by one column; of a part also by the number of its upload's content, ``within``."""
    remaining = iter(keys)
    also = "" if within is None else " AND content = ?"
    while chunk := list(islice(remaining, _ROWS_PER_STATEMENT)):
        places = ",".join("?" * len(chunk))
        values = chunk if within is None else [*chunk, within]
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({places}){also}", values)  # noqa: S608 - names are ours
