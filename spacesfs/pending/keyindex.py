"""Keys by what they belong to (pure). Most belong alone, and a set for each of them would be most of what they take."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

K = TypeVar("K", str, int)

_NOBODY: frozenset[str] = frozenset()


class KeyIndex(Generic[K]):
    """Sets of keys, none of them empty; one of a single key costs no more than its entry."""

    def __init__(self) -> None:
        self._keys: dict[K, str | set[str]] = {}

    @property
    def is_empty(self) -> bool:
        """Say whether there are no keys."""
        return not self._keys

    def as_dict(self) -> dict[K, AbstractSet[str]]:
        """Return all keys, by what they belong to."""
        return {at: self.get(at) for at in self._keys}

    def get(self, at: K) -> AbstractSet[str]:
        """Return the keys there."""
        return _as_set(self._keys.get(at))

    def pop(self, at: K) -> AbstractSet[str]:
        """Take the keys there away; return them."""
        return _as_set(self._keys.pop(at, None))

    def add(self, at: K, key: str) -> None:
        """Add a key; nothing if it is there."""
        found = self._keys.setdefault(at, key)
        if isinstance(found, set):
            found.add(key)
        elif found != key:
            self._keys[at] = {found, key}

    def discard(self, at: K, key: str) -> None:
        """Take a key away, if it is there."""
        found = self._keys.get(at)
        if isinstance(found, set):
            found.discard(key)
            if len(found) == 1:
                self._keys[at] = found.pop()
        elif found == key:
            del self._keys[at]

    def note(self, at: K, key: str, step: int) -> None:
        """Add a key with a step of 1, take it away with one of -1."""
        if step > 0:
            self.add(at, key)
        else:
            self.discard(at, key)

    def merge(self, other: KeyIndex[K]) -> None:
        """Add all of another index, which is used up."""
        for at in self._keys.keys() & other._keys.keys():
            for key in other.pop(at):
                self.add(at, key)
        self._keys.update(other._keys)


def _as_set(found: str | set[str] | None) -> AbstractSet[str]:
    if found is None:
        return _NOBODY
    return {found} if isinstance(found, str) else found
