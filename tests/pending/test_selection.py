"""What is meant by paths, and what must go with it."""

from __future__ import annotations

import pytest

from spacesfs.client.models import ObjectVersion
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.selection import is_within, selected

OLD = ObjectVersion("old", "etag", 5)


def overlay_of(*intents: Intent) -> Overlay:
    overlay = Overlay()
    for intent in intents:
        overlay.put(intent)
    return overlay


def intent(key: str, want: Present | Absent, base: ObjectVersion | None = None) -> Intent:
    return Intent(key, 1, want, base, 0.0)


@pytest.mark.parametrize(
    ("key", "path", "is_so"),
    [
        ("a", "", True),
        ("a", "a", True),
        ("a/", "a", True),
        ("a/", "a/", True),
        ("a/b", "a", True),
        ("ab", "a", False),
        ("a", "a/b", False),
    ],
)
def test_within(key: str, path: str, is_so: bool) -> None:
    assert is_within(key, path) is is_so


def test_a_rename_goes_as_a_whole() -> None:
    """Dropped under its new name only, the old object would be deleted and nothing would have its bytes."""
    overlay = overlay_of(
        intent("new", Present(5, source=OLD)), intent("old", Absent(), OLD), intent("other", Absent(), None)
    )
    assert {found.key for found in selected(overlay, ["new"])} == {"new", "old"}
    assert {found.key for found in selected(overlay, ["old"])} == {"old"}  # then both are there
    assert {found.key for found in selected(overlay, [""])} == {"new", "old", "other"}


def test_what_was_written_under_the_old_name_stays() -> None:
    overlay = overlay_of(intent("new", Present(5, source=OLD)), intent("old", Present(7, content=3), OLD))
    assert {found.key for found in selected(overlay, ["new"])} == {"new"}
