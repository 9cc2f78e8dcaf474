"""Many objects get other names at once: what each key shall become, readied piece by piece while nobody sees it yet."""

from __future__ import annotations

from spacesfs.client.models import ObjectVersion
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay

_ABSENT = Absent()


class TreeMove:
    """The intents that a directory's objects need to be below another key, in an overlay of their own.

    They hold for objects that no intent is about, on either side. Whoever joins them with those of the mount takes the
    others out before (`drop`), without an await in between.

    Args:
        prefix: The directory's key.
        new_prefix: What it is to be.
        order: Of all these intents; they are one change.
        since: When it is made, in seconds since the epoch.
    """

    def __init__(self, prefix: str, new_prefix: str, order: int, since: float) -> None:
        self.prefix = prefix
        self.new_prefix = new_prefix
        self.overlay = Overlay()
        self._order = order
        self._since = since

    def add(self, version: ObjectVersion, replaces: ObjectVersion | None = None) -> None:
        """Move an object that lies in the directory, or its marker; ``replaces`` is what the Space holds there."""
        key, new_key = version.key, self.new_key(version.key)
        wanted = Present(version.size, source=version)
        self.overlay.put(Intent(new_key, self._order, wanted, replaces, self._since))
        self.overlay.put(Intent(key, self._order, _ABSENT, version, self._since))

    def drop(self, key: str) -> ObjectVersion | None:
        """Leave out an object, by the key that it has; return its version, None if it was not in here."""
        gone = self.overlay.remove(key)
        if gone is None:
            return None
        self.overlay.remove(self.new_key(key))
        return gone.base

    def old_key(self, new_key: str) -> str:
        """Return the key that an object is to leave."""
        return self.prefix + new_key[len(self.new_prefix) :]

    def new_key(self, key: str) -> str:
        """Return the key that an object is to get."""
        return self.new_prefix + key[len(self.prefix) :]

    def directories(self) -> set[str]:
        """Return the keys of the directories that objects leave and that have no marker among these."""
        return {key for key in self.overlay.directories_below(self.prefix) if key not in self.overlay}
