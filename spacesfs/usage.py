"""How full the Space is, for ``df``: asked for in the background, never by the call that wants to know."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import trio

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import BucketUsage

log = logging.getLogger(__name__)

_ROOM_BYTES = 1 << 50  # a Space has no size; one petabyte lets every program believe that its file fits
_ROOM_FILES = 100_000_000  # DigitalOcean, Spaces limits: objects in a bucket
_RENEW_SECONDS = 60.0


class UsageStore(Protocol):
    """What is needed of a bucket here."""

    async def usage(self) -> BucketUsage:
        """Ask how full the bucket is."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What ``df`` shows: bytes and files that there are room for in all, and that are used."""

    total_bytes: int
    used_bytes: int
    total_files: int
    used_files: int


class Usage:
    """The usage last heard of. Whoever asks gets that at once, and makes it be renewed if it is old."""

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._known = BucketUsage(None, None)
        self._asked = trio.Event()

    def capacity(self) -> Capacity:
        """Return the capacity as far as is known: without a quota of the bucket's own there is always room."""
        self._asked.set()
        known = self._known
        used_bytes, used_files = known.bytes_used or 0, known.object_count or 0
        return Capacity(
            total_bytes=max(known.quota_bytes or used_bytes + _ROOM_BYTES, used_bytes),
            used_bytes=used_bytes,
            total_files=max(known.quota_objects or used_files + _ROOM_FILES, used_files),
            used_files=used_files,
        )

    async def keep(self) -> None:
        """Renew what is known once it was asked for, at most once a minute; never returns."""
        while True:
            try:
                self._known = await self._store.usage()
            except SpacesError as error:
                log.info("how full the Space is can't be learned: %s", error)
            await trio.sleep(_RENEW_SECONDS)
            self._asked = trio.Event()
            await self._asked.wait()
