"""Open files and their handles: who has what open, and what of it is not acknowledged yet."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ObjectVersion
from spacesfs.content.content import Content
from spacesfs.content.file import FileFactory, OpenFile
from spacesfs.content.filereader import FileReader
from spacesfs.errors import BadHandle, Conflict, Exists, FsError, NoSpace
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.ledger import Ledger, Place
from spacesfs.pending.streaming import Stream, Streams
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import conflict_name, name_of, segment_in

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Opened:
    """An inode that is open.

    Attributes:
        writers: How many of its handles can write.
        unlinked_key: The key that it had when its name was removed; the object stays until the last handle is gone.
        dirty_since: When the oldest byte was written that is not acknowledged, in seconds since the epoch.
        error: What the next close has to tell.
        stream: Follows what is written, so that it can be sent at once.
    """

    inode: Inode
    file: OpenFile
    handles: int = 0
    writers: int = 0
    unlinked_key: str | None = None
    dirty_since: float | None = None
    error: Exception | None = None
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Handle:
    """One open of a file; ``thread`` is the id of the program's thread that opened it."""

    opened: Opened
    reader: FileReader
    can_write: bool
    thread: int


class OpenFiles:
    """All files with handles.

    FLUSH makes the bytes so far safe, and so does the last RELEASE with what came after it; then they may go to the
    Space.
    """

    def __init__(
        self, content: FileFactory, table: InodeTable, ledger: Ledger, streams: Streams, *, sends_on_fsync: bool
    ) -> None:
        self._content = content
        self._table = table
        self._ledger = ledger
        self._streams = streams
        self.sends_on_fsync = sends_on_fsync or ledger.is_direct
        self._opened: dict[int, Opened] = {}
        self._unlinked: dict[str, set[Opened]] = {}
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1

    def __iter__(self) -> Iterator[Opened]:
        return iter(list(self._opened.values()))

    def of(self, inode: Inode) -> Opened | None:
        """Return what is open of an inode, if it is."""
        return self._opened.get(inode.number)

    def unsaved(self) -> list[Opened]:
        """Return the files with bytes that are not acknowledged."""
        return [opened for opened in self if not opened.file.is_saved and is_wanted(opened.inode)]

    def is_open(self, inode: Inode) -> bool:
        """Say whether an inode has handles."""
        return inode.number in self._opened

    def is_held(self, intent: Intent) -> bool:
        """Say whether a change has to wait: somebody still writes to the file, or reads the object that would go."""
        if isinstance(intent.want, Absent):
            return bool(self._unlinked.get(intent.key))
        inode = self._table.by_key(intent.key)
        opened = self.of(inode) if inode is not None else None
        return opened is not None and opened.writers > 0 and intent.want.content is not None

    def version_of(self, inode: Inode) -> ObjectVersion | None:
        """Return the object that has an inode's bytes, as far as they are not here; its key may be an older one."""
        opened = self.of(inode)
        return opened.file.base if opened is not None else inode.version

    def size_of(self, inode: Inode) -> int:
        """Return the size of a file in bytes."""
        opened = self.of(inode)
        if opened is not None:
            return opened.file.size
        present = self._ledger.overlay.present(inode.key) if inode.is_linked else None
        if present is not None:
            return present.size
        return inode.version.size if inode.version is not None else 0

    # --- handles

    async def open(self, inode: Inode, flags: int, thread: int = 0) -> int:
        """Open a file that is in the Space or on its way there; return the handle."""
        opened = self.of(inode)
        if opened is None:
            file = await self._file_of(inode)
            opened = self.of(inode) or self._add(inode, file)
        return self._handle(opened, flags, thread)

    async def _file_of(self, inode: Inode) -> OpenFile:
        present = self._ledger.overlay.present(inode.key) if inode.is_linked else None
        if present is None or present.content is None:
            return self._content.existing(inode.version if present is None else present.source)
        return self._content.existing(None, await self._content.contents.get(present.content))

    def create(self, inode: Inode, flags: int, thread: int = 0) -> int:
        """Open a new file; return the handle."""
        opened = self._add(inode, self._content.new())
        opened.dirty_since = time.time()
        return self._handle(opened, flags, thread)

    def handle(self, number: int) -> Handle:
        """Return an open handle.

        Raises:
            BadHandle: It is not open.
        """
        try:
            return self._handles[number]
        except KeyError:
            raise BadHandle from None

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write through a handle; return the bytes written."""
        opened = self.handle(number).opened
        self._note_change(opened)
        content = opened.file.content
        if content is not None and content.is_missing(offset, offset + len(data)):
            await self._complete(opened)
        while True:
            try:
                written = await opened.file.write(offset, data)
            except NoSpace:
                self._ledger.scheduler.hurry_all()
                await self._content.contents.area.wait_for_room(len(data))
            else:
                self._follow(opened, offset, written)
                return written

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Read through a handle; return up to ``length`` bytes, fewer only at the end of the file."""
        handle = self.handle(number)
        content = handle.opened.file.content
        if content is not None and content.is_missing(offset, offset + length):
            await self._complete(handle.opened)
        return await handle.opened.file.read(handle.reader, offset, length)

    async def _complete(self, opened: Opened) -> None:
        """Bytes are needed that only an open upload has: it becomes an object, of which the file is a change then."""
        await self.save(opened)
        await self._send(opened)

    def _follow(self, opened: Opened, offset: int, length: int) -> None:
        """Let a large file go to the Space while it is written."""
        content = opened.file.content
        if content is None:
            return
        if opened.stream is None or opened.stream.content is not content:
            opened.stream = Stream(content)
        if opened.stream.wrote(offset, length) and is_wanted(opened.inode) and not opened.inode.is_displaced:
            self._streams.advance(opened.stream, opened.inode.key, lambda: self._wanted(opened))

    def _wanted(self, opened: Opened) -> Present | None:
        place, content = self._place(opened.inode), opened.file.content
        return self._ledger.with_content(place, content) if place is not None and content is not None else None

    async def truncate(self, opened: Opened, size_bytes: int) -> None:
        """Set the size of an open file."""
        self._note_change(opened)
        content = opened.file.content
        if content is not None and content.is_missing(size_bytes, opened.file.size):
            await self._complete(opened)
        await opened.file.truncate(size_bytes)

    async def clear(self, opened: Opened) -> None:
        """Empty an open file, as O_TRUNC does."""
        self._note_change(opened)
        await opened.file.clear()

    async def flush(self, number: int) -> None:
        """One descriptor of a handle was closed; the bytes so far are safe after this.

        Raises:
            FsError, SpacesError: They are not, or an earlier change of the file could not be brought to the Space.
        """
        handle = self.handle(number)
        if not handle.can_write:
            return
        has_written = handle.opened.file.has_written
        await self.save(handle.opened)
        if self._ledger.is_direct and has_written:
            await self._send(handle.opened)
        self._tell_failure(handle.opened)

    async def fsync(self, number: int) -> None:
        """The bytes are safe after this: here, or where the mount's durability says so in the Space.

        Raises:
            FsError, SpacesError: As `flush`.
        """
        opened = self.handle(number).opened
        await self.save(opened)
        if self.sends_on_fsync:
            await self._send(opened)
        self._tell_failure(opened)

    async def release(self, number: int) -> None:
        """The handle is gone. What a writer wrote is safe, and may go to the Space with the last of them."""
        handle = self._handles.pop(number)
        handle.reader.close()
        opened = handle.opened
        opened.handles -= 1
        opened.writers -= handle.can_write
        if handle.can_write:
            try:
                await self._release_writer(handle)
            except Exception as error:  # noqa: BLE001 - nobody hears what release says; it is logged, and kept in hand
                log.warning("%s is not safe yet: %s", opened.inode.key, error)
        self._let_go(opened)

    async def release_all(self) -> None:
        """The kernel is gone, and all handles with it."""
        for number in list(self._handles):
            await self.release(number)

    async def _release_writer(self, handle: Handle) -> None:
        opened = handle.opened
        await self.save(opened)
        if opened.writers or not is_wanted(opened.inode):
            return
        if self._ledger.is_direct:
            await self._send(opened)
        elif opened.inode.key in self._ledger.overlay:
            self._ledger.closed(handle.thread, opened.inode.key)
            content = opened.file.content
            if content is not None and self._streams.is_under_way(content):
                self._ledger.scheduler.hurry(opened.inode.key)  # a later name or mode is a copy inside the Space anyway

    # --- what is acknowledged

    async def save(self, opened: Opened) -> None:
        """Make the bytes of a file so far safe; of one without a name nobody needs them.

        Raises:
            NoSpace: The local disk is full.
        """
        content, inode = opened.file.content, opened.inode
        if content is None or opened.file.is_saved or not is_wanted(inode):
            return
        if inode.is_displaced:
            await self._take_name(opened, content)
        await self._ledger.save(content, lambda: self._place(inode))
        if opened.file.is_saved:
            opened.dirty_since = None

    async def _take_name(self, opened: Opened, content: Content) -> None:
        """Another host removed or replaced the object: the file gets its name back, or one beside theirs."""
        inode, parent = opened.inode, opened.inode.parent
        assert parent is not None, "the root is no file"
        if self._table.child(parent, inode.name) is None:
            self._table.move(inode, parent, inode.name)
            return
        async with content.lock:
            await content.fill_gaps()
            content.source = None
        self.step_aside(inode)

    def step_aside(self, inode: Inode) -> None:
        """Another host has a file's name: give it one beside, which tells whose it is."""
        parent = inode.parent
        assert parent is not None, "the root is no file"
        taken = parent.children.keys() | self._ledger.overlay.names(parent.key).files.keys()
        self._table.move(inode, parent, name_of(conflict_name(segment_in(inode.name), taken)))
        inode.version = None
        opened = self.of(inode)
        if opened is not None:
            opened.error = Conflict()

    async def claim(self, number: int) -> None:
        """Store a file just created, empty as it is, so that no other host can create it.

        Raises:
            Exists: Another host was first.
        """
        opened = self.handle(number).opened
        await self.save(opened)
        try:
            await self._ledger.send([opened.inode.key])
        except Conflict as error:
            raise Exists from error

    def _place(self, inode: Inode) -> Place | None:
        if not is_wanted(inode):
            return None
        key = inode.key
        version = inode.version
        return Place(key, inode.attributes, version if version is not None and version.key == key else None)

    async def _send(self, opened: Opened) -> None:
        key = opened.inode.key
        if not is_wanted(opened.inode) or key not in self._ledger.overlay:
            return
        try:
            async for _ in self._ledger.scheduler.settle(lambda other: other == key):
                pass
        except Exception:
            opened.error = None  # it is told now
            raise
        opened.file.has_written = False

    def _tell_failure(self, opened: Opened) -> None:
        error = opened.error or self._ledger.scheduler.failure(opened.inode.key)
        opened.error = None
        if error is not None:
            raise error

    # --- names that go, and versions that are replaced

    async def unlink(self, inode: Inode) -> None:
        """Take away the object of a file that has lost its name; while it is open it stays in the Space."""
        key, version = inode.key, inode.version
        opened = self.of(inode)
        if opened is not None:
            opened.unlinked_key = key
            self._unlinked.setdefault(key, set()).add(opened)
        is_there = version is not None and version.key == key
        if is_there or key in self._ledger.overlay:
            remove = self._ledger.doom if opened is not None else self._ledger.remove
            await remove(key, version if is_there else None)

    async def keep_readers(self, version: ObjectVersion) -> None:
        """Let those go on who read a version that is about to be replaced, if that can be done."""
        for opened in self:
            if opened.file.base == version and not opened.inode.is_linked:
                with suppress(FsError, SpacesError):  # they will get ESTALE
                    await opened.file.keep()

    # --- inside

    def _add(self, inode: Inode, file: OpenFile) -> Opened:
        opened = self._opened[inode.number] = Opened(inode, file)
        self._table.pin(inode)
        return opened

    def _handle(self, opened: Opened, flags: int, thread: int) -> int:
        number = self._next_handle
        self._next_handle += 1
        can_write = flags & os.O_ACCMODE != os.O_RDONLY
        if can_write:
            self._ledger.goes_on(thread)
        self._handles[number] = Handle(opened, self._content.reader(), can_write, thread)
        opened.handles += 1
        opened.writers += can_write
        return number

    def _note_change(self, opened: Opened) -> None:
        now_ns = time.time_ns()
        opened.inode.attributes = opened.inode.attributes.touched(now_ns)
        if opened.dirty_since is None:
            opened.dirty_since = now_ns / 1e9

    def _let_go(self, opened: Opened) -> None:
        """Free what nobody holds. Bytes that could not be made safe stay in hand, and `save` is tried again."""
        if opened.handles or self._opened.get(opened.inode.number) is not opened:
            return
        if not opened.file.is_saved and is_wanted(opened.inode):
            return
        del self._opened[opened.inode.number]
        if opened.file.base is not None and opened.inode.is_linked:
            opened.inode.version = opened.file.base
        opened.file.close()
        self._forget_unlinked(opened)
        self._table.unpin(opened.inode)

    def _forget_unlinked(self, opened: Opened) -> None:
        key = opened.unlinked_key
        readers = self._unlinked.get(key) if key is not None else None
        if key is not None and readers is not None:
            readers.discard(opened)
            if not readers:
                del self._unlinked[key]
                self._ledger.scheduler.retry(key)

    async def save_below(self, prefix: str) -> None:
        """Make the bytes of all files under a prefix safe.

        Raises:
            NoSpace: The local disk is full.
        """
        for opened in self.unsaved():
            if opened.inode.key.startswith(prefix):
                await self.save(opened)

    async def save_left(self) -> None:
        """Try again to make safe what no handle holds any more, for the disk was full."""
        for opened in self:
            if not opened.handles:
                with suppress(FsError, OSError):
                    await self.save(opened)
                    if opened.inode.key in self._ledger.overlay:
                        self._ledger.closed(0, opened.inode.key)
                self._let_go(opened)


def is_wanted(inode: Inode) -> bool:
    """Say whether what is written to a file must reach the Space: only an unlink or a rename over it here ends that."""
    return inode.is_linked or inode.is_displaced
