"""Which changes have to wait for which."""

from __future__ import annotations

import pytest

from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.pending.intents import (
    Delete,
    Describe,
    Intent,
    Move,
    MoveTree,
    Put,
    RemoveMarker,
    keys_of,
    must_wait,
)

NONE = ObjectProperties()


def put(key: str) -> Intent:
    return Put(key, b"", NONE, is_new=False)


def move(source: str, target: str) -> Intent:
    return Move(ObjectInfo(source, 0, "e", 0, NONE), target, None)


@pytest.mark.parametrize(
    ("intent", "keys"),
    [
        (put("a"), ("a",)),
        (put("a/"), ("a",)),
        (Describe(ObjectVersion("a", "e", 0), NONE), ("a",)),
        (Delete(lambda: "a", lambda: None), ("a",)),
        (RemoveMarker("d/e/"), ("d/e",)),
        (move("a", "b"), ("a", "b")),
        (MoveTree("a/", "b/c/"), ("a", "b/c")),
    ],
)
def test_keys(intent: Intent, keys: tuple[str, ...]) -> None:
    assert keys_of(intent) == keys


@pytest.mark.parametrize(
    ("one", "other", "waits"),
    [
        (put("a"), put("a"), True),
        (put("a"), put("b"), False),
        (put("a"), put("a/"), True),
        (put("a"), put("a/x"), False),
        (put("a"), put("ab"), False),
        (move("a", "b"), put("a"), True),
        (move("a", "b"), put("b"), True),
        (move("a", "b"), move("b", "c"), True),
        (move("a", "b"), move("c", "d"), False),
        (RemoveMarker("d/"), put("d/x"), False),
        (MoveTree("d/", "e/"), put("d/x"), True),
        (MoveTree("d/", "e/"), put("e/sub/x"), True),
        (MoveTree("d/", "e/"), put("d"), True),
        (MoveTree("d/", "e/"), put("d-x"), False),
        (MoveTree("d/", "e/"), put("dx/y"), False),
        (MoveTree("p/d/", "p/e/"), MoveTree("p/", "q/"), True),
        (MoveTree("p/d/", "p/e/"), MoveTree("p/f/", "p/g/"), False),
        (MoveTree("p/d/", "p/e/"), put("p/"), True),
        (MoveTree("d/", "e/"), move("x", "d/y"), True),
    ],
)
def test_who_waits_for_whom(one: Intent, other: Intent, waits: bool) -> None:
    assert must_wait(one, keys_of(one), other, keys_of(other)) == waits
    assert must_wait(other, keys_of(other), one, keys_of(one)) == waits
