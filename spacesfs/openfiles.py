"""Open files and their handles: who has what open, and what is in hand of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import trio

from spacesfs.client.errors import SpacesError
from spacesfs.client.models import ObjectVersion
from spacesfs.content.file import FileFactory, OpenFile
from spacesfs.content.reader import FileReader
from spacesfs.errors import BadHandle, FsError
from spacesfs.pending.intents import Delete
from spacesfs.pending.scheduler import Scheduler
from spacesfs.publication import RETRY_SECONDS, Opened, Publisher, is_wanted
from spacesfs.tree.inodes import Inode, InodeTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handle:
    """One open of a file."""

    opened: Opened
    reader: FileReader
    can_write: bool


class OpenFiles:
    """All files with handles or unpublished content.

    Content is published by flush (if bytes were written), by fsync, by the last release, and by ``retry_failed`` if
    those failed. Only the last release of an unlinked file throws content away.
    """

    def __init__(self, content: FileFactory, table: InodeTable, scheduler: Scheduler, publisher: Publisher) -> None:
        self._content = content
        self._table = table
        self._scheduler = scheduler
        self._publisher = publisher
        self._opened: dict[int, Opened] = {}
        self._handles: dict[int, Handle] = {}
        self._next_handle = 1

    def of(self, inode: Inode) -> Opened | None:
        """Return what is in hand of an inode, if anything."""
        return self._opened.get(inode.number)

    def unpublished(self) -> list[Opened]:
        """Return what is not (wholly) in the Space: open and written to, or failed to go there."""
        return [opened for opened in self._opened.values() if opened.file.is_dirty and is_wanted(opened.inode)]

    def is_ahead(self, inode: Inode) -> bool:
        """Say whether an inode has content here that is not in the Space."""
        opened = self.of(inode)
        return opened is not None and opened.file.is_dirty

    def is_open(self, inode: Inode) -> bool:
        """Say whether an inode has handles."""
        opened = self.of(inode)
        return opened is not None and opened.handles > 0

    def is_doomed(self, key: str) -> bool:
        """Say whether a key was unlinked here and only waits for its last handle."""
        return any(opened.doomed and opened.inode.key == key for opened in self._opened.values())

    def version_of(self, inode: Inode) -> ObjectVersion | None:
        """Return the version in the Space that an inode stands for."""
        opened = self.of(inode)
        return opened.file.base if opened is not None else inode.version

    def size_of(self, inode: Inode) -> int:
        """Return the size of a file in bytes."""
        opened = self.of(inode)
        if opened is not None:
            return opened.file.size
        return inode.version.size if inode.version is not None else 0

    # --- handles

    def open(self, inode: Inode, flags: int) -> int:
        """Open a file that is in the Space or in hand; return the handle."""
        opened = self.of(inode) or self._add(inode, self._content.existing(inode.version))
        return self._handle(opened, flags)

    def create(self, inode: Inode, flags: int, replaces: ObjectVersion | None) -> int:
        """Open a new file; ``replaces`` is the version that it may overwrite. Return the handle."""
        opened = self._add(inode, self._content.new(replaces))
        opened.dirty_since = time.time()
        return self._handle(opened, flags)

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
        return await opened.file.write(offset, data)

    async def truncate(self, opened: Opened, size_bytes: int) -> None:
        """Set the size of an open file."""
        self._note_change(opened)
        await opened.file.truncate(size_bytes)

    async def clear(self, opened: Opened) -> None:
        """Empty an open file, as O_TRUNC does."""
        self._note_change(opened)
        await opened.file.clear()

    async def flush(self, number: int) -> None:
        """One descriptor of a handle was closed; what was written so far goes to the Space."""
        handle = self.handle(number)
        if handle.can_write and handle.opened.file.has_written:
            await self.publish(handle.opened)

    async def fsync(self, number: int) -> None:
        """The content goes to the Space."""
        await self.publish(self.handle(number).opened)

    async def release(self, number: int) -> None:
        """The handle is gone. What a writer wrote goes to the Space; with the last handle goes the local copy."""
        handle = self._handles.pop(number)
        opened = handle.opened
        opened.handles -= 1
        if handle.can_write and not opened.doomed:
            try:
                await self.publish(opened)
            except Exception as error:  # noqa: BLE001 - publish noted it, and nobody hears what release says
                log.warning("%s is not in the Space yet: %s", opened.inode.key, error)
        await self._let_go(opened)

    async def claim(self, number: int) -> None:
        """Store a file just created, empty as it is, so that no other host can create it.

        Raises:
            Exists: Another host was first.
        """
        await self._publisher.claim(self.handle(number).opened)

    # --- what is not in the Space yet

    async def publish(self, opened: Opened) -> None:
        """Return when the content of a file is acknowledged; see `Publisher.publish`."""
        await self._publisher.publish(opened)

    async def retry_failed(self) -> None:
        """Try again, with growing delay and for as long as it takes, what could not be published. Never returns."""
        while True:
            await trio.sleep(RETRY_SECONDS)
            now = trio.current_time()
            for opened in [opened for opened in self._opened.values() if opened.retry_at <= now]:
                try:
                    await self.publish(opened)
                except Exception as error:  # noqa: BLE001 - publish noted it; the loop must live as long as the mount
                    log.info("%s is still not in the Space: %s", opened.inode.key, error)
                await self._let_go(opened)

    async def save_attributes(self, inode: Inode) -> None:
        """Bring the attributes of a file to its object: with the content if that is yet to come, else alone."""
        opened = self.of(inode)
        if opened is not None and opened.file.is_dirty:
            if not opened.handles:  # on its way, perhaps with the old attributes; publish looks again
                await self.publish(opened)
            return
        version = self.version_of(inode)
        if version is not None:
            await self._publisher.describe(inode, version)

    def rebase(self, inode: Inode, version: ObjectVersion) -> None:
        """The object of an inode has another key or version by now."""
        inode.version = version
        inode.validated_at = trio.current_time()
        opened = self.of(inode)
        if opened is not None:
            opened.file.base = version

    def below(self, prefix: str) -> list[Inode]:
        """Return the files in hand whose objects are under a prefix; also those that have lost their names."""
        return [
            o.inode for o in self._opened.values() if o.file.base is not None and o.file.base.key.startswith(prefix)
        ]

    @contextmanager
    def moving(self, inodes: Iterable[Inode]) -> Iterator[None]:
        """Keep the readers of open files waiting, who miss an object that is getting another key."""
        with ExitStack() as stack:
            for inode in inodes:
                opened = self.of(inode)
                if opened is not None:
                    stack.enter_context(opened.file.moving())
            yield

    async def unlink(self, inode: Inode) -> None:
        """Take the object of a file that has lost its name from the Space: now, or with its last handle."""
        opened = self.of(inode)
        if opened is not None and opened.handles:
            opened.doomed = True
            return
        await self._delete_object(inode)
        if opened is not None:
            self._discard(opened)

    async def delete_doomed(self) -> None:
        """Delete the objects of unlinked files whose handles will not be released any more."""
        for opened in list(self._opened.values()):
            await self._delete_doomed(opened)

    async def take_over(self, key: str) -> ObjectVersion | None:
        """Something new takes the key of an unlinked file that is still open; return the version it may overwrite."""
        for opened in list(self._opened.values()):
            if opened.doomed and opened.inode.key == key:
                async with opened.file.lock:  # an upload under way decides whether there is anything to replace
                    opened.doomed = False
                await self.keep(opened.inode)
                return opened.file.base
        return None

    async def settled_version(self, inode: Inode) -> ObjectVersion | None:
        """Return the version in the Space once no upload is under way."""
        opened = self.of(inode)
        if opened is not None:
            async with opened.file.lock:
                pass
        return self.version_of(inode)

    async def keep(self, inode: Inode) -> None:
        """Let the readers of an open file go on although its object is about to be replaced, if that can be done."""
        opened = self.of(inode)
        if opened is not None and opened.handles:
            with suppress(FsError, SpacesError):  # they will get ESTALE
                await opened.file.keep()

    # --- inside

    def _add(self, inode: Inode, file: OpenFile) -> Opened:
        opened = self._opened[inode.number] = Opened(inode, file)
        self._table.pin(inode)
        return opened

    def _handle(self, opened: Opened, flags: int) -> int:
        number = self._next_handle
        self._next_handle += 1
        can_write = flags & os.O_ACCMODE != os.O_RDONLY
        self._handles[number] = Handle(opened, self._content.reader(), can_write)
        opened.handles += 1
        return number

    def _note_change(self, opened: Opened) -> None:
        now_ns = time.time_ns()
        opened.inode.attributes = opened.inode.attributes.touched(now_ns)
        if opened.dirty_since is None:
            opened.dirty_since = now_ns / 1e9

    async def _let_go(self, opened: Opened) -> None:
        """Free what nobody holds and nothing is left to do for."""
        if opened.handles:
            return
        if opened.file.is_dirty and is_wanted(opened.inode):
            return
        await self._delete_doomed(opened)
        if not opened.doomed and not opened.handles:
            self._discard(opened)

    def _discard(self, opened: Opened) -> None:
        if self._opened.get(opened.inode.number) is not opened:
            return
        opened.inode.version = opened.file.base
        opened.file.drop_staged()
        del self._opened[opened.inode.number]
        self._table.unpin(opened.inode)

    async def _delete_doomed(self, opened: Opened) -> None:
        if not opened.doomed:
            return
        try:
            await self._delete_object(opened.inode)
        except SpacesError as error:
            log.warning("%s was deleted here but is still in the Space: %s", opened.inode.key, error)
            self._publisher.note_failure(opened, error)
            return
        except FsError as error:
            log.warning("%s was deleted here, but another host changed it: %s", opened.inode.key, error)
        opened.doomed = False

    async def _delete_object(self, inode: Inode) -> None:
        await self._scheduler.acknowledge(Delete(lambda: inode.key, lambda: self.version_of(inode)))
