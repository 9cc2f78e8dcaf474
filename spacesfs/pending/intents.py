"""Changes to the Space, as data. Each names the keys it touches: changes that share a key happen in the order asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.content.file import OpenFile


@dataclass(frozen=True, slots=True)
class Publish:
    """The content of an open file becomes an object.

    The key and what goes with it are asked for when the turn comes: the file may have been renamed meanwhile.
    """

    file: OpenFile
    key: Callable[[], str]
    properties: Callable[[], Awaitable[ObjectProperties]]


@dataclass(frozen=True, slots=True)
class Put:
    """A whole small object: a directory's marker, a symbolic link, a special file."""

    key: str
    body: bytes
    properties: ObjectProperties
    is_new: bool


@dataclass(frozen=True, slots=True)
class Describe:
    """An object keeps its bytes and gets other properties."""

    version: ObjectVersion
    properties: ObjectProperties


@dataclass(frozen=True, slots=True)
class Delete:
    """An object goes, if it is still what ``version`` returns when the turn comes; None means there is none.

    The key is asked for then too: the directory may have been renamed meanwhile.
    """

    key: Callable[[], str]
    version: Callable[[], ObjectVersion | None]


@dataclass(frozen=True, slots=True)
class RemoveMarker:
    """A directory's marker goes."""

    key: str


@dataclass(frozen=True, slots=True)
class Move:
    """An object gets another key; its properties go with it. It may replace only ``replaces``, None being nothing."""

    info: ObjectInfo
    target: str
    replaces: ObjectVersion | None


@dataclass(frozen=True, slots=True)
class MoveTree:
    """Every object whose key begins with ``source`` gets one that begins with ``target``; both end in ``/``."""

    source: str
    target: str


Intent: TypeAlias = Publish | Put | Describe | Delete | RemoveMarker | Move | MoveTree


def keys_of(intent: Intent) -> tuple[str, ...]:
    """Return the keys that an intent touches, without a trailing slash: ``a`` and ``a/`` share one order."""
    return tuple(key.rstrip("/") for key in _touched(intent))


def _touched(intent: Intent) -> tuple[str, ...]:
    match intent:
        case Publish() | Delete():
            return (intent.key(),)
        case Put() | RemoveMarker():
            return (intent.key,)
        case Describe():
            return (intent.version.key,)
        case Move():
            return (intent.info.key, intent.target)
        case MoveTree():
            return (intent.source, intent.target)


def must_wait(later: Intent, later_keys: tuple[str, ...], earlier: Intent, earlier_keys: tuple[str, ...]) -> bool:
    """Say whether one change has to wait for another: they share a key, or one moves a tree that the other is in."""
    pairs = [(a, b) for a in later_keys for b in earlier_keys]
    if isinstance(later, MoveTree) or isinstance(earlier, MoveTree):
        return any(a == b or a.startswith(b + "/") or b.startswith(a + "/") for a, b in pairs)
    return any(a == b for a, b in pairs)
