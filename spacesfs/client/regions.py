"""Which region a bucket is in: all are asked at once, as anybody could, and the answer is remembered.

A server says 404 to a stranger who asks for a bucket it does not have, and 403 for one that it has: so one request to
each region tells. Where there is a bucket of that name the key is tried, with HEAD of the bucket, which every key may
that may use it at all. Only what the key opens is remembered, and only as long as it does.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from pathlib import Path

import msgspec
import trio

from spacesfs.client.client import SpacesClient, check_bucket_name
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint
from spacesfs.client.errors import AccessDenied, NoSuchBucket, SpacesError
from spacesfs.client.transport import ClientOptions

log = logging.getLogger(__name__)

MAX_REMEMBERED = 1000  # buckets


class RegionUnknown(Exception):
    """Nobody can say where a bucket is; the message is one line, without what to do."""


class Presence(Enum):
    """What a region says of a bucket."""

    HERE = auto()
    CLOSED = auto()  # here, but not for who asked
    ABSENT = auto()
    SILENT = auto()  # no answer in time, or none that tells


class RegionMemory:
    """Where buckets were found, in a small file that only its owner can read; a hint, so nothing here ever fails."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, bucket: str) -> str | None:
        """Return the region where a bucket was found the last time, or None."""
        return self._read().get(bucket)

    def remember(self, bucket: str, region: str) -> None:
        """Note where a bucket was found; the oldest notes go when there are too many."""
        regions = {name: value for name, value in self._read().items() if name != bucket} | {bucket: region}
        self._save(bucket, dict(list(regions.items())[-MAX_REMEMBERED:]))

    def forget(self, bucket: str) -> None:
        """Drop the note about a bucket: it is not there any more, or not for this key."""
        regions = self._read()
        if regions.pop(bucket, None) is not None:
            self._save(bucket, regions)

    def _save(self, bucket: str, regions: Mapping[str, str]) -> None:
        try:
            self._write(msgspec.json.encode(regions))
        except OSError as error:
            log.warning("the region of %s can't be noted in %s: %s", bucket, self._path, error.strerror)

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError):
            return {}

    def _write(self, content: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(name, self._path)
        except OSError:
            os.unlink(name)
            raise


class RegionFinder:
    """Finds buckets among some endpoints. Any task may ask."""

    def __init__(self, endpoints: Mapping[str, Endpoint], options: ClientOptions, memory: RegionMemory) -> None:
        """Make a finder.

        Args:
            endpoints: Whom to ask, by region.
            options: How to ask; each region is asked once, within ``deadline_seconds``.
            memory: Where answers are kept.
        """
        self._endpoints = endpoints
        self._options = options
        self._memory = memory

    async def find(self, bucket: str, credentials: Credentials | None) -> Endpoint:
        """Return the endpoint of the region where a bucket is.

        Where it was the last time is believed if the key opens it there still, or if that region does not answer. Where
        only one region has a bucket of that name, and all answer, it is returned whether the key opens it or not.

        Raises:
            RegionUnknown: No region has it, or it can't be told which of several.
            InvalidRequest: No bucket can have this name.
        """
        check_bucket_name(bucket)
        remembered = self._memory.recall(bucket)
        if remembered is not None and remembered in self._endpoints:
            presence, _ = await self._ask(remembered, bucket, credentials)
            if presence in (Presence.HERE, Presence.SILENT):
                return self._endpoints[remembered]
            self._memory.forget(bucket)
        return self._endpoints[await self._search(bucket, credentials)]

    def last(self, bucket: str) -> Endpoint:
        """Return the endpoint of the region where a bucket was the last time, as far as this host knows.

        Raises:
            RegionUnknown: It does not.
        """
        remembered = self._memory.recall(bucket)
        if remembered is None or remembered not in self._endpoints:
            raise RegionUnknown(f"without a key it can't be told in which region bucket {bucket} is")
        return self._endpoints[remembered]

    async def _search(self, bucket: str, credentials: Credentials | None) -> str:
        said = await self._ask_all(self._endpoints, bucket, None)
        having = _regions(said, Presence.HERE, Presence.CLOSED)
        if not having:
            raise RegionUnknown(_nowhere(bucket, said))
        tried = await self._ask_all(having, bucket, credentials)
        opening = _regions(tried, Presence.HERE)
        if len(opening) == 1:
            self._memory.remember(bucket, opening[0])
            return opening[0]
        if len(having) == 1 and not _regions(said, Presence.SILENT):
            return having[0]  # whoever uses it hears why it is closed
        raise RegionUnknown(_undecided(bucket, having, opening, _regions(said | tried, Presence.SILENT)))

    async def _ask_all(
        self, regions: Iterable[str], bucket: str, credentials: Credentials | None
    ) -> dict[str, tuple[Presence, str]]:
        said: dict[str, tuple[Presence, str]] = {}

        async def ask(region: str) -> None:
            said[region] = await self._ask(region, bucket, credentials)

        async with trio.open_nursery() as nursery:
            for region in regions:
                nursery.start_soon(ask, region)
        return said

    async def _ask(self, region: str, bucket: str, credentials: Credentials | None) -> tuple[Presence, str]:
        """Return what a region says of a bucket, and why if it says nothing."""
        async with SpacesClient(self._endpoints[region], credentials, options=self._options) as client:
            asked = client.bucket(bucket)
            try:
                await asked.usage()
            except NoSuchBucket:
                return Presence.ABSENT, ""
            except AccessDenied:
                return Presence.CLOSED, ""
            except SpacesError as error:
                return Presence.SILENT, str(error)
            return Presence.HERE, ""


def _regions(said: Mapping[str, tuple[Presence, str]], *wanted: Presence) -> list[str]:
    return sorted(region for region, (presence, _) in said.items() if presence in wanted)


def _nowhere(bucket: str, said: Mapping[str, tuple[Presence, str]]) -> str:
    """Say in one line that no region has a bucket, and which did not answer."""
    silent = _regions(said, Presence.SILENT)
    if not silent:
        return f"no region of Spaces has a bucket {bucket}"
    if len(silent) == len(said):
        return f"no region of Spaces answers: {said[silent[0]][1]}"
    return f"no region that answers has a bucket {bucket}; no answer from {', '.join(silent)}"


def _undecided(bucket: str, having: list[str], opening: list[str], silent: list[str]) -> str:
    """Say in one line why none of the regions that have a bucket of that name is the one."""
    places = f"several regions have a bucket {bucket} ({', '.join(having)})"
    if opening:
        return f"{places}, and this key fits several of them"
    unheard = f"; no answer from {', '.join(silent)}" if silent else ""
    if len(having) == 1:
        return f"{having[0]} has a bucket {bucket}, which this key does not open{unheard}"
    return f"{places}, and this key fits none of them{unheard}"
