"""Making, removing and renaming."""

from __future__ import annotations

import logging
import stat
import time
from dataclasses import replace

from spacesfs.attributes import DIRECTORY_TYPE, Attributes, metadata_with
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.errors import Conflict, Exists, FsError, InvalidCall, IsDirectory, NotDirectory, NotEmpty, StaleFile
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.intents import Move, MoveTree, Put, RemoveMarker
from spacesfs.pending.scheduler import Scheduler
from spacesfs.properties import PropertyKeeper
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import check_key, segment_of
from spacesfs.tree.resolver import Resolver, walk
from spacesfs.tree.view import View

log = logging.getLogger(__name__)

_BINARY_TYPE = "application/octet-stream"  # what s3fs gives symbolic links


class Namespace:
    """The calls that change names. Each returns when the change is acknowledged."""

    def __init__(  # noqa: PLR0917 - the parts of a mount; FileSystem builds one
        self,
        table: InodeTable,
        view: View,
        resolver: Resolver,
        files: OpenFiles,
        scheduler: Scheduler,
        properties: PropertyKeeper,
    ) -> None:
        self._table = table
        self._view = view
        self._resolver = resolver
        self._files = files
        self._scheduler = scheduler
        self._properties = properties

    def new_attributes(self, directory: Inode, mode: int, uid: int, gid: int) -> Attributes:
        """Return the attributes of something new; a set-group-id directory hands its group down, as on Linux."""
        if directory.attributes.mode & stat.S_ISGID:
            gid = directory.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        now_ns = time.time_ns()
        return Attributes(mode, uid, gid, now_ns, now_ns, now_ns)

    def touch(self, directory: Inode) -> None:
        """Note that names changed in a directory; its times in the Space stay, they would be a request each."""
        directory.attributes = directory.attributes.touched(time.time_ns())

    # --- making

    async def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """Make a directory, with a marker; the inode counts as looked up."""
        attributes = self.new_attributes(self._table[parent], stat.S_IFDIR | stat.S_IMODE(mode), uid, gid)
        return await self._make(parent, name, attributes, b"", DIRECTORY_TYPE)

    async def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        """Make a symbolic link; the inode counts as looked up."""
        attributes = self.new_attributes(self._table[parent], stat.S_IFLNK | 0o777, uid, gid)
        return await self._make(parent, name, attributes, target, _BINARY_TYPE)

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:  # noqa: PLR0917 - the call has as many
        """Make an empty file of any type but directory; the inode counts as looked up."""
        attributes = self.new_attributes(self._table[parent], mode, uid, gid)
        special = replace(attributes, rdev=rdev)
        return await self._make(parent, name, special, b"", _BINARY_TYPE)

    async def _make(self, parent: int, name: bytes, attributes: Attributes, body: bytes, content_type: str) -> Inode:
        directory, segment = self._table[parent], segment_of(name)
        if await self._resolver.find(directory, segment) is not None:
            raise Exists
        key = check_key(directory.key + segment + ("/" if attributes.is_directory else ""))
        replaces = await self._files.take_over(key)
        properties = ObjectProperties(content_type=content_type, metadata=metadata_with(attributes, {}))
        try:
            await self._scheduler.acknowledge(Put(key, body, properties, is_new=replaces is None))
        except Conflict as error:
            self._view.doubt(directory.key)
            raise Exists from error
        inode = self._table.add(directory, segment, attributes)
        if attributes.is_directory:
            self._view.note_made(key)
        else:
            inode.version = self._view.version_of(key)
        inode.lookups += 1
        self.touch(directory)
        return inode

    # --- removing

    async def unlink(self, parent: int, name: bytes) -> None:
        """Remove a file; while it is open it lives on without a name."""
        directory = self._table[parent]
        inode = await self._resolver.get(directory, segment_of(name))
        if inode.attributes.is_directory:
            raise IsDirectory
        self._table.pin(inode)
        try:
            self._table.unlink(directory, inode.name)
            await self._files.unlink(inode)
        finally:
            self._table.unpin(inode)
        self.touch(directory)
        await self._keep(directory)

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory. Only the marker goes: what another host put there meanwhile stays."""
        directory = self._table[parent]
        inode = await self._resolver.get(directory, segment_of(name))
        if not inode.attributes.is_directory:
            raise NotDirectory
        await self._check_empty(inode)
        await self._scheduler.acknowledge(RemoveMarker(inode.key))
        self._table.unlink(directory, inode.name)
        self.touch(directory)
        await self._keep(directory)

    async def _check_empty(self, inode: Inode) -> None:
        marker = await self._view.marker(inode.key)
        if marker is not None and marker.size:  # another program's data, under a key that ends in a slash
            raise NotEmpty
        if any(self._files.is_ahead(child) for child in inode.children.values()):
            raise NotEmpty
        if not await self._view.is_empty(inode.key, self._files.is_doomed):
            raise NotEmpty

    async def _keep(self, directory: Inode) -> None:
        """Give a directory a marker if it would vanish with its last child.

        That this fails is no reason to call what was done before a failure.
        """
        if directory.parent is None or not directory.is_linked:
            return
        try:
            if not await self._view.keeps_itself(directory.key, self._files.is_doomed):
                metadata = metadata_with(directory.attributes, {})
                properties = ObjectProperties(content_type=DIRECTORY_TYPE, metadata=metadata)
                await self._scheduler.acknowledge(Put(directory.key, b"", properties, is_new=True))
        except (FsError, SpacesError) as error:
            log.warning("%s may vanish, for it holds nothing any more: %s", directory.key, error)

    # --- renaming

    async def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, *, may_replace: bool) -> None:
        """Give a file or directory another name; a file or an empty directory there is replaced, if that is allowed."""
        source, target, segment = self._table[parent], self._table[new_parent], segment_of(new_name)
        inode = await self._resolver.get(source, segment_of(name))
        replaced = await self._resolver.find(target, segment)
        if replaced is inode:
            return
        if replaced is not None:
            if not may_replace:
                raise Exists
            await self._check_replaceable(inode, replaced)
        if inode.attributes.is_directory:
            await self._rename_directory(inode, target, segment)
        else:
            await self._rename_file(inode, target, segment, replaced)
        self.touch(source)
        self.touch(target)
        await self._keep(source)

    async def _check_replaceable(self, inode: Inode, replaced: Inode) -> None:
        if not replaced.attributes.is_directory:
            if inode.attributes.is_directory:
                raise NotDirectory
            return
        if not inode.attributes.is_directory:
            raise IsDirectory
        await self._check_empty(replaced)

    async def _rename_file(self, inode: Inode, target: Inode, name: str, replaced: Inode | None) -> None:
        key = check_key(target.key + name)
        opened = self._files.of(inode)
        replaces = await self._files.take_over(key)
        if replaced is not None:
            await self._files.keep(replaced)
            replaces = await self._files.settled_version(replaced)
        if opened is not None:
            async with opened.file.lock:  # an upload under way is waited for: it goes to the old name
                is_unsent = opened.file.base is None
                if is_unsent:  # the new name costs nothing
                    opened.file.base = replaces
                    self._table.move(inode, target, name)
            if opened.file.has_written or not opened.handles:
                await self._files.publish(opened)
            if is_unsent:
                return
        version = self._files.version_of(inode)
        if version is None:
            raise StaleFile
        info = await self._properties.info(version)
        with self._files.moving([inode]):
            await self._move(Move(info, key, replaces), target)
            self._files.rebase(inode, ObjectVersion(key, info.etag, info.size))
        self._table.move(inode, target, name)

    async def _move(self, move: Move | MoveTree, target: Inode) -> None:
        try:
            await self._scheduler.acknowledge(move)
        except (FsError, SpacesError):
            self._view.doubt(target.key)  # it may hold something else than was believed, or part of what was moved
            raise

    async def _rename_directory(self, inode: Inode, target: Inode, name: str) -> None:
        if target is inode or any(ancestor is inode for ancestor in _ancestors(target)):
            raise InvalidCall
        old_prefix, new_prefix = inode.key, check_key(f"{target.key}{name}/")
        inside = self._files.below(old_prefix)
        with self._files.moving(inside):
            await self._move(MoveTree(old_prefix, new_prefix), target)
            for child in {*walk(inode), *inside}:
                version = self._files.version_of(child)
                if version is not None and version.key.startswith(old_prefix):
                    moved = ObjectVersion(new_prefix + version.key.removeprefix(old_prefix), version.etag, version.size)
                    self._files.rebase(child, moved)
        self._table.move(inode, target, name)
        await self._keep(inode)  # it may have held nothing but files that are not in the Space yet


def _ancestors(inode: Inode) -> list[Inode]:
    found = []
    while inode.parent is not None:
        inode = inode.parent
        found.append(inode)
    return found
