"""What an object carries beside its bytes: a plain overwrite and a copy both reset what they do not send again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from mimetypes import guess_type
from typing import Protocol

from spacesfs.attributes import metadata_with
from spacesfs.client.errors import NoSuchKey
from spacesfs.client.models import Acl, ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.errors import StaleFile
from spacesfs.pending.intents import Present


class DescribingStore(Protocol):
    """What is needed of a bucket here."""

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""

    async def get_acl(self, key: str) -> Acl:
        """Return an object's canned ACL."""

    async def get_tags(self, key: str) -> str | None:
        """Return an object's tags, query-encoded."""


class Carried:
    """Finds what the next object of a key has to carry.

    Attributes:
        known: Returns what is remembered of exactly one version, or None.
    """

    def __init__(self, store: DescribingStore, known: Callable[[ObjectVersion], ObjectInfo | None]) -> None:
        self._store = store
        self.known = known

    async def by(self, info: ObjectInfo) -> ObjectProperties:
        """Return everything a rewrite of an object must send again; asks for what HEAD does not tell."""
        properties = info.properties
        if properties.acl is None:
            properties = replace(properties, acl=await self._store.get_acl(info.key))
        if properties.tags is None:
            tags = await self._store.get_tags(info.key) if info.tag_count else None
            properties = replace(properties, tags=tags or "")
        return properties

    async def wanted(self, key: str, want: Present) -> ObjectProperties:
        """Return what the object of a key shall carry.

        Raises:
            StaleFile: The source has what is wanted, and is gone.
        """
        carried = want.properties if want.properties is not None else await self._of_source(want)
        if carried.content_type is None:
            carried = replace(carried, content_type=guess_type(key)[0])
        if want.attributes is None:
            return carried
        return replace(carried, metadata=metadata_with(want.attributes, carried.metadata))

    async def info(self, version: ObjectVersion) -> ObjectInfo:
        """Describe a version.

        Raises:
            StaleFile: The key holds another one by now, or none.
        """
        info = self.known(version)
        if info is None:
            with suppress(NoSuchKey):
                info = await self._store.head(version.key)
        if info is None or info.etag != version.etag:
            raise StaleFile
        return info

    async def acl(self, version: ObjectVersion, info: ObjectInfo | None) -> Acl:
        """Return an object's canned ACL, which a copy must be given; ``info`` is what is known of the object."""
        known = info.properties.acl if info is not None else None
        return known or await self._store.get_acl(version.key)

    async def _of_source(self, want: Present) -> ObjectProperties:
        """Return what the source carries; nothing if it is gone and only its properties were wanted."""
        assert want.source is not None, "properties are given or carried"
        try:
            return await self.by(await self.info(want.source))
        except StaleFile:
            if want.content is None:
                raise
            return ObjectProperties()
