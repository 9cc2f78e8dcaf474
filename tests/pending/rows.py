"""Rows that tests of the journal store."""

from __future__ import annotations

from spacesfs.attributes import Attributes
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.records import ContentRecord
from spacesfs.pending.changes import Change, SaveContent, SaveIntent
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.statedir import Identity

IDENTITY = Identity("https://ams3.example.org", "bucket", "")
ATTRIBUTES = Attributes(0o100644, 1000, 1000, 1, 2, 3)


def present(key: str, *, order: int = 1, size: int = 3, content: int | None = None) -> Intent:
    """Return an intent with something in every field."""
    properties = ObjectProperties(content_type="text/plain", metadata={"mode": "33188"}, acl="public-read")
    source = ObjectVersion("other", "0" * 32, size)
    return Intent(key, order, Present(size, content, source, ATTRIBUTES, properties), source, 12.5, ("one", "two"))


def absent(key: str, *, order: int = 1) -> Intent:
    """Return an intent that a key shall hold nothing."""
    return Intent(key, order, Absent(), None, 0.25)


def file(key: str, number: int, data: bytes, *, order: int = 1) -> tuple[Change, Change]:
    """Return the changes by which a small file is closed."""
    record = ContentRecord(number, len(data), data)
    return SaveContent(record), SaveIntent(present(key, order=order, size=len(data), content=number))
