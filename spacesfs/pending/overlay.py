"""The mount's own view: the intents, and what they make of files and directories. Never awaits, never asks."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.keyindex import KeyIndex


@dataclass(slots=True)
class _Directory:
    """What the intents say of one directory.

    ``files`` are names that have an intent of their own. ``below`` counts, for each sub-directory, the intents of its
    marker and of what is deeper down: how many shall be present, and how many there are.
    """

    files: set[str] = field(default_factory=set)
    below: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """What the intents add to a directory's names, and take away."""

    files: dict[str, Present]
    directories: frozenset[str]
    hidden_files: frozenset[str]
    hidden_directories: frozenset[str]


_NO_NAMES = Names({}, frozenset(), frozenset(), frozenset())


class Overlay:
    """Intents by key, with what must be known of them at once: by directory, and by the objects that they need.

    Changes and look-ups take as many steps as a key has segments.
    """

    def __init__(self) -> None:
        self._intents: dict[str, Intent] = {}
        self._directories: dict[str, _Directory] = {}
        self._dependents: KeyIndex[str] = KeyIndex()
        self._users: KeyIndex[int] = KeyIndex()

    def __len__(self) -> int:
        return len(self._intents)

    def __iter__(self) -> Iterator[Intent]:
        return iter(self._intents.values())

    def __contains__(self, key: str) -> bool:
        return key in self._intents

    def get(self, key: str) -> Intent | None:
        """Return what a key shall become, or None if the Space's word counts."""
        return self._intents.get(key)

    def present(self, key: str) -> Present | None:
        """Return what a key shall hold; None if nothing, or if there is no intent."""
        intent = self._intents.get(key)
        return intent.want if intent is not None and isinstance(intent.want, Present) else None

    def is_absent(self, key: str) -> bool:
        """Say whether a key shall hold nothing."""
        intent = self._intents.get(key)
        return intent is not None and isinstance(intent.want, Absent)

    def put(self, intent: Intent) -> None:
        """Add an intent, in place of the one that its key had."""
        self.remove(intent.key)
        self._intents[intent.key] = intent
        self._count(intent, 1)

    def remove(self, key: str) -> Intent | None:
        """Take the intent of a key away; return it."""
        intent = self._intents.pop(key, None)
        if intent is not None:
            self._count(intent, -1)
        return intent

    def merge(self, other: Overlay) -> None:
        """Add all intents of another overlay, which is used up; no key may have one in both.

        Takes steps by directory and not by key, but for a few in C.
        """
        self._intents.update(other._intents)
        for key, more in other._directories.items():
            directory = self._directories.setdefault(key, more)
            if directory is more:
                continue
            directory.files |= more.files
            for name, (present, every) in more.below.items():
                counts = directory.below.setdefault(name, [0, 0])
                counts[0] += present
                counts[1] += every
        self._dependents.merge(other._dependents)
        self._users.merge(other._users)

    # --- directories

    def shows_directory(self, key: str) -> bool | None:
        """Say whether intents make a directory be there (True), or be gone (False); None: they say nothing."""
        own = self._intents.get(key)
        if own is not None and isinstance(own.want, Present):
            return True
        present, _ = self._counts(key)
        if present:
            return True
        return False if own is not None else None

    def waits_below(self, key: str) -> bool:
        """Say whether keys under a directory, its marker aside, have intents."""
        _, every = self._counts(key)
        return every > (key in self._intents)

    def key_below(self, key: str) -> str | None:
        """Return some key under a directory, its marker aside, that has an intent."""
        directory = self._directories.get(key)
        if directory is None:
            return None
        for name in directory.files:
            return key + name
        for name in directory.below:
            child = f"{key}{name}/"
            return child if child in self._intents else self.key_below(child)
        return None

    def below(self, prefix: str) -> Iterator[Intent]:
        """Yield the intents of all keys that begin with a directory's key, the marker among them."""
        own = self._intents.get(prefix)
        if own is not None:
            yield own
        directory = self._directories.get(prefix)
        if directory is None:
            return
        for name in list(directory.files):
            yield self._intents[prefix + name]
        for name in list(directory.below):
            yield from self.below(f"{prefix}{name}/")

    def directories_below(self, prefix: str) -> set[str]:
        """Return the keys of the directories, from a prefix downwards, in which keys have intents."""
        return {key for key in self._directories if key.startswith(prefix)}

    def names(self, prefix: str) -> Names:
        """Return what the intents change in a directory."""
        directory = self._directories.get(prefix)
        if directory is None:
            return _NO_NAMES
        wants = {name: self._intents[prefix + name].want for name in directory.files}
        shown = {name: self.shows_directory(f"{prefix}{name}/") for name in directory.below}
        return Names(
            files={name: want for name, want in wants.items() if isinstance(want, Present)},
            directories=frozenset(name for name, is_shown in shown.items() if is_shown),
            hidden_files=frozenset(name for name, want in wants.items() if isinstance(want, Absent)),
            hidden_directories=frozenset(name for name, is_shown in shown.items() if is_shown is False),
        )

    # --- what needs what

    def dependents(self, key: str) -> AbstractSet[str]:
        """Return the other keys whose intents need the object that a key holds in the Space."""
        return self._dependents.get(key)

    @property
    def has_dependents(self) -> bool:
        """Say whether any key's intent needs the object of another."""
        return not self._dependents.is_empty

    def users(self, content: int) -> AbstractSet[str]:
        """Return the keys that shall hold a local content."""
        return self._users.get(content)

    def check_invariants(self) -> None:
        """Assert that the indexes say what the intents say."""
        again = Overlay()
        for intent in self:
            again.put(intent)
        assert again._directories == self._directories
        assert again._dependents.as_dict() == self._dependents.as_dict()
        assert again._users.as_dict() == self._users.as_dict()

    def _counts(self, key: str) -> tuple[int, int]:
        directory_key, name = _split(key)
        directory = self._directories.get(directory_key)
        if not key or directory is None:
            return 0, 0
        present, every = directory.below.get(name, (0, 0))
        return present, every

    def _count(self, intent: Intent, step: int) -> None:
        key, want = intent.key, intent.want
        present = step if isinstance(want, Present) else 0
        directory_key, name = _split(key)
        if key.endswith("/"):
            self._count_below(directory_key, name, present, step)
        elif step > 0:
            self._directory(directory_key).files.add(name)
        else:
            self._directory(directory_key).files.discard(name)
            self._tidy(directory_key)
        while directory_key:
            directory_key, name = _split(directory_key)
            self._count_below(directory_key, name, present, step)
        if isinstance(want, Present):
            if want.source is not None and want.source.key != key:
                self._dependents.note(want.source.key, key, step)
            if want.content is not None:
                self._users.note(want.content, key, step)

    def _count_below(self, directory_key: str, name: str, present: int, step: int) -> None:
        below = self._directory(directory_key).below
        counts = below.get(name)
        if counts is None:
            counts = below[name] = [0, 0]
        counts[0] += present
        counts[1] += step
        if not counts[1]:
            del below[name]
            self._tidy(directory_key)

    def _directory(self, key: str) -> _Directory:
        directory = self._directories.get(key)
        if directory is None:
            directory = self._directories[key] = _Directory()
        return directory

    def _tidy(self, key: str) -> None:
        directory = self._directories[key]
        if not directory.files and not directory.below:
            del self._directories[key]


def _split(key: str) -> tuple[str, str]:
    """Return the key of the directory that a file's or a directory's key lies in, and its name there."""
    at = key.rfind("/", 0, -1) + 1
    return key[:at], key[at:-1] if key.endswith("/") else key[at:]
