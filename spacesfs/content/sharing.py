"""Who reads at present, and so how much memory each of them may count on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from spacesfs.client.models import ObjectVersion

_BUSY_SECONDS = 5.0  # a reader that read within this time takes its share; one that rests does not
_COUNT_SECONDS = 0.25  # how old the count may be: it is asked for with every read


class Reader(Protocol):
    """Somebody who reads on in a file."""

    @property
    def window_bytes(self) -> int:
        """How far ahead it fetches."""


@dataclass(slots=True)
class _Seen:
    """What a reader read last, and when."""

    version: ObjectVersion
    at: float


class Readers:
    """Owns the list of those who read, from their first read until they leave. Sync only."""

    def __init__(self) -> None:
        self._seen: dict[Reader, _Seen] = {}
        self._busy = 0
        self._counted_at = 0.0

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, reader: Reader, version: ObjectVersion) -> None:
        """A reader is at work."""
        seen = self._seen.get(reader)
        if seen is None:
            self._seen[reader] = _Seen(version, trio.current_time())
            self._busy += 1
        else:
            seen.version, seen.at = version, trio.current_time()

    def leave(self, reader: Reader) -> ObjectVersion | None:
        """A reader reads no more; return the version that nobody reads now, if it was the last one there."""
        seen = self._seen.pop(reader, None)
        if seen is None:
            return None
        if self._counted_at - seen.at <= _BUSY_SECONDS:  # it was counted; of files read one by one the last has it all
            self._busy -= 1
        return None if any(other.version == seen.version for other in self._seen.values()) else seen.version

    def share(self, size: int) -> int:
        """Return what each reader may have of so many bytes."""
        now = trio.current_time()
        if now - self._counted_at > _COUNT_SECONDS:
            self._counted_at = now
            self._busy = sum(now - seen.at <= _BUSY_SECONDS for seen in self._seen.values())
        return size // max(self._busy, 1)  # one that rested and read again is not counted yet

    @property
    def window_bytes(self) -> int:
        """How far the one fetches ahead that does so furthest."""
        return max((reader.window_bytes for reader in self._seen), default=0)
