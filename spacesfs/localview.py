"""What this mount knows better than the Space: intents, and files in hand. The executor's view of the mount, too."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

import trio

from spacesfs.client.models import ListedObject, ObjectInfo, ObjectVersion
from spacesfs.openfiles import OpenFiles
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.names import OWN_BYTES, conflict_name, is_beside, name_beside, name_of, segment_in, split_key
from spacesfs.tree.resolver import Told, ToldNames
from spacesfs.tree.view import Found, View

log = logging.getLogger(__name__)

_REMEMBERED_NOTICES = 20


class LocalView:
    """Joins the overlay and the open files to what the tree asks."""

    def __init__(self, overlay: Overlay, view: View, files: OpenFiles) -> None:
        self._overlay = overlay
        self._view = view
        self._files = files

    def is_ahead(self, inode: Inode) -> bool:
        """Say whether an inode has something here that is not in the Space."""
        opened = self._files.of(inode)
        if opened is not None and not opened.file.is_saved:
            return True
        if inode.is_part:
            return False
        return inode.is_linked and self._overlay.present(inode.key) is not None

    def is_open(self, inode: Inode) -> bool:
        """Say whether an inode has handles."""
        return self._files.is_open(inode)

    def version_of(self, inode: Inode) -> ObjectVersion | None:
        """Return the version that an inode stands for."""
        return self._files.version_of(inode)

    def told(self, prefix: str, name: str) -> Told | None:
        """Return what is acknowledged of a name in a directory; None if the Space's word counts."""
        if name == OWN_BYTES:
            return self._told_own_bytes(prefix)
        segment = segment_in(name)
        key = prefix + segment
        if is_beside(name):  # it is only read and taken away, so there can't be another one here
            return Told(None) if self._overlay.is_absent(key) else None
        directory_key = f"{key}/"
        is_directory = self._overlay.shows_directory(directory_key)
        if is_directory:
            return self._told_directory(directory_key)
        present = self._overlay.present(key) if segment else None  # else the key is the marker of the directory above
        if present is not None:
            return Told(self._found(present))
        if is_directory is False:
            return Told(None)
        return Told(None, asks_space=True) if segment and self._overlay.is_absent(key) else None

    def unsaved_names(self, directory: Inode) -> list[str]:
        """Return the names of open files in a directory that are not acknowledged yet."""
        inodes = (opened.inode for opened in self._files if not opened.file.is_saved)
        return [inode.name for inode in inodes if inode.parent is directory and inode.is_linked]

    def told_names(self, prefix: str) -> ToldNames:
        """Return what is acknowledged of the names in a directory."""
        names = self._overlay.names(prefix)
        directories = _shown(names.directories)
        shown = directories | _shown(names.files)
        hidden = _shown(names.hidden_files) | set(map(name_beside, names.hidden_files))
        own = self._told_own_bytes(prefix)
        if own is not None and own.found is not None:
            shown |= {OWN_BYTES}
        elif own is not None:
            hidden |= {OWN_BYTES}
        return ToldNames(
            shown,
            hidden,
            _shown(names.hidden_directories),
            directories,
        )

    def _told_own_bytes(self, key: str) -> Told | None:
        """Return what is acknowledged of the bytes that a directory's own object has; None if nothing is of that."""
        if key not in self._overlay:
            return None
        present = self._overlay.present(key)
        if present is None or present.source is None or not present.size:
            return Told(None)
        return Told(self._view.glance_at_moved(present.source))

    def _told_directory(self, key: str) -> Told:
        marker = self._overlay.present(key)
        if marker is not None and marker.attributes is not None:
            return Told(Found(marker.attributes, None))
        if marker is not None and marker.source is not None:
            known = self._view.known_marker(marker.source.key)
            return Told(known or self._view.plain_directory())
        return Told(self._view.plain_directory(), asks_space=True)

    def _found(self, present: Present) -> Found:
        if present.attributes is not None:
            return Found(present.attributes, present.source)
        assert present.source is not None, "attributes are given or carried"
        return self._view.glance_at_moved(present.source)


def _shown(segments: Iterable[str]) -> frozenset[str]:
    return frozenset(map(name_of, segments))


class Surroundings:
    """The mount, as those who carry out intents see it.

    Attributes:
        notices: What the user should know of conflicts, one line each.
    """

    def __init__(self, table: InodeTable, view: View, overlay: Overlay, files: OpenFiles) -> None:
        self._table = table
        self._view = view
        self._overlay = overlay
        self._files = files
        self.notices: deque[str] = deque(maxlen=_REMEMBERED_NOTICES)

    def is_held(self, intent: Intent) -> bool:
        """Say whether a program still writes to the file, or reads what would go."""
        return self._files.is_held(intent)

    async def keep_readers(self, version: ObjectVersion) -> None:
        """Let those who read a version go on although it is about to be replaced."""
        await self._files.keep_readers(version)

    def confirmed(self, done: Intent, info: ObjectInfo | ListedObject | None) -> None:
        """Bring the view, the inode and its handles up to date with what the Space holds by now."""
        if info is None:
            self._view.note_removed(done.key)
            return
        if isinstance(info, ListedObject):
            self._view.note_copied(info)
        else:
            self._view.note_stored(info)
        inode = self._table.by_key(done.key)
        if inode is None or inode.attributes.is_directory:
            return
        version = ObjectVersion(info.key, info.etag, info.size)
        opened = self._files.of(inode)
        source = done.want.source if isinstance(done.want, Present) else None
        if opened is not None and opened.file.base is not None and opened.file.base in (source, done.base):
            opened.file.base = version
        inode.version = version
        inode.validated_at = trio.current_time()

    def step_aside(self, intent: Intent) -> str:
        """Another host has the name: give ours one beside it, and return its key."""
        directory_key, name = split_key(intent.key)
        inode = self._table.by_key(intent.key)
        if inode is not None:
            self._files.step_aside(inode)
            ours = inode.key
        else:
            ours = directory_key + conflict_name(name, self._overlay.names(directory_key).files)
        self._view.doubt(directory_key)  # what is known of theirs is old; the next look-up asks
        self._notice(f"{intent.key} was changed by another host; what was written here is kept as {ours}")
        return ours

    def lost(self, intent: Intent, reason: str) -> None:
        """Something acknowledged can't be done any more, through another host's doing; tell the user."""
        self._view.doubt(split_key(intent.key)[0])
        what = "removed" if isinstance(intent.want, Absent) else "made"
        self._notice(f"{intent.key} could not be {what}: {reason}")

    def dropped(self, intent: Intent) -> None:
        """The user has given a change up: the Space is asked what is there."""
        self._view.doubt(split_key(intent.key)[0])
        inode = self._table.by_key(intent.key)
        if inode is not None:
            inode.validated_at = float("-inf")

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        log.warning("%s", text)
