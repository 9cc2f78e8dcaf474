"""An object's properties: what a rewrite has to send again, and how to change some of them alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from mimetypes import guess_type

from spacesfs.attributes import DIRECTORY_TYPE, METADATA_LIMIT_BYTES, Attributes, metadata_bytes, metadata_with
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.errors import NoSpace, StaleFile
from spacesfs.pending.executor import Executor
from spacesfs.pending.intents import Describe, Put
from spacesfs.pending.scheduler import Scheduler
from spacesfs.tree.view import View

Change = Callable[[ObjectProperties], ObjectProperties]


def with_attributes(attributes: Attributes) -> Change:
    """Return the change that writes a file's attributes over the old ones."""
    return lambda old: replace(old, metadata=metadata_with(attributes, old.metadata))


class PropertyKeeper:
    """Finds what an object carries, and sees that nothing of it is lost when something is changed.

    A plain overwrite and a copy both reset what they do not send again: the type, the metadata, the ACL, the tags.
    """

    def __init__(self, view: View, executor: Executor, scheduler: Scheduler) -> None:
        self._view = view
        self._executor = executor
        self._scheduler = scheduler

    async def info(self, version: ObjectVersion) -> ObjectInfo:
        """Describe a version.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        info = self._view.known(version) or await self._view.describe(version.key)
        if info is None or info.etag != version.etag:
            raise StaleFile
        return info

    async def for_file(self, version: ObjectVersion | None, name: str, attributes: Attributes) -> ObjectProperties:
        """Return what the next object of a file carries: these attributes, and all else that ``version`` carried."""
        if version is None:
            return ObjectProperties(content_type=guess_type(name)[0], metadata=metadata_with(attributes, {}))
        info = self._view.known(version) or await self._view.describe(version.key)
        carried = await self._executor.carried(info) if info is not None else ObjectProperties()
        return replace(carried, metadata=metadata_with(attributes, carried.metadata))

    async def change(self, version: ObjectVersion, change: Change) -> None:
        """Change the properties of an object in the Space; nothing is sent when that makes no difference.

        Raises:
            StaleFile: The key holds another version by now, or none.
            NoSpace: The metadata would be over 2 KB.
        """
        carried = await self._executor.carried(await self.info(version))
        changed = change(carried)
        _check_size(changed)
        if changed != carried:
            await self._scheduler.acknowledge(Describe(version, changed))

    async def change_directory(self, key: str, change: Change) -> None:
        """Change the properties of a directory; one without a marker gets one."""
        marker = await self._view.marker(key)
        carried = await self._executor.carried(marker) if marker else ObjectProperties(content_type=DIRECTORY_TYPE)
        changed = change(carried)
        _check_size(changed)
        if marker is None:
            await self._scheduler.acknowledge(Put(key, b"", changed, is_new=True))
        elif changed != carried:  # not a new empty object: other programs put data under keys that end in a slash
            await self._scheduler.acknowledge(Describe(ObjectVersion(key, marker.etag, marker.size), changed))


def _check_size(properties: ObjectProperties) -> None:
    if metadata_bytes(properties.metadata) > METADATA_LIMIT_BYTES:
        raise NoSpace
