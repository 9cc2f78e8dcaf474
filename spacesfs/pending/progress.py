"""How far long work is: files that go up in parts, and directories that get another name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from spacesfs.pending.intents import Intent, Present, kind_of
from spacesfs.tasks import give_way

_MOST_MOVES = 64  # directories whose beginnings are remembered; of others only what is left is known
_LEAST_SECONDS = 0.5  # before that a rate says nothing


@dataclass(frozen=True, slots=True)
class Progress:
    """One piece of long work.

    Attributes:
        key: Of the object that goes up, or the directory that is left.
        new_key: The directory's new name; None for an upload.
        done, total: Bytes of an upload, objects of a directory; ``bytes_left`` counts bytes for both.
        a_second: How many of those were done in a second since it began here; None while that says nothing.
    """

    key: str
    new_key: str | None
    done: int
    total: int
    bytes_left: int
    a_second: float | None

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at this rate, or None if nobody knows."""
        return (self.total - self.done) / self.a_second if self.a_second else None


def rate(done: int, began: float) -> float | None:
    """Return how many a second were done since ``began``, in seconds of trio's clock."""
    seconds = trio.current_time() - began
    return done / seconds if seconds >= _LEAST_SECONDS else None


@dataclass(frozen=True, slots=True)
class _Begun:
    objects: int
    since: float


class Moves:
    """Remembers when directories got other names, so that what is left of them tells how fast it goes."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, str], _Begun] = {}

    def begin(self, key: str, new_key: str, objects: int) -> None:
        """So many objects get other names; ``key`` and ``new_key`` are those of one of them."""
        folders = _folders(key, new_key)
        if folders is not None:
            self._begun.pop(folders, None)
            self._begun[folders] = _Begun(objects, trio.current_time())
            if len(self._begun) > _MOST_MOVES:
                del self._begun[next(iter(self._begun))]

    async def under_way(self, intents: Sequence[Intent]) -> list[Progress]:
        """Return how far each directory is of which more than one object is still to be copied; looks in turns."""
        known = list(self._begun)  # what begins meanwhile is not among the intents
        left: dict[tuple[str, str], list[int]] = {}
        for number, intent in enumerate(intents, 1):
            await give_way(number)
            want = intent.want
            if isinstance(want, Present) and want.source is not None and kind_of(intent) == "rename":
                folders = _folders(want.source.key, intent.key)
                if folders is not None:
                    left.setdefault(folders, []).append(want.size)
        for folders in known:
            if folders not in left:
                self._begun.pop(folders, None)
        found = []
        for folders, sizes in left.items():
            begun = self._begun.get(folders)
            if begun is None and len(sizes) == 1:
                continue  # a single file, and no directory
            total = max(begun.objects if begun is not None else 0, len(sizes))
            done = total - len(sizes)
            a_second = rate(done, begun.since) if begun is not None else None
            found.append(Progress(*folders, done, total, sum(sizes), a_second))
        return found


def _folders(key: str, new_key: str) -> tuple[str, str] | None:
    """Return which directory got which name, if a key became another by that; None if its last part changed."""
    old, new = key.split("/"), new_key.split("/")
    is_inside = False
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old.pop()
        new.pop()
        is_inside = True
    return ("/".join(old), "/".join(new)) if is_inside else None
