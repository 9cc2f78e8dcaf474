"""Deleting many objects with few requests, and none that another host has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import DeleteFailure
from spacesfs.errors import Conflict
from spacesfs.pending.intents import Intent
from spacesfs.pending.looks import Looks

_KEYS_A_TURN = 100  # whose removal is noted before other tasks have their turn: a few milliseconds


class RemovalStore(Protocol):
    """What is needed of a bucket here."""

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there counts as deleted."""

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Delete objects."""


class Removals:
    """Carries out intents to hold nothing. The version is looked at just before: DELETE knows no conditions."""

    def __init__(
        self,
        store: RemovalStore,
        looks: Looks,
        confirm: Callable[[Intent, None], None],
        overtaken: Callable[[Intent], None],
        lost: Callable[[Intent, str], None],
    ) -> None:
        self._store = store
        self._looks = looks
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
        now = await self._looks.etags([intent.key for intent in asked]) if asked else {}
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
        for number, (key, intent) in enumerate(doomed.items(), 1):
            if key not in failed:
                self._confirm(intent, None)
            if not number % _KEYS_A_TURN:
                await trio.lowlevel.checkpoint()
        if failures:
            first = failures[0]
            message = f"{len(failures)} of {len(doomed)} objects could not be deleted: {first.message or first.code}"
            raise SpacesError(message, code=first.code, key=first.key)
