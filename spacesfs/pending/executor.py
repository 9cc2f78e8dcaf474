"""One intent becomes requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, PreconditionFailed, SpacesError
from spacesfs.client.models import (
    Acl,
    CopyResult,
    DeleteFailure,
    ListedObject,
    ListPage,
    ObjectInfo,
    ObjectProperties,
    ObjectVersion,
)
from spacesfs.content.file import FileStore
from spacesfs.errors import Conflict, StaleFile
from spacesfs.pending.intents import Delete, Describe, Intent, Move, MoveTree, Publish, Put, RemoveMarker
from spacesfs.tasks import open_team

_PARALLEL_COPIES = 16
_TAKE_BACK_SECONDS = 10.0


class ChangeStore(FileStore, Protocol):
    """What is needed of a bucket here."""

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source_etag: str | None = None,
        replace: ObjectProperties | None = None,
        acl: Acl | None = None,
    ) -> CopyResult:
        """Copy an object inside the Space."""

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there counts as deleted."""

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Delete objects."""

    async def get_acl(self, key: str) -> Acl:
        """Return an object's canned ACL."""

    async def get_tags(self, key: str) -> str | None:
        """Return an object's tags, query-encoded."""

    def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """Yield the pages of a listing."""


class Executor:
    """Turns intents into requests; knows nothing of order or of who asked."""

    def __init__(self, store: ChangeStore) -> None:
        self._store = store

    async def perform(self, intent: Intent) -> ObjectInfo | None:
        """Make one change; return what the Space holds under its (new) key then, if that is an object.

        Raises:
            Conflict: Another host changed the object first.
            SpacesError: The Space refuses or can't be reached.
        """
        match intent:
            case Publish():
                return await self._publish(intent)
            case Put():
                return await self._put(intent)
            case Describe(version, properties):
                return await self._describe(version, properties)
            case Move(info, target, replaces):
                return await self._move(info, target, replaces)
            case Delete(key, version):
                await self._delete(key(), version())
            case RemoveMarker(key):
                await self._store.delete(key)
            case MoveTree(source, target):
                await self._move_tree(source, target)
        return None

    async def carried(self, info: ObjectInfo) -> ObjectProperties:
        """Return everything a rewrite of an object must send again; asks for what HEAD does not tell."""
        properties = info.properties
        if properties.acl is None:
            properties = replace(properties, acl=await self._store.get_acl(info.key))
        if properties.tags is None:
            properties = replace(properties, tags=await self._store.get_tags(info.key) or "")
        return properties

    async def _publish(self, publish: Publish) -> ObjectInfo | None:
        properties = await publish.properties()
        version = await publish.file.commit(publish.key, properties)
        return _stored(version, properties) if version is not None else None

    async def _put(self, put: Put) -> ObjectInfo:
        try:
            etag = await self._store.put(put.key, put.body, put.properties, if_none_match=put.is_new)
        except PreconditionFailed as error:
            raise Conflict from error
        return _stored(ObjectVersion(put.key, etag, len(put.body)), put.properties)

    async def _describe(self, version: ObjectVersion, properties: ObjectProperties) -> ObjectInfo:
        result = await self._store.copy(version.key, version.key, source_etag=version.etag, replace=properties)
        return replace(_stored(version, properties), etag=result.etag, last_modified_ns=result.last_modified_ns)

    async def _move(self, info: ObjectInfo, target: str, replaces: ObjectVersion | None) -> ObjectInfo:
        await self._check(target, replaces)
        acl = info.properties.acl or await self._store.get_acl(info.key)
        try:
            result = await self._store.copy(info.key, target, source_etag=info.etag, acl=acl)
        except PreconditionFailed as error:
            raise StaleFile from error
        if result.etag != info.etag:
            raise Conflict
        with suppress(Conflict):  # another host wrote there meanwhile: that stays under the old name
            await self._delete(info.key, ObjectVersion(info.key, info.etag, info.size))
        properties = replace(info.properties, acl=acl)
        return replace(info, key=target, properties=properties, last_modified_ns=result.last_modified_ns)

    async def _delete(self, key: str, version: ObjectVersion | None) -> None:
        if version is None:
            return
        try:
            now = await self._store.head(key)
        except NoSuchKey:
            return
        if now.etag != version.etag:
            raise Conflict
        await self._store.delete(key)

    async def _exists(self, key: str) -> bool:
        with suppress(NoSuchKey):
            await self._store.head(key)
            return True
        return False

    async def _check(self, key: str, expected: ObjectVersion | None) -> None:
        """Look whether a key holds what is expected; nothing at all always will do."""
        with suppress(NoSuchKey):
            now = await self._store.head(key)
            if expected is None or now.etag != expected.etag:
                raise Conflict

    async def _move_tree(self, source: str, target: str) -> None:
        """Copy everything, then delete everything: a failure in between leaves the source whole.

        What another host changes or adds meanwhile stays under the old name.
        """
        copied: dict[str, str] = {}
        had_marker = await self._exists(target)
        try:
            async with aclosing(self._store.list(source)) as pages:
                async for page in pages:
                    await self._copy_page(page, source, target, copied)
        except BaseException:
            copies = (target + key.removeprefix(source) for key in copied)
            await self._take_back([key for key in copies if key != target or not had_marker])
            raise
        unchanged: list[str] = []
        async with aclosing(self._store.list(source)) as pages:
            async for page in pages:
                unchanged.extend(listed.key for listed in page.objects if copied.get(listed.key) == listed.etag)
        failures = await self._store.delete_many(unchanged)
        if failures:
            message = f"{len(failures)} of {len(copied)} objects could not be deleted after the copy: {failures[0].key}"
            raise SpacesError(message, code=failures[0].code, key=failures[0].key)

    async def _copy_page(self, page: ListPage, source: str, target: str, copied: dict[str, str]) -> None:
        limit = trio.CapacityLimiter(_PARALLEL_COPIES)

        async def copy(listed: ListedObject) -> None:
            async with limit:
                await self._copy_listed(listed, target + listed.key.removeprefix(source))
            copied[listed.key] = listed.etag

        async with open_team() as team:
            for listed in page.objects:
                team.start_soon(copy, listed)

    async def _take_back(self, keys: list[str]) -> None:
        """Remove the copies of a move that failed, as far as that can be done in short time."""
        with trio.move_on_after(_TAKE_BACK_SECONDS, shield=True), suppress(SpacesError):
            await self._store.delete_many(keys)

    async def _copy_listed(self, listed: ListedObject, key: str) -> None:
        acl = await self._store.get_acl(listed.key)
        result = await self._store.copy(listed.key, key, source_etag=listed.etag, acl=acl)
        if result.etag != listed.etag:
            raise Conflict


def _stored(version: ObjectVersion, properties: ObjectProperties) -> ObjectInfo:
    """Describe an object just stored; the reply to a PUT tells no time, which 0 stands for."""
    known = replace(properties, acl=properties.acl or "private", tags=properties.tags or "")
    return ObjectInfo(version.key, version.size, version.etag, 0, known)
