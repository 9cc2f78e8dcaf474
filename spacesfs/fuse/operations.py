"""The kernel's requests: each handler converts its arguments, calls the file system, and converts the answer."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from spacesfs.errors import InvalidCall, NoAttribute, NotFound, NotPermitted, errno_for
from spacesfs.filesystem import BLOCK_BYTES, AttributeChange, Caller, FileSystem
from spacesfs.tree.inodes import Inode
from spacesfs.tree.names import MAX_SEGMENT_BYTES
from spacesfs.usage import Usage
from spacesfs.xattrs import is_offered

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_MAX_SIZE = 2**63 - 1  # off_t; a listing may claim more
_BLOCK_BYTES = 4 << 20  # what programs should read and write at once: RGW's stripe


def _handler(
    call: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]:
    """Turn what a handler raises into an errno, and log the call when debugging."""
    name = call.__name__

    @functools.wraps(call)
    async def handle(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter()
        try:
            return await call(self, *args, **kwargs)
        except Exception as error:
            raise FUSEError(errno_for(error)) from error
        finally:
            if self.is_logging:
                numbers = [arg for arg in args if isinstance(arg, int)]  # not the bytes: they are the user's
                log.debug("%s%s %.1f ms", name, numbers, (time.perf_counter() - started) * 1000)

    return handle


class Operations(pyfuse3.Operations):
    """The FUSE operations of one mount."""

    enable_writeback_cache = False  # sizes and times are ours to say: other hosts write to the Space too

    def __init__(self, filesystem: FileSystem, usage: Usage, ttl_seconds: float) -> None:
        super().__init__()
        self._fs = filesystem
        self._usage = usage
        self._ttl_seconds = ttl_seconds
        self.is_logging = log.isEnabledFor(logging.DEBUG)

    # --- looking

    @_handler
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Find a name; the kernel remembers for the TTL that there is none."""
        try:
            return self._entry(await self._fs.lookup(parent_inode, name))
        except NotFound:
            self._fs.refresher.note_denied(parent_inode, name)
            nothing = EntryAttributes()
            nothing.st_ino = InodeT(0)
            nothing.entry_timeout = self._ttl_seconds
            return nothing

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Let go of inodes."""
        for number, lookups in inode_list:
            self._fs.forget(number, lookups)

    @_handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        return self._entry(await self._fs.getattr(inode))

    @_handler
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change attributes or the size."""
        change = AttributeChange(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(await self._fs.setattr(inode, change, fh, ctx.pid))

    @_handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Return the target of a symbolic link."""
        return FileNameT(await self._fs.readlink(inode))

    @_handler
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Describe the file system, as it was last heard of; never waits for the Space."""
        data = StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        capacity = self._usage.capacity()
        data.f_blocks = capacity.total_bytes // data.f_frsize
        data.f_bfree = data.f_bavail = (capacity.total_bytes - capacity.used_bytes) // data.f_frsize
        data.f_files = capacity.total_files
        data.f_ffree = data.f_favail = capacity.total_files - capacity.used_files
        data.f_namemax = MAX_SEGMENT_BYTES
        return data

    # --- directories

    @_handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory."""
        return FileHandleT(await self._fs.opendir(inode))

    @_handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Send entries with their attributes, as many as the reply takes."""
        if not start_id:
            await self._fs.rewind(fh)
        position: int | None = start_id
        has_sent = False
        while position is not None and not has_sent:  # what is at hand goes now, the rest when the kernel asks again
            while (entry := self._fs.entry(fh, position)) is not None:
                name, inode, position = entry
                if not pyfuse3.readdir_reply(token, FileNameT(name.encode()), self._entry(inode), position):
                    self._fs.drop_unused(inode)
                    return
                inode.lookups += 1
                has_sent = True
            position = None if has_sent else await self._fs.load(fh, position)

    @_handler
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        self._fs.releasedir(fh)

    @_handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's signature
        """Make names safe, as far as the mount's durability asks for more than they are."""
        await self._fs.fsyncdir(fh)

    # --- names

    @_handler
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        """Make a directory."""
        return self._entry(await self._fs.names.mkdir(parent_inode, name, mode, ctx.uid, ctx.gid))

    @_handler
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a file, pipe, socket or device."""
        return self._entry(await self._fs.names.mknod(parent_inode, name, mode, rdev, ctx.uid, ctx.gid))

    @_handler
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        return self._entry(await self._fs.names.symlink(parent_inode, name, target, ctx.uid, ctx.gid))

    @_handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse: an object has one key."""
        raise NotPermitted

    @_handler
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove a file."""
        await self._fs.names.unlink(parent_inode, name)

    @_handler
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove a directory."""
        await self._fs.names.rmdir(parent_inode, name)

    @_handler
    async def rename(  # noqa: PLR0917 - pyfuse3's signature
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """Rename a file or directory."""
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise InvalidCall
        may_replace = not flags & pyfuse3.RENAME_NOREPLACE
        await self._fs.names.rename(
            parent_inode_old, name_old, parent_inode_new, name_new, ctx.pid, may_replace=may_replace
        )

    # --- the content of files

    @_handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        return _file_info(await self._fs.open(inode, flags, Caller(ctx.uid, ctx.gid, ctx.pid)))

    @_handler
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make and open a file."""
        handle, inode = await self._fs.create(parent_inode, name, mode, flags, Caller(ctx.uid, ctx.gid, ctx.pid))
        return _file_info(handle), self._entry(inode)

    @_handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Read bytes; pyfuse3 takes any buffer and copies it once, into the kernel."""
        return await self._fs.read(fh, off, size)  # type: ignore[return-value]  # the stub says bytes, the code takes buffers

    @_handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Write bytes."""
        return await self._fs.files.write(fh, off, buf)

    @_handler
    async def flush(self, fh: FileHandleT) -> None:
        """A descriptor was closed."""
        await self._fs.files.flush(fh)

    @_handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's signature
        """Bring the content to the Space."""
        await self._fs.files.fsync(fh)

    @_handler
    async def release(self, fh: FileHandleT) -> None:
        """The last descriptor of a handle was closed."""
        await self._fs.files.release(fh)

    # --- extended attributes

    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """Return an extended attribute; the kernel asks for security.capability before each write, so be quick."""
        if not is_offered(name):
            raise FUSEError(pyfuse3.ENOATTR)
        return await self._getxattr(inode, name)

    @_handler
    async def _getxattr(self, inode: InodeT, name: XAttrNameT) -> bytes:
        return await self._fs.xattrs.get(self._fs.inode(inode), name)

    @_handler
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        """Set an extended attribute."""
        await self._fs.xattrs.set(self._fs.inode(inode), name, value)

    @_handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """Name the extended attributes."""
        return [XAttrNameT(name) for name in await self._fs.xattrs.names(self._fs.inode(inode))]

    @_handler
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """Remove an extended attribute."""
        if not is_offered(name):
            raise NoAttribute
        await self._fs.xattrs.remove(self._fs.inode(inode), name)

    def _entry(self, inode: Inode) -> EntryAttributes:
        attributes = inode.attributes
        entry = EntryAttributes()
        entry.st_ino = InodeT(inode.number)
        entry.generation = 0
        # An entry only listed may turn out a symlink: the kernel must look it up before anybody relies on its type.
        entry.entry_timeout = entry.attr_timeout = self._ttl_seconds if inode.is_kind_known else 0
        entry.st_mode = ModeT(attributes.mode)
        entry.st_nlink = inode.is_linked * (2 if attributes.is_directory else 1)
        entry.st_uid, entry.st_gid, entry.st_rdev = attributes.uid, attributes.gid, attributes.rdev
        entry.st_size = 0 if attributes.is_directory else min(self._fs.size_of(inode), _MAX_SIZE)
        entry.st_blksize = _BLOCK_BYTES
        entry.st_blocks = -(-entry.st_size // BLOCK_BYTES)
        entry.st_atime_ns, entry.st_mtime_ns = attributes.atime_ns, attributes.mtime_ns
        entry.st_ctime_ns = attributes.ctime_ns
        return entry


def _file_info(handle: int) -> FileInfo:
    # The kernel may keep its pages: an inode never changes but through this mount, another version is another inode.
    return FileInfo(fh=FileHandleT(handle), keep_cache=True)
