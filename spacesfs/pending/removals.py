"""Deleting many objects with few requests, and none that another host has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, SpacesError
from spacesfs.client.models import DeleteFailure, ListPage, ObjectInfo
from spacesfs.errors import Conflict
from spacesfs.pending.intents import Intent
from spacesfs.tasks import open_team

_WORTH_LISTING = 4  # keys in one directory: from here on one listing is cheaper than asking for each
_PARALLEL_HEADS = 16


class RemovalStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there counts as deleted."""

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Delete objects."""

    async def list_page(
        self, prefix: str, *, delimiter: str | None = None, start_after: str | None = None, resume: str | None = None
    ) -> ListPage:
        """Return one page of a listing."""


class Removals:
    """Carries out intents to hold nothing. The version is looked at just before: DELETE knows no conditions."""

    def __init__(
        self,
        store: RemovalStore,
        confirm: Callable[[Intent, None], None],
        overtaken: Callable[[Intent], None],
        lost: Callable[[Intent, str], None],
    ) -> None:
        self._store = store
        self._confirm = confirm
        self._overtaken = overtaken
        self._lost = lost

    async def remove(self, intents: list[Intent]) -> None:
        """Delete what intents want gone, if it is still what they know.

        Raises:
            Conflict: The only one was changed by another host.
            SpacesError: Not all could be deleted; the others were.
        """
        asked = [intent for intent in intents if intent.base is not None or intent.attempts]
        now = await self._versions([intent.key for intent in asked]) if asked else {}
        doomed: dict[str, Intent] = {}
        overtaken = 0
        for intent in intents:
            etag = now.get(intent.key)
            if etag is None:
                self._confirm(intent, None)
            elif etag in intent.attempts or (intent.base is not None and etag == intent.base.etag):
                doomed[intent.key] = intent
            else:
                overtaken += 1
                self._overtaken(intent)
                self._lost(intent, "another host changed it, so it was not removed")
        await self._delete(doomed)
        if overtaken == len(intents):
            raise Conflict

    async def _delete(self, doomed: dict[str, Intent]) -> None:
        failures: list[DeleteFailure] = []
        if len(doomed) == 1:
            await self._store.delete(next(iter(doomed)))
        elif doomed:
            failures = await self._store.delete_many(list(doomed))
        failed = {failure.key for failure in failures}
        for key, intent in doomed.items():
            if key not in failed:
                self._confirm(intent, None)
        if failures:
            first = failures[0]
            message = f"{len(failures)} of {len(doomed)} objects could not be deleted: {first.message or first.code}"
            raise SpacesError(message, code=first.code, key=first.key)

    async def _versions(self, keys: list[str]) -> dict[str, str]:
        """Return the ETags of those keys that hold an object."""
        found: dict[str, str] = {}
        by_directory: defaultdict[str, list[str]] = defaultdict(list)
        for key in sorted(keys):
            by_directory[key[: key.removesuffix("/").rfind("/") + 1]].append(key)
        single: list[str] = []
        for directory, inside in by_directory.items():
            files = [key for key in inside if not key.endswith("/")]
            single += [key for key in inside if key.endswith("/")]
            if len(files) >= _WORTH_LISTING:
                single += await self._list(directory, files, found)
            else:
                single += files
        await self._ask(single, found)
        return found

    async def _list(self, directory: str, keys: list[str], found: dict[str, str]) -> list[str]:
        """Find the versions of keys of one directory by listing it; return those that would take too many requests."""
        wanted = set(keys)
        resume: str | None = None
        after = keys[0][:-1]  # the listing begins after a name, so after one that sorts just before the first
        for _ in range(len(keys) // _WORTH_LISTING + 1):
            page = await self._store.list_page(directory, delimiter="/", start_after=after, resume=resume)
            found.update((listed.key, listed.etag) for listed in page.objects if listed.key in wanted)
            resume = page.resume
            if resume is None or (page.objects and page.objects[-1].key >= keys[-1]):
                return []
        last = max((key for key in found if key in wanted), default="")
        return [key for key in keys if key > last]

    async def _ask(self, keys: list[str], found: dict[str, str]) -> None:
        limit = trio.CapacityLimiter(_PARALLEL_HEADS)

        async def ask(key: str) -> None:
            async with limit:
                try:
                    found[key] = (await self._store.head(key)).etag
                except NoSuchKey:
                    return

        async with open_team() as team:
            for key in keys:
                team.start_soon(ask, key)
