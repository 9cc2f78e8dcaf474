"""Storing an object only over the version that is expected, as exactly as the server lets us.

Whether a bucket honours conditions is learned from its own answers and remembered: a PUT with ``If-None-Match: *`` over
a key that is known to be taken is refused by one that does, and is just a PUT for one that does not. The first small
object that is stored is sent again in that way, so that the next ones need one request each. Until that is known, and
where conditions don't count (a versioned bucket), the key is looked at just before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import Protocol

from spacesfs.client.errors import NoSuchKey, PreconditionFailed, SpacesError
from spacesfs.client.models import ObjectInfo, ObjectProperties
from spacesfs.errors import Conflict

log = logging.getLogger(__name__)

_FACT = "honours-conditions"
_QUESTION_BYTES = 64 << 10
"""Of an object that may be sent twice to learn what the bucket does: what one round trip takes along for nothing."""
_PROOFS = 2
"""That conditions don't count: one alone may be the doing of another host, or of an earlier request of ours."""


class PutStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def put(
        self,
        key: str,
        body: bytes | bytearray | memoryview,
        properties: ObjectProperties = ...,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Store an object in one request; return its ETag."""


class ConditionalPuts:
    """PUTs that replace nothing of another host's."""

    def __init__(self, store: PutStore, facts: dict[str, str], learned: Callable[[str, str], None]) -> None:
        self._store = store
        self._facts = facts
        self._learned = learned
        self._is_asking = False

    @property
    def are_honoured(self) -> bool | None:
        """Say whether the bucket honours conditions; None while that is not known."""
        known = self._facts.get(_FACT)
        return None if known is None else known == "yes"

    def learn(self, *, are_honoured: bool) -> None:
        """Remember what an answer showed."""
        if self.are_honoured is not are_honoured:
            self._facts[_FACT] = "yes" if are_honoured else "no"
            self._learned(_FACT, self._facts[_FACT])

    async def put(
        self, key: str, body: memoryview, properties: ObjectProperties, expected: str | None, ours: Container[str]
    ) -> str:
        """Store an object; return its ETag.

        Args:
            key: Where.
            body: Its bytes.
            properties: What it carries.
            expected: ETag of the version that it replaces; None: there is no object.
            ours: ETags that earlier requests of ours may have made.

        Raises:
            Conflict: Another host has the key, or has changed the object.
        """
        if self.are_honoured:
            for _ in range(_PROOFS):
                try:
                    return await self._put_over(key, body, properties, expected)
                except PreconditionFailed:
                    now = await self.check(key, expected, ours)
                if now != expected or expected is None:  # gone again by now, perhaps; who refused has looked
                    return await self._replace(key, body, properties, now)
            self.learn(are_honoured=False)  # refused although it holds
            return await self._store.put(key, body, properties)
        now = await self.check(key, expected, ours)
        if self.are_honoured is not None:
            return await self._store.put(key, body, properties)
        try:
            etag = await self._store.put(key, body, properties, if_none_match=True)
        except PreconditionFailed:
            self.learn(are_honoured=True)
            return await self._replace(key, body, properties, await self.check(key, expected, ours))
        if len(body) <= _QUESTION_BYTES:
            await self._ask(key, body, properties)
        return etag

    async def _ask(self, key: str, body: memoryview, properties: ObjectProperties) -> None:
        """Learn what the bucket does by storing what was just stored where it is: refused, or no change."""
        if self._is_asking or self.are_honoured is not None:
            return
        self._is_asking = True
        try:
            for _ in range(_PROOFS):
                await self._store.put(key, body, properties, if_none_match=True)
            self.learn(are_honoured=False)
        except PreconditionFailed:
            self.learn(are_honoured=True)
        except SpacesError as error:  # the object is stored: this is no failure of anybody's
            log.info("whether the bucket honours conditions is not known yet: %s", error)
        finally:
            self._is_asking = False

    async def check(self, key: str, expected: str | None, ours: Container[str]) -> str | None:
        """Return the ETag of what a key holds now, None if nothing: that is what may be replaced.

        Raises:
            Conflict: It is another host's.
        """
        try:
            now = (await self._store.head(key)).etag
        except NoSuchKey:
            return None  # what was expected was removed: the name comes back with what is written here
        if now != expected and now not in ours:
            raise Conflict
        return now

    async def _replace(self, key: str, body: memoryview, properties: ObjectProperties, etag: str | None) -> str:
        """Store over what was just seen."""
        try:
            return await self._put_over(key, body, properties, etag)
        except PreconditionFailed as error:
            raise Conflict from error

    async def _put_over(self, key: str, body: memoryview, properties: ObjectProperties, etag: str | None) -> str:
        if etag is None:
            return await self._store.put(key, body, properties, if_none_match=True)
        return await self._store.put(key, body, properties, if_match=etag)
