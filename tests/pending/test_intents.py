"""What is done to a key, in a word."""

from __future__ import annotations

import pytest

from spacesfs.client.models import ObjectVersion
from spacesfs.pending.intents import Absent, Intent, Present, Want, kind_of

OWN, OTHER = ObjectVersion("a", "e", 1), ObjectVersion("b", "e", 1)


@pytest.mark.parametrize(
    ("key", "want", "kind"),
    [
        ("a", Absent(), "unlink"),
        ("a/", Absent(), "rmdir"),
        ("a", Present(1, content=1), "write"),
        ("a", Present(1, content=1, source=OTHER), "write"),
        ("a/", Present(0, content=1), "mkdir"),
        ("a", Present(1, source=OWN), "change"),
        ("a", Present(1, source=OTHER), "rename"),
    ],
)
def test_kinds(key: str, want: Want, kind: str) -> None:
    assert kind_of(Intent(key, 1, want, None, 0.0)) == kind
