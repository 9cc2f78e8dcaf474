"""What keys shall become, as data: one intent for each key that differs from the Space.

An intent is written over by the next change of its key, so what is left of a series of calls is what they amount to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from spacesfs.attributes import Attributes
from spacesfs.client.models import ObjectProperties, ObjectVersion


@dataclass(frozen=True, slots=True)
class Present:
    """The key shall hold an object.

    Attributes:
        size: Bytes of the object.
        content: The local content it is made of; None: the bytes of ``source``.
        source: An object that is needed to make this one: for its bytes, those that a partial ``content`` lacks, or its
            properties. May be the key's own base, or an object of another key.
        attributes: Of the file; None: those that ``source`` carries.
        properties: All that the object carries but the attributes; None: what ``source`` carries, asked for when it
            is needed. A ``content_type`` of None is guessed from the name.
    """

    size: int
    content: int | None = None
    source: ObjectVersion | None = None
    attributes: Attributes | None = None
    properties: ObjectProperties | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The key shall hold nothing. Of a directory's key: nor shall the directory be seen because of keys below it."""


Want: TypeAlias = Present | Absent


@dataclass(frozen=True, slots=True)
class Intent:
    """What one key shall become.

    Attributes:
        key: Of the object; a directory's marker ends in ``/``.
        order: Grows with each change of any key.
        base: What the Space holds under the key as far as is known; nothing else may be replaced or deleted.
        attempts: ETags that our requests may have made of the key although no reply said so.
        since: When the oldest change was made that is not in the Space, in seconds since the epoch.
    """

    key: str
    order: int
    want: Want
    base: ObjectVersion | None
    since: float
    attempts: tuple[str, ...] = ()


def kind_of(intent: Intent) -> str:
    """Return in a word, for people, what is done to a key."""
    want, is_directory = intent.want, intent.key.endswith("/")
    if isinstance(want, Absent):
        return "rmdir" if is_directory else "unlink"
    if want.content is not None:
        return "mkdir" if is_directory else "write"
    return "change" if want.source is not None and want.source.key == intent.key else "rename"
