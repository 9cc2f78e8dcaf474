"""What must come first: earlier changes of a key, copies before their sources go, what is below a directory."""

from __future__ import annotations

from typing import Protocol

from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay


class Holder(Protocol):
    """Who knows what programs and uploads hold on to."""

    def is_held(self, intent: Intent) -> bool:
        """Say whether a program still writes to the file, or reads what would go."""

    def goes_first(self, intent: Intent) -> str | None:
        """Return the key of another change that has something under way where this one is to remove an object."""


class Order:
    """The changes in flight, and for each other one what stands in its way.

    Invariant: a key, and a directory of the same name, have at most one change in flight.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._busy: set[str] = set()
        self._busy_contents: dict[int, str] = {}

    def begin(self, intent: Intent) -> None:
        """A change is in flight from now on."""
        self._busy.add(chain(intent.key))
        if isinstance(intent.want, Present) and intent.want.content is not None:
            self._busy_contents[intent.want.content] = intent.key

    def end(self, intent: Intent) -> None:
        """A change is not in flight any more."""
        self._busy.discard(chain(intent.key))
        if isinstance(intent.want, Present) and intent.want.content is not None:
            self._busy_contents.pop(intent.want.content, None)

    def is_busy(self, key: str) -> bool:
        """Say whether a change of a key is in flight."""
        return chain(key) in self._busy

    def blocker(self, holder: Holder, intent: Intent) -> str | None:
        """Return a key whose change must be made, or whose attempt must end, before this one."""
        key, want = intent.key, intent.want
        if chain(key) in self._busy:
            return key
        twin = self._overlay.get(_twin(key))
        if twin is not None and twin.order < intent.order and not holder.is_held(twin):
            return twin.key
        dependents = self._overlay.dependents(key)
        if dependents:
            return min(dependents)
        if isinstance(want, Absent):
            return self._overlay.key_below(key) if key.endswith("/") else holder.goes_first(intent)
        if want.content is not None and want.content in self._busy_contents:
            return self._busy_contents[want.content]
        return self._source_blocker(key, want)

    def _source_blocker(self, key: str, want: Present) -> str | None:
        """Return the key of an object that is needed and not there yet, or just being changed."""
        source = want.source
        if source is None or source.key == key:
            return None
        if chain(source.key) in self._busy:
            return source.key
        other = self._overlay.get(source.key)
        is_there = other is None or (other.base is not None and other.base.etag == source.etag)
        return None if is_there else source.key

    def is_ring(self, holder: Holder, key: str, blocker: str) -> bool:
        """Say whether the change of a key waits, by way of others, for itself."""
        seen: set[str] = set()
        at: str | None = blocker
        while at is not None and at != key and at not in seen and not self.is_busy(at):
            seen.add(at)
            intent = self._overlay.get(at)
            at = self.blocker(holder, intent) if intent is not None else None
        return at == key and not self.is_busy(key)


def chain(key: str) -> str:
    """Return what a file and a directory of one name share."""
    return key.removesuffix("/")


def _twin(key: str) -> str:
    """Return the key of the directory that has a file's name, or the other way round."""
    if not key.endswith("/"):
        return key + "/"
    return "" if key.endswith("//") else key[:-1]  # a directory without a name, whose twin would be the one above
