"""What each file system call means, in inodes, handles and changes to the Space. Knows neither pyfuse3 nor HTTP.

Here: looking, and the content of files. Making, removing and renaming is in `namespace`, extended attributes in
`xattrs`.
"""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import trio

from spacesfs.attributes import Attributes
from spacesfs.client.errors import SpacesError
from spacesfs.content.content import Content
from spacesfs.content.extents import Extent
from spacesfs.content.glimpse import Glimpse
from spacesfs.content.reader import PageReader
from spacesfs.errors import BadHandle, Exists, FsError, InvalidCall, IsDirectory, NotFound, Unsupported
from spacesfs.namespace import Namespace
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.ledger import Ledger
from spacesfs.pending.scheduler import Left
from spacesfs.properties import PropertyKeeper
from spacesfs.tree.directory import Listing
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import check_free, check_key, is_beside, key_of, segment_in, split_key
from spacesfs.tree.refresh import Refresher
from spacesfs.tree.resolver import Entry, Resolver
from spacesfs.tree.stream import Stream
from spacesfs.tree.view import View
from spacesfs.xattrs import Xattrs

_PLACE_BITS = 24
"""Of a position in a directory; what is above counts pages, of 1,000 names and those that are only here."""
_PLACES = (1 << _PLACE_BITS) - 1
_KEPT_PAGES = 2
BLOCK_BYTES = 512  # st_blocks counts these, whatever st_blksize says


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: owner and group of what it makes, and the id of the program's thread."""

    uid: int
    gid: int
    thread: int = 0


_MOUNT = Caller(0, 0)


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """What setattr changes; None stands for "as it is". Permission bits, ids, bytes, nanoseconds."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    def apply(self, attributes: Attributes) -> Attributes:
        """Return changed attributes, or the same object if nothing differs."""
        changed = replace(
            attributes,
            mode=attributes.kind | stat.S_IMODE(self.mode) if self.mode is not None else attributes.mode,
            uid=attributes.uid if self.uid is None else self.uid,
            gid=attributes.gid if self.gid is None else self.gid,
            atime_ns=attributes.atime_ns if self.atime_ns is None else self.atime_ns,
            mtime_ns=attributes.mtime_ns if self.mtime_ns is None else self.mtime_ns,
        )
        return attributes if changed == attributes else replace(changed, ctime_ns=time.time_ns())

    @property
    def is_of_attributes(self) -> bool:
        """Say whether something else than the size is set, be it to what it is already."""
        return any(value is not None for value in (self.mode, self.uid, self.gid, self.atime_ns, self.mtime_ns))


@dataclass(slots=True)
class DirectoryHandle:
    """One open of a directory: a snapshot of its names, so that positions stay good while it changes.

    A large directory comes by and by; ``pages`` are those at hand. A position is a page and a place in it.
    """

    inode: Inode
    pages: OrderedDict[int, list[Entry]] = field(default_factory=OrderedDict)
    stream: Stream | None = None
    is_read: bool = False


class FileSystem:
    """The calls of one mount. Every method may raise FsError or SpacesError; nothing else is expected."""

    def __init__(  # noqa: PLR0917 - the parts of a mount; fuse/session.py joins them
        self,
        table: InodeTable,
        view: View,
        resolver: Resolver,
        files: OpenFiles,
        names: Namespace,
        ledger: Ledger,
        properties: PropertyKeeper,
        pages: PageReader,
        glimpse: Glimpse,
        refresher: Refresher,
        xattrs: Xattrs,
    ) -> None:
        self._table = table
        self._view = view
        self._resolver = resolver
        self._ledger = ledger
        self._properties = properties
        self._pages = pages
        self._glimpse = glimpse
        self.refresher = refresher
        self.files = files
        self.names = names
        self.xattrs = xattrs
        self._directories: dict[int, DirectoryHandle] = {}
        self._next_directory = 1

    # --- looking

    def inode(self, number: int) -> Inode:
        """Return a live inode by its number."""
        return self._table[number]

    def size_of(self, inode: Inode) -> int:
        """Return st_size in bytes."""
        return self.files.size_of(inode)

    async def lookup(self, parent: int, name: bytes) -> Inode:
        """Return the inode of a name; ``.`` and ``..`` work too. Counts as one look-up of the kernel."""
        directory = self._table[parent]
        if name == b".":
            inode = directory
        elif name == b"..":
            inode = directory.parent or directory
        else:
            directory, text = self._table.place(parent, name)
            if text is None:
                raise NotFound
            inode = await self._resolver.get(directory, text)
        inode.lookups += 1
        return inode

    def forget(self, number: int, lookups: int) -> None:
        """The kernel lets go of an inode ``lookups`` times."""
        self._table.forget(number, lookups)

    async def getattr(self, number: int) -> Inode:
        """Return an inode whose attributes are fresh."""
        inode = self._table[number]
        await self._resolver.revalidate(inode)
        return inode

    async def readlink(self, number: int) -> bytes:
        """Return the target of a symbolic link."""
        inode = self._table[number]
        present = self._ledger.overlay.present(inode.key)
        if present is not None and present.content is not None:
            return _all_bytes(await self._ledger.contents.get(present.content))
        version = inode.version
        if version is None or not version.size:
            raise InvalidCall
        return bytes(await self._pages.read(version, Extent(0, version.size)))

    # --- directories

    async def opendir(self, number: int) -> int:
        """Take a snapshot of a directory, or of its beginning; return its handle."""
        inode = self._table[number]
        opened = DirectoryHandle(inode)
        await self._begin_reading(opened)
        self._table.pin(inode)
        handle = self._next_directory
        self._next_directory += 1
        self._directories[handle] = opened
        return handle

    async def rewind(self, handle: int) -> None:
        """Reading begins, or begins anew as after rewinddir(3): then it is of what is there by now."""
        directory = self._directory(handle)
        if directory.is_read:
            if directory.stream is not None:
                directory.stream.close()
            await self._begin_reading(directory)
        directory.is_read = True

    async def _begin_reading(self, directory: DirectoryHandle) -> None:
        inode = directory.inode
        directory.pages, directory.stream = OrderedDict(), None
        if not inode.is_linked:
            return  # of a directory that was removed, whatever has its name by now
        asked_at = trio.current_time()
        found = await (
            self._view.listing_of_part(inode.key, inode.name) if inode.is_part else self._view.opened(inode.key)
        )
        if isinstance(found, Listing):
            directory.pages[0] = self._resolver.entries(inode, found, asked_at)
        else:
            directory.stream = found

    def entry(self, handle: int, position: int) -> tuple[str, Inode, int] | None:
        """Return the first entry from a position of a directory handle on, and the next position.

        None past what is at hand: `load` tells where it goes on. The caller adds a look-up to the inode if the kernel
        takes it, and else gives it to ``drop_unused``.
        """
        directory = self._directory(handle)
        page, first = position >> _PLACE_BITS, position & _PLACES
        entries = directory.pages.get(page, ())
        for place in range(first, len(entries)):
            inode = self._resolver.entry(directory.inode, entries[place])
            if inode is not None:
                return entries[place].name, inode, page << _PLACE_BITS | place + 1
        return None

    async def load(self, handle: int, position: int) -> int | None:
        """Fetch what comes after all that is at hand from a position on; return its position, or None at the end."""
        directory = self._directory(handle)
        if directory.stream is None:
            return None
        number = position >> _PLACE_BITS
        if number in directory.pages:
            number, position = number + 1, (number + 1) << _PLACE_BITS
        page = await directory.stream.page(number)
        if page is None:
            return None
        directory.pages[number] = self._resolver.page_entries(directory.inode, page)
        while len(directory.pages) > _KEPT_PAGES:
            directory.pages.popitem(last=False)
        return position

    def drop_unused(self, inode: Inode) -> None:
        """The kernel did not take an entry."""
        self._table.drop_unused(inode)

    def releasedir(self, handle: int) -> None:
        """Forget a snapshot."""
        directory = self._directories.pop(handle)
        if directory.stream is not None:
            directory.stream.close()
        self._table.unpin(directory.inode)

    async def fsyncdir(self, handle: int) -> None:
        """Names are safe when their calls return; where fsync means the Space, those in the directory get there first.

        Raises:
            FsError, SpacesError: One could not be brought there; all others were.
        """
        if not self.files.sends_on_fsync:
            return
        key = self._directory(handle).inode.key
        async for _ in self._ledger.scheduler.settle(lambda other: key in {other, split_key(other)[0]}):
            pass

    def _directory(self, handle: int) -> DirectoryHandle:
        try:
            return self._directories[handle]
        except KeyError:
            raise BadHandle from None

    # --- the content of files

    async def open(self, number: int, flags: int, caller: Caller = _MOUNT) -> int:
        """Open a file at its newest version; return the handle."""
        inode = self._table[number]
        if inode.attributes.is_directory:
            raise IsDirectory
        if is_beside(inode.name) and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise Unsupported  # its key is a directory's, too: it can be read, renamed and removed
        await self._resolver.revalidate(inode)
        self._note_open(inode)
        handle = await self.files.open(inode, flags, caller.thread)
        if flags & os.O_TRUNC:
            try:
                await self.files.clear(self.files.handle(handle).opened)
                if caller.uid:  # of all other writing the kernel sees to that itself
                    inode.attributes = inode.attributes.without_set_ids()
            except BaseException:
                await self.files.release(handle)
                raise
        return handle

    def _note_open(self, inode: Inode) -> None:
        listing = self._view.known_listing(inode.parent.key) if inode.parent is not None else None
        if inode.parent is not None and listing is not None:
            self._glimpse.note_open(inode.parent.key, inode.name, listing.objects)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[int, Inode]:
        """Make and open a file; return the handle and the inode, which counts as looked up.

        With O_EXCL, where changes mean the Space, the name is taken there before this returns, so that of several hosts
        only one succeeds.
        """
        directory, segment = self.names.place(parent, name)
        existing = await self._resolver.find(directory, segment)
        if existing is not None:
            if flags & os.O_EXCL:
                raise Exists
            opened = await self.open(existing.number, flags, caller)
            existing.lookups += 1
            return opened, existing
        check_free(segment)
        check_key(directory.key + segment_in(segment))
        attributes = self.names.new_attributes(directory, stat.S_IFREG | stat.S_IMODE(mode), caller.uid, caller.gid)
        inode = self._table.add(directory, segment, attributes)
        handle = self.files.create(inode, flags, caller.thread)
        inode.lookups += 1
        if flags & os.O_EXCL and self._ledger.is_direct:
            await self._claim(inode, handle)
        self.names.touch(directory)
        return handle, inode

    async def _claim(self, inode: Inode, handle: int) -> None:
        try:
            await self.files.claim(handle)
        except BaseException:
            inode.lookups -= 1
            self._table.unlink(inode.parent or inode, inode.name)
            self._view.doubt(inode.parent.key if inode.parent is not None else "")
            await self.files.release(handle)
            raise

    async def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        return await self.files.read(handle, offset, length)

    async def setattr(self, number: int, change: AttributeChange, handle: int | None, thread: int = 0) -> Inode:
        """Change attributes and size; return the inode."""
        inode = self._table[number]
        if is_beside(inode.name) or inode.is_part:
            raise Unsupported
        if change.size is not None:
            await self._truncate(inode, change.size, handle, thread)
        changed = change.apply(inode.attributes)
        if changed is inode.attributes:
            if change.is_of_attributes:  # a disk moves the time; here that is not worth a request
                inode.attributes = replace(changed, ctime_ns=time.time_ns())
            return inode
        before, inode.attributes = inode.attributes, changed
        if change.mtime_ns is not None:
            inode.touched_ns = 0
        try:
            await self._properties.set_attributes(inode, changed, thread)
        except (FsError, SpacesError):
            inode.attributes = before
            raise
        if inode.attributes is not changed:  # written to meanwhile, or looked up with the old ones
            inode.attributes = change.apply(inode.attributes)
        return inode

    async def _truncate(self, inode: Inode, size_bytes: int, handle: int | None, thread: int) -> None:
        if handle is not None:
            await self.files.truncate(self.files.handle(handle).opened, size_bytes)
            return
        own = await self.open(inode.number, os.O_WRONLY, Caller(0, 0, thread))
        try:
            await self.files.truncate(self.files.handle(own).opened, size_bytes)
            await self.files.flush(own)
        finally:
            await self.files.release(own)

    # --- the way to the Space

    async def sync(self, path: str) -> AsyncIterator[Left]:
        """Bring everything at or below a path (relative to the root, "" for all) to the Space; yield what is left.

        Raises:
            FsError, SpacesError: Something could not be brought there; all else was.
        """
        prefix = self._table.root.key + key_of(path.strip("/"))
        failure: FsError | SpacesError | None = None
        for opened in self.files.unsaved():
            if _is_within(opened.inode.key, prefix):
                try:
                    await self.files.save(opened)
                except (FsError, SpacesError) as error:
                    failure = failure or error
        async for left in self._ledger.scheduler.settle(lambda key: _is_within(key, prefix)):
            yield left
        if failure is not None:
            raise failure


def _all_bytes(content: Content) -> bytes:
    buffer = memoryview(bytearray(content.staged.size))
    content.read_present(Extent(0, len(buffer)), buffer)
    return bytes(buffer)


def _is_within(key: str, prefix: str) -> bool:
    return not prefix or key == prefix or key.startswith(prefix.rstrip("/") + "/")
