"""Descriptions ahead of who asks: programs stat a directory's entries one after another, in the order of its names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import trio
from cachetools import LRUCache

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ListedObject

MAX_AHEAD = 64  # names; the client sends 16 requests at a time, so that they never run dry
_FIRST_AHEAD = 4
_ORDERLY = 8  # names between two that may still be in order: some are known already, and not asked for
_DIRECTORIES = 64

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
N = TypeVar("N", bound=Collection[str])


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask the Space: about a key, of which a listing may have shown something.

    ``tells_more`` if the answer may tell of the names after it as well, so that those can wait.
    """

    key: str
    listed: ListedObject | None
    tells_more: bool = False


@dataclass(slots=True)
class _Directory(Generic[N]):
    """How far one directory was asked about, and how far ahead of that."""

    within: N
    names: list[str]
    last: int = -1
    ahead: int = 0
    reached: int = 0


@dataclass(slots=True)
class Ahead(Generic[N]):
    """Owns what is being asked for in the background.

    ``question`` is what there is to ask about a name of a directory, None for nothing; ``ask`` asks and remembers the
    answer. The names of a directory, ``within``, are the same collection as long as it is the same listing's.
    """

    question: Callable[[str, str, N], Question | None]
    ask: Callable[[Question], Awaitable[None]]
    spawn: Spawn
    _directories: LRUCache[str, _Directory[N]] = field(default_factory=lambda: LRUCache(_DIRECTORIES))
    _arriving: dict[str, trio.Event] = field(default_factory=dict)

    async def arrival(self, key: str) -> None:
        """Wait while a key is being asked about."""
        arriving = self._arriving.get(key)
        if arriving is not None:
            await arriving.wait()

    def note(self, prefix: str, name: str, within: N) -> None:
        """The Space is asked about a name."""
        directory = self._directories.get(prefix)
        if directory is None or directory.within is not within:
            directory = self._directories[prefix] = _Directory(within, sorted(within))
        elif len(directory.names) != len(within):  # it is still coming, or was changed
            directory.names = sorted(within)
            directory.reached = directory.last + 1
        index = bisect_left(directory.names, name)
        is_in_order = directory.last >= 0 and 0 < index - directory.last <= _ORDERLY
        directory.ahead = min(max(directory.ahead * 2, _FIRST_AHEAD), MAX_AHEAD) if is_in_order else 0
        directory.last = index
        self._go_on(prefix, directory)

    def follow(self, prefix: str, name: str, within: N) -> None:
        """As `note`, of a name that was known, through this or otherwise: the distance stays."""
        directory = self._directories.get(prefix)
        if directory is not None and directory.within is within and directory.ahead:
            if directory.last + directory.ahead >= len(directory.names) < len(within):
                self.note(prefix, name, within)
                return
            index = bisect_left(directory.names, name)
            if 0 < index - directory.last <= _ORDERLY:
                directory.ahead = min(directory.ahead * 2, MAX_AHEAD)
                directory.last = index
                self._go_on(prefix, directory)

    def _go_on(self, prefix: str, directory: _Directory[N]) -> None:
        end = min(directory.last + 1 + directory.ahead, len(directory.names))
        for index in range(max(directory.reached, directory.last + 1), end):
            question = self.question(prefix, directory.names[index], directory.within)
            if question is not None and question.key not in self._arriving:
                self._arriving[question.key] = trio.Event()
                self.spawn(partial(self._ask, question))
            directory.reached = index + 1
            if question is not None and question.tells_more:
                break

    async def _ask(self, question: Question) -> None:
        try:
            with suppress(SpacesError):  # whoever needs it will hear of it
                await self.ask(question)
        finally:
            self._arriving.pop(question.key).set()
