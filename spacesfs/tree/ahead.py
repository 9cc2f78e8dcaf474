"""Descriptions ahead of who asks: programs stat a directory's files one after another, in the order of its names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio
from cachetools import LRUCache

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ListedObject

MAX_AHEAD = 64  # files; the client sends 16 requests at a time, so that they never run dry
_FIRST_AHEAD = 4
_ORDERLY = 8  # names between two that may still be in order: some are known already, and not asked for
_DIRECTORIES = 64

Spawn = Callable[[Callable[[], Awaitable[None]]], None]


@dataclass(slots=True)
class _Directory:
    """How far one directory was asked about, and how far ahead of that."""

    objects: Mapping[str, ListedObject]
    names: list[str]
    last: int = -1
    ahead: int = 0
    reached: int = 0


@dataclass(slots=True)
class Ahead:
    """Owns what is being asked for in the background.

    ``describe`` asks the Space for one object and remembers the answer; ``is_known`` says whether that is needed.
    """

    describe: Callable[[ListedObject], Awaitable[None]]
    is_known: Callable[[ListedObject], bool]
    spawn: Spawn
    _directories: LRUCache[str, _Directory] = field(default_factory=lambda: LRUCache(_DIRECTORIES))
    _arriving: dict[str, trio.Event] = field(default_factory=dict)

    async def arrival(self, key: str) -> None:
        """Wait while an object is being asked for."""
        arriving = self._arriving.get(key)
        if arriving is not None:
            await arriving.wait()

    def note(self, prefix: str, name: str, objects: Mapping[str, ListedObject]) -> None:
        """The Space is asked for a file; ``objects`` is the same mapping as long as it is the same listing's."""
        directory = self._directories.get(prefix)
        if directory is None or directory.objects is not objects:
            directory = self._directories[prefix] = _Directory(objects, sorted(objects))
        elif len(directory.names) != len(objects):  # it is still coming, or was changed
            directory.names = sorted(objects)
            directory.reached = directory.last + 1
        index = bisect_left(directory.names, name)
        is_in_order = directory.last >= 0 and 0 < index - directory.last <= _ORDERLY
        directory.ahead = min(max(directory.ahead * 2, _FIRST_AHEAD), MAX_AHEAD) if is_in_order else 0
        directory.last = index
        self._go_on(directory)

    def follow(self, prefix: str, name: str, objects: Mapping[str, ListedObject]) -> None:
        """As `note`, of a file that was known, through this or otherwise: the distance stays."""
        directory = self._directories.get(prefix)
        if directory is not None and directory.objects is objects and directory.ahead:
            if directory.last + directory.ahead >= len(directory.names) < len(objects):
                self.note(prefix, name, objects)
                return
            index = bisect_left(directory.names, name)
            if 0 < index - directory.last <= _ORDERLY:
                directory.ahead = min(directory.ahead * 2, MAX_AHEAD)
                directory.last = index
                self._go_on(directory)

    def _go_on(self, directory: _Directory) -> None:
        end = min(directory.last + 1 + directory.ahead, len(directory.names))
        for index in range(max(directory.reached, directory.last + 1), end):
            listed = directory.objects.get(directory.names[index])
            if listed is not None and listed.key not in self._arriving and not self.is_known(listed):
                self._arriving[listed.key] = trio.Event()
                self.spawn(partial(self._ask, listed))
        directory.reached = max(directory.reached, end)

    async def _ask(self, listed: ListedObject) -> None:
        try:
            with suppress(SpacesError):  # whoever needs it will hear of it
                await self.describe(listed)
        finally:
            self._arriving.pop(listed.key).set()
