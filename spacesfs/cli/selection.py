"""From a place in a Space to the objects and folders that are there: exact names, globs, and what lies below.

``*``, ``?`` and ``[...]`` match within one level, as in a shell. An object whose name really holds such characters is
found first.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase

import click

from spacesfs.cli.places import SpacePlace
from spacesfs.client.client import Bucket
from spacesfs.client.models import ListedObject

_MAGIC = re.compile(r"[*?\[]")


class Nothing(click.ClickException):
    """What was named is not there."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object, or a folder where ``entry`` is None; ``key`` then ends in ``/``, or is empty for the whole bucket."""

    key: str
    entry: ListedObject | None = None

    @property
    def name(self) -> str:
        """Its last part."""
        return self.key.rstrip("/").rpartition("/")[2]


async def select(bucket: Bucket, place: SpacePlace) -> list[Found]:
    """Return what a place names: one object or folder, or for a glob all that match, in order.

    Raises:
        Nothing: There is no such thing.
    """
    found = await _exactly(bucket, place.key)
    if found is None and _MAGIC.search(place.key):
        matching = await _matching(bucket, place.key)
        if matching:
            return matching
        raise Nothing(f"{place}: nothing matches")
    if found is None:
        raise Nothing(f"{place}: no such object or folder")
    return [found]


async def objects_below(bucket: Bucket, folder: str) -> AsyncGenerator[ListedObject, None]:
    """Return all objects whose keys begin with a folder's, at any depth."""
    async with aclosing(bucket.list(folder)) as pages:
        async for page in pages:
            for entry in page.objects:
                yield entry


async def _exactly(bucket: Bucket, key: str) -> Found | None:
    """Look for an object of this very key, then for a folder; the bucket itself is there even if it is empty."""
    if key and not key.endswith("/"):
        page = await bucket.list_page(key, max_keys=1)  # of all that begin so it is the first
        if page.objects and page.objects[0].key == key:
            return Found(key, page.objects[0])
        key += "/"
    page = await bucket.list_page(key, max_keys=1)
    return Found(key) if page.objects or not key else None


async def _matching(bucket: Bucket, pattern: str) -> list[Found]:
    """Walk down level by level; only levels with a pattern are listed."""
    is_folder = pattern.endswith("/")
    *levels, last = pattern.rstrip("/").split("/")
    folders = [""]
    for level in levels:
        if _MAGIC.search(level):
            folders = [f.key for folder in folders for f in await _level(bucket, folder, level) if f.entry is None]
        else:
            folders = [f"{folder}{level}/" for folder in folders]
    found = [entry for folder in folders for entry in await _level(bucket, folder, last)]
    return [entry for entry in found if entry.entry is None] if is_folder else found


async def _level(bucket: Bucket, folder: str, pattern: str) -> list[Found]:
    """Return what matches in one folder, in order."""
    literal = _MAGIC.split(pattern, maxsplit=1)[0]
    found: list[Found] = []
    async with aclosing(bucket.list(folder + literal, delimiter="/")) as pages:
        async for page in pages:
            found += [Found(entry.key, entry) for entry in page.objects]
            found += [Found(prefix) for prefix in page.prefixes]
    return sorted(
        (f for f in found if fnmatchcase(f.key.removeprefix(folder).rstrip("/"), pattern)), key=lambda f: f.key
    )
