"""Making, removing and renaming."""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol

import trio

from spacesfs.attributes import DIRECTORY_TYPE, Attributes
from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ListPage, ObjectProperties, ObjectVersion
from spacesfs.errors import (
    Conflict,
    Exists,
    FsError,
    InvalidCall,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    StaleFile,
    Unsupported,
)
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.intents import Present
from spacesfs.pending.ledger import Ledger, Move
from spacesfs.pending.outcomes import Outcomes
from spacesfs.pending.treemove import TreeMove
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import OWN_BYTES, check_free, check_key, segment_in
from spacesfs.tree.resolver import Resolver
from spacesfs.tree.view import View

log = logging.getLogger(__name__)

_BINARY_TYPE = "application/octet-stream"  # what s3fs gives symbolic links


class TreeStore(Protocol):
    """What is needed of a bucket here."""

    def list(self, prefix: str, *, delimiter: str | None = None) -> AsyncGenerator[ListPage, None]:
        """Yield the pages of a listing."""


class Namespace:
    """The calls that change names. Each returns when the change is acknowledged."""

    def __init__(  # noqa: PLR0917 - the parts of a mount; FileSystem builds one
        self,
        store: TreeStore,
        table: InodeTable,
        view: View,
        resolver: Resolver,
        files: OpenFiles,
        ledger: Ledger,
        outcomes: Outcomes,
    ) -> None:
        self._store = store
        self._table = table
        self._view = view
        self._resolver = resolver
        self._files = files
        self._ledger = ledger
        self._outcomes = outcomes
        self._overlay = ledger.overlay

    def new_attributes(self, directory: Inode, mode: int, uid: int, gid: int) -> Attributes:
        """Return the attributes of something new; a set-group-id directory hands its group down, as on Linux."""
        if directory.attributes.mode & stat.S_ISGID:
            gid = directory.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        now_ns = time.time_ns()
        return Attributes(mode, uid, gid, now_ns, now_ns, now_ns)

    def place(self, parent: int, name: bytes) -> tuple[Inode, str]:
        """Return the directory that holds what has a name in a directory, and its name there, as a path if it is long.

        Raises:
            Unsupported: Nothing can have the name: it is in a part of long names, and does not go on with one.
            NameNotUtf8, NameTooLong: Nothing can have it anywhere.
        """
        directory, place = self._table.place(parent, name)
        if place is None:
            raise Unsupported
        return directory, place

    def touch(self, directory: Inode) -> None:
        """Note that names changed in a directory; its times in the Space stay, they would be a request each."""
        directory.touched_ns = time.time_ns()
        directory.attributes = directory.attributes.touched(directory.touched_ns)

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
        directory, segment = self.place(parent, name)
        check_free(segment)
        if await self._resolver.find(directory, segment) is not None:
            raise Exists
        key = check_key(directory.key + segment_in(segment) + ("/" if attributes.is_directory else ""))
        want = Present(len(body), attributes=attributes, properties=ObjectProperties(content_type=content_type))
        if attributes.is_directory:
            self._view.note_made(key)
        try:
            await self._ledger.make(key, body, want)
        except Conflict as error:
            self._view.doubt(directory.key)
            raise Exists from error
        inode = self._resolver.made(directory, segment, attributes)
        inode.lookups += 1
        self.touch(directory)
        return inode

    # --- removing

    async def unlink(self, parent: int, name: bytes) -> None:
        """Remove a file; while it is open it lives on without a name."""
        directory, found = self.place(parent, name)
        inode = await self._resolver.get(directory, found)
        if inode.attributes.is_directory:
            raise IsDirectory
        self._table.pin(inode)
        try:
            self._table.unlink(directory, inode.name)
            if inode.name == OWN_BYTES:
                key = directory.key
                await self._ledger.make(key, b"", _marker_for(directory), _at(inode.version, key))
            else:
                await self._files.unlink(inode)
        finally:
            self._table.unpin(inode)
        self.touch(directory)
        await self._keep(directory)

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory. Only the marker goes: what another host put there meanwhile stays."""
        directory, found = self.place(parent, name)
        inode = await self._resolver.get(directory, found)
        if not inode.attributes.is_directory:
            raise NotDirectory
        if inode.is_part:
            await self._check_part_empty(inode)
            self._table.unlink(directory, inode.name)
            return
        await self._check_empty(inode)
        version = await self._marker_version(inode.key)
        self._table.unlink(directory, inode.name)
        await self._ledger.remove(inode.key, version)
        self.touch(directory)
        await self._keep(directory)

    async def _marker_version(self, key: str) -> ObjectVersion | None:
        """Return the marker that the Space holds of a directory, as far as is known."""
        if key in self._overlay:
            return None  # the intent knows
        marker = await self._view.marker(key)
        return ObjectVersion(key, marker.etag, marker.size) if marker is not None else None

    async def _check_part_empty(self, part: Inode) -> None:
        asked_at = trio.current_time()
        listing = await self._view.listing_of_part(part.key, part.name)
        if self._resolver.entries(part, listing, asked_at):
            raise NotEmpty

    async def _check_empty(self, inode: Inode) -> None:
        key = inode.key
        if any(self._resolver.is_ahead(child) for child in inode.children.values()):
            raise NotEmpty
        if any(isinstance(intent.want, Present) and intent.key != key for intent in self._overlay.below(key)):
            raise NotEmpty
        present = self._overlay.present(key)
        marker = await self._view.marker(key) if key not in self._overlay else present
        if marker is not None and marker.size:  # another program's data, under a key that ends in a slash
            raise NotEmpty
        with self._outcomes.watching(key) as confirmed:
            if not await self._view.is_empty(key, partial(self._is_gone, confirmed)):
                raise NotEmpty

    async def _keep(self, directory: Inode) -> None:
        """Give a directory a marker if it would vanish with its last child.

        That this fails is no reason to call what was done before a failure.
        """
        key = directory.key
        if directory.parent is None or not directory.is_linked or self._overlay.shows_directory(key):
            return
        if await self._keeps_itself(key):
            return
        try:
            await self._ledger.make(key, b"", _marker_for(directory))
        except (FsError, SpacesError) as error:
            log.warning("%s may vanish, for it holds nothing any more: %s", key, error)

    async def _keeps_itself(self, key: str) -> bool:
        """Say whether a directory is known to go on without a marker of ours; a Space out of order does not tell."""
        try:
            with self._outcomes.watching(key) as confirmed:
                return await self._view.keeps_itself(key, partial(self._is_gone, confirmed))
        except SpacesError:
            return False

    # --- renaming

    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, thread: int = 0, *, may_replace: bool
    ) -> None:
        """Give a file or directory another name; a file or an empty directory there is replaced, if that is allowed."""
        source, found = self.place(parent, name)
        target, segment = self.place(new_parent, new_name)
        check_free(segment)
        inode = await self._resolver.get(source, found)
        if inode.is_part:
            raise Unsupported  # it is in the names of many
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
            await self._rename_file(inode, target, segment, thread)
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

    async def _rename_file(self, inode: Inode, target: Inode, name: str, thread: int) -> None:
        new_key = check_key(target.key + segment_in(name))
        opened = self._files.of(inode)
        if opened is not None:
            await self._files.save(opened)  # a rename says that the file is as it should be
        key, version = inode.key, _at(inode.version, inode.key)
        if not inode.is_linked:
            raise StaleFile
        replaced = self._table.child(target, name)
        replaces = _at(replaced.version, new_key) if replaced is not None else None
        move = Move(key, new_key, self._files.size_of(inode), version, replaces)
        leaves = _marker_for(inode.parent) if inode.name == OWN_BYTES and inode.parent is not None else None
        self._table.move(inode, target, name)
        await self._ledger.move(move, thread, leaves)

    async def _rename_directory(self, inode: Inode, target: Inode, name: str) -> None:
        if target is inode or any(ancestor is inode for ancestor in _ancestors(target)):
            raise InvalidCall
        old_prefix, new_prefix = inode.key, check_key(f"{target.key}{segment_in(name)}/")
        replaces = await self._marker_version(new_prefix)
        await self._files.save_below(old_prefix)
        with self._outcomes.watching(old_prefix) as confirmed:
            tree = await self._ready(self._ledger.tree_move(old_prefix, new_prefix), replaces)
            # No await from here until all is decided.
            if inode.key == old_prefix and new_prefix == f"{target.key}{segment_in(name)}/":
                moves = self._known_better(tree, confirmed, replaces)
                moved = {move.key for move in moves}
                emptied = (_directories(moved, old_prefix) | tree.directories()) - moved
                self._table.move(inode, target, name)
                await self._ledger.move_tree(tree, moves, emptied)
                return
        await self._rename_directory(inode, target, name)  # a directory above has another name by now

    async def _ready(self, tree: TreeMove, replaces: ObjectVersion | None) -> TreeMove:
        """List a directory into a move of it, page by page; ``replaces`` is the marker that its own will replace."""
        async with aclosing(self._store.list(tree.prefix)) as pages:
            async for page in pages:
                await self._view.recall(page.objects)  # copies are described as their sources are
                for listed in page.objects:
                    check_key(tree.new_key(listed.key))
                    version = ObjectVersion(listed.key, listed.etag, listed.size)
                    tree.add(version, replaces if listed.key == tree.prefix else None)
        return tree

    def _known_better(
        self, tree: TreeMove, confirmed: dict[str, ObjectVersion | None], replaces: ObjectVersion | None
    ) -> list[Move]:
        """Take from a move what this mount knows better than the listing, and return how that is to move.

        Raises:
            NameTooLong: A new key would be.
        """
        found: dict[str, tuple[int, ObjectVersion | None]] = {}
        for intent in self._overlay.below(tree.new_prefix):
            old = tree.drop(tree.old_key(intent.key))
            if old is not None:
                found[old.key] = old.size, old
        for key, version in confirmed.items():
            tree.drop(key)
            found.pop(key, None)
            if version is not None:
                found[key] = version.size, version
        for intent in self._overlay.below(tree.prefix):
            tree.drop(intent.key)
            found.pop(intent.key, None)
            if isinstance(intent.want, Present):
                found[intent.key] = intent.want.size, None
        moves = []
        for key, (size, version) in found.items():
            new_key = check_key(tree.new_key(key))
            moves.append(Move(key, new_key, size, version, replaces if new_key == tree.new_prefix else None))
        return moves

    def _is_gone(self, confirmed: dict[str, ObjectVersion | None], key: str) -> bool:
        """Say whether what the Space shows under a key is gone for this mount, or by now for the Space too."""
        if key in confirmed and confirmed[key] is None:
            return True
        return self._overlay.shows_directory(key) is False if key.endswith("/") else self._overlay.is_absent(key)


def _marker_for(directory: Inode) -> Present:
    """Return what the key of a directory shall hold: nothing but what the directory is."""
    properties = ObjectProperties(content_type=DIRECTORY_TYPE)
    return Present(0, attributes=directory.attributes, properties=properties)


def _at(version: ObjectVersion | None, key: str) -> ObjectVersion | None:
    """Return a version if it is that of a key, and not of the key that its file had before."""
    return version if version is not None and version.key == key else None


def _directories(keys: Iterable[str], prefix: str) -> set[str]:
    """Return the directories that keys lie in, from a prefix downwards; the prefix is one of them."""
    found = {prefix}
    for key in keys:
        directory = key[: key.removesuffix("/").rfind("/") + 1]
        while len(directory) > len(prefix) and directory not in found:
            found.add(directory)
            directory = directory[: directory[:-1].rfind("/") + 1]
    return found


def _ancestors(inode: Inode) -> list[Inode]:
    found = []
    while inode.parent is not None:
        inode = inode.parent
        found.append(inode)
    return found
