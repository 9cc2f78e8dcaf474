"""How the content of a file gets to the Space, and what becomes of it when that fails."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from dataclasses import dataclass, field

import trio

from spacesfs.attributes import Attributes
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.file import OpenFile
from spacesfs.errors import Conflict, Exists, NotFound
from spacesfs.pending.intents import Publish
from spacesfs.pending.scheduler import Scheduler
from spacesfs.properties import PropertyKeeper, with_attributes
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import conflict_name, split_key
from spacesfs.tree.view import View

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # the first delay; it doubles with each failure
_MAX_DOUBLINGS = 6  # so a retry at least every 64 seconds
_REMEMBERED_NOTICES = 20


@dataclass(slots=True, eq=False)
class Opened:
    """An inode with content in hand.

    ``handles`` may be 0 while the content waits to be published. ``doomed`` is set while the file is open but unlinked:
    its object goes with the last handle.
    """

    inode: Inode
    file: OpenFile
    handles: int = 0
    doomed: bool = False
    dirty_since: float | None = None
    attempts: int = 0
    error: str = ""
    retry_at: float = field(default=float("inf"))


class Publisher:
    """Publishes files, and keeps beside what another host's change leaves no name for.

    Attributes:
        notices: What the user should know of conflicts, one line each.
    """

    def __init__(self, table: InodeTable, view: View, scheduler: Scheduler, properties: PropertyKeeper) -> None:
        self._table = table
        self._view = view
        self._scheduler = scheduler
        self._properties = properties
        self.notices: deque[str] = deque(maxlen=_REMEMBERED_NOTICES)

    async def publish(self, opened: Opened) -> None:
        """Return when the content is acknowledged; a clean or unlinked file needs nothing.

        Raises:
            Conflict: Another host changed the object first; the content is kept beside it, under a conflict name.
            FsError, SpacesError: It did not work; the content stays in hand and is tried again.
        """
        inode = opened.inode
        if not opened.file.is_dirty or not is_wanted(inode):
            return
        if inode.is_displaced and inode.parent is not None and self._table.child(inode.parent, inode.name) is None:
            self._table.move(inode, inode.parent, inode.name)  # another host removed it; what is written here counts
        try:
            await self._acknowledge(opened)
        except Exception as error:
            if not is_wanted(inode):  # unlinked meanwhile
                return
            self.note_failure(opened, error)
            if isinstance(error, Conflict):
                await self._keep_beside(opened)
            raise

    async def claim(self, opened: Opened) -> None:
        """Store a file just created, empty as it is, so that no other host can create it.

        Raises:
            Exists: Another host was first.
        """
        if opened.file.base is not None:  # it takes the place of an object that was unlinked here
            return
        try:
            await self._acknowledge(opened)
        except Conflict as error:
            self._view.doubt(split_key(opened.inode.key)[0])
            raise Exists from error

    async def describe(self, inode: Inode, version: ObjectVersion) -> None:
        """Bring the attributes of a file to its object, the content staying as it is."""
        await self._properties.change(version, with_attributes(inode.attributes))

    def note_failure(self, opened: Opened, error: Exception) -> None:
        """Remember why something did not get to the Space, and when to try again."""
        opened.attempts += 1
        opened.error = str(error) or type(error).__name__
        opened.retry_at = trio.current_time() + RETRY_SECONDS * 2 ** min(opened.attempts - 1, _MAX_DOUBLINGS)

    async def _acknowledge(self, opened: Opened) -> None:
        inode, file = opened.inode, opened.file
        if inode.is_displaced:
            raise Conflict
        sent: list[Attributes] = []

        async def properties() -> ObjectProperties:
            if not inode.is_linked:
                raise NotFound
            sent[:] = [inode.attributes]
            return await self._properties.for_file(file.base, inode.name, inode.attributes)

        await self._scheduler.acknowledge(Publish(file, lambda: inode.key, properties))
        inode.validated_at = trio.current_time()
        opened.dirty_since, opened.attempts, opened.error, opened.retry_at = None, 0, "", float("inf")
        if sent and sent[0] is not inode.attributes and not file.is_dirty and file.base is not None:
            await self.describe(inode, file.base)  # changed while the content was on its way

    async def _keep_beside(self, opened: Opened) -> None:
        """Another host was first: its version keeps the name, our file goes on under one that says so."""
        inode, theirs = opened.inode, opened.inode.key
        parent, stamp = inode.parent, time.strftime("%Y%m%dT%H%M%S")
        assert parent is not None, "the root is no file"
        await opened.file.detach()
        name = conflict_name(inode.name, socket.gethostname(), stamp, lambda name: name in parent.children)
        self._table.move(inode, parent, name)
        self._view.doubt(split_key(theirs)[0])  # what is known of theirs is old; the next look-up asks
        await self.publish(opened)
        notice = f"{theirs} was changed by another host; what was written here is kept as {inode.key}"
        self.notices.append(notice)
        log.warning("%s", notice)


def is_wanted(inode: Inode) -> bool:
    """Say whether what is written to a file must reach the Space: only an unlink or a rename over it here ends that."""
    return inode.is_linked or inode.is_displaced
