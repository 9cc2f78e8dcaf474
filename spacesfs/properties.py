"""An object's properties, changed without a change of its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from spacesfs.attributes import DIRECTORY_TYPE, METADATA_LIMIT_BYTES, Attributes, metadata_bytes, metadata_with
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.errors import NoSpace, NotFound, StaleFile
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.carried import Carried
from spacesfs.pending.intents import Present
from spacesfs.pending.ledger import Ledger
from spacesfs.tree.inodes import Inode
from spacesfs.tree.view import View

Change = Callable[[ObjectProperties], ObjectProperties]


class PropertyKeeper:
    """Changes the attributes and properties of files and directories, so that nothing else of theirs is lost."""

    def __init__(self, view: View, ledger: Ledger, files: OpenFiles, carried: Carried) -> None:
        self._view = view
        self._ledger = ledger
        self._files = files
        self._carried = carried

    async def info(self, inode: Inode) -> ObjectInfo | None:
        """Describe the object of an inode, as it is or shall be; its ETag is empty while it is not in the Space.

        Raises:
            StaleFile: The key holds another version by now, or none.
        """
        if not inode.key:
            return None
        present = self._ledger.overlay.present(inode.key)
        if present is not None and present.properties is not None:
            return ObjectInfo(inode.key, present.size, "", 0, present.properties)
        if present is None and inode.attributes.is_directory:
            return await self._view.marker(inode.key)
        version = present.source if present is not None else inode.version
        if version is None:
            return None
        return await self._describe(version)

    async def carried(self, inode: Inode) -> ObjectProperties:
        """Return all that the object of an inode carries or shall carry, with ACL and tags; may ask for those.

        Raises:
            StaleFile: As `info`.
        """
        return await self._old_properties(await self.info(inode))

    async def _describe(self, version: ObjectVersion) -> ObjectInfo:
        if version.key.endswith("/"):
            info = await self._view.marker(version.key)
        else:
            info = self._view.known(version) or await self._view.describe(version.key)
        if info is None or info.etag != version.etag:
            raise StaleFile
        return info

    async def set_attributes(self, inode: Inode, attributes: Attributes, thread: int = 0) -> None:
        """Change the attributes of a file or directory; those of a file that is nowhere yet go with its bytes."""
        if inode.attributes.is_directory:
            await self._set_of_directory(inode, lambda want: replace(want, attributes=attributes))
            return
        want, version = self._wanted(inode)
        if want is not None:
            await self._ledger.put(inode.key, replace(want, attributes=attributes), version, thread)

    async def change(self, inode: Inode, change: Change) -> None:
        """Change the properties of a file or directory; nothing happens when that makes no difference.

        Raises:
            NotFound: The file has no name any more.
            StaleFile: The key holds another version by now, or none.
            NoSpace: The metadata would be over 2 KB.
        """
        opened = self._files.of(inode)
        if opened is not None:
            await self._files.save(opened)
        info = await self.info(inode)
        if info is None and not inode.attributes.is_directory:
            raise NotFound
        old = await self._old_properties(info)
        changed = change(old)
        metadata = metadata_with(inode.attributes, changed.metadata)
        if metadata_bytes(metadata) > METADATA_LIMIT_BYTES:
            raise NoSpace
        if changed == old and info is not None:
            return
        inode.attributes = replace(inode.attributes, ctime_ns=time.time_ns())
        if inode.attributes.is_directory:
            await self._set_of_directory(inode, lambda want: replace(want, properties=changed))
            return
        want, version = self._wanted(inode)
        if want is not None:
            await self._ledger.put(inode.key, replace(want, properties=changed), version)

    async def _old_properties(self, info: ObjectInfo | None) -> ObjectProperties:
        if info is None:
            return ObjectProperties(content_type=DIRECTORY_TYPE)
        return await self._carried.by(info) if info.etag else info.properties

    def _wanted(self, inode: Inode) -> tuple[Present | None, ObjectVersion | None]:
        """Return what a file's key shall hold or does hold, and the version there; None of a file that is nowhere."""
        key, version = inode.key, inode.version
        at_key = version if version is not None and version.key == key else None
        if not inode.is_linked or (at_key is None and self._ledger.overlay.present(key) is None):
            return None, None
        return self._ledger.wanted(key, at_key, at_key.size if at_key is not None else 0), at_key

    async def _set_of_directory(self, inode: Inode, change: Callable[[Present], Present]) -> None:
        """Change the marker of a directory; one without gets one. The root of a bucket has no object for it."""
        key = inode.key
        if not key:
            return
        present = self._ledger.overlay.present(key)
        if present is not None:
            await self._ledger.put(key, change(present), None)
            return
        marker = await self._view.marker(key)
        if marker is not None:  # not a new empty object: other programs put data under keys that end in a slash
            version = ObjectVersion(key, marker.etag, marker.size)
            await self._ledger.put(key, change(Present(marker.size, source=version)), version)
            return
        properties = ObjectProperties(content_type=DIRECTORY_TYPE)
        await self._ledger.make(key, b"", change(Present(0, attributes=inode.attributes, properties=properties)))
