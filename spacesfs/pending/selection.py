"""Which intents people mean when they name paths, and which must go together. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay


def is_within(key: str, path: str) -> bool:
    """Say whether a key is a path's or lies below it; the empty path has all."""
    path = path.rstrip("/")
    return not path or key == path or key.startswith(f"{path}/")


def selected(overlay: Overlay, paths: Iterable[str]) -> list[Intent]:
    """Return the intents at and below paths, and those that can't stay without them.

    A rename that is dropped under the new name is dropped under the old one, too: the object there would be deleted,
    and nothing would have its bytes.
    """
    wanted = list(paths)
    keys = {intent.key for intent in overlay if any(is_within(intent.key, path) for path in wanted)}
    found = [intent for intent in overlay if intent.key in keys]
    for intent in found.copy():
        source = intent.want.source if isinstance(intent.want, Present) else None
        old = overlay.get(source.key) if source is not None else None
        if old is not None and old.key not in keys and isinstance(old.want, Absent) and old.base == source:
            keys.add(old.key)
            found.append(old)
    return found
