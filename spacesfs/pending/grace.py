"""How long a change waits for later ones that would make it needless (pure).

A temporary file is renamed, given a mode and times by the program that wrote it, right after it was closed. So a
program that goes on to its next file has done with the last one; and one that never came back to its files, or always
at once, will hardly do otherwise with the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from cachetools import LRUCache

GRACE_SECONDS = 1.0
_SHORTEST_SECONDS = 0.05  # covers a rename that comes right after close, on a busy machine
_ENOUGH_FILES = 3  # before a habit counts
_MARGIN = 4.0  # times the longest a program took so far
_REMEMBERED_PROGRAMS = 1000


@dataclass(slots=True)
class _Habit:
    files: int = 0
    longest_seconds: float = 0.0
    key: str = ""
    closed_at: float = 0.0
    touched_at: float = 0.0


class Habits:
    """Watches what each thread of a program (by its id) does with a file after closing it. Times are any clock's."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._habits: LRUCache[int, _Habit] = LRUCache(_REMEMBERED_PROGRAMS)

    def goes_on(self, thread: int) -> str | None:
        """A program begins to write another file; return the key that it has done with, if there is one."""
        habit = self._habits.get(thread)
        if habit is None or not habit.key:
            return None
        habit.files += 1
        habit.longest_seconds = max(habit.longest_seconds, habit.touched_at - habit.closed_at)
        key, habit.key = habit.key, ""
        return key

    def closes(self, thread: int, key: str, now: float) -> float:
        """A program closed a file that it wrote; return how long to wait for what it may still do, in seconds."""
        habit = self._habits.setdefault(thread, _Habit())
        habit.key, habit.closed_at, habit.touched_at = key, now, now
        return self.grace(thread)

    def touches(self, thread: int, key: str, new_key: str, now: float) -> float:
        """A program changed or renamed a file; return how long to wait for more."""
        habit = self._habits.get(thread)
        if habit is not None and habit.key == key:
            habit.key, habit.touched_at = new_key, now
        return self.grace(thread)

    def grace(self, thread: int) -> float:
        """Return how long to wait after a program's last change, in seconds."""
        habit = self._habits.get(thread)
        if habit is None or habit.files < _ENOUGH_FILES:
            return self._grace_seconds
        return min(self._grace_seconds, max(_SHORTEST_SECONDS, _MARGIN * habit.longest_seconds))
