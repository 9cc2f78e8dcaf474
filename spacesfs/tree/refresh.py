"""Forgetting: what is known of names, here and in the kernel, so that the next look asks the Space."""

from __future__ import annotations

import trio
from cachetools import TTLCache

from spacesfs.tree.inodes import Inode, InodeTable, Kernel
from spacesfs.tree.names import key_of, split_key
from spacesfs.tree.resolver import walk
from spacesfs.tree.view import View

_MAX_DENIED = 50_000


class Refresher:
    """Owns what the kernel was told not to be there, which it believes for ``ttl_seconds``."""

    def __init__(self, table: InodeTable, view: View, kernel: Kernel, ttl_seconds: float) -> None:
        self._table = table
        self._view = view
        self._kernel = kernel
        self._denied: TTLCache[tuple[int, bytes], None] = TTLCache(_MAX_DENIED, ttl_seconds, timer=trio.current_time)

    def note_denied(self, parent: int, name: bytes) -> None:
        """The kernel is told that there is no such name."""
        self._denied[parent, name] = None

    def refresh(self, path: str) -> None:
        """Forget what is known at and below a path, relative to the root; "" is all."""
        path = path.strip("/")
        key = self._table.root.key + key_of(path)
        self._view.refresh(key)
        for parent, name in list(self._denied):
            self._kernel.invalidate_entry(parent, name)
        self._denied.clear()
        prefix, _ = split_key(key)
        above = self._table.by_key(prefix) if path else None
        inode = self._table.by_key(key) or self._table.by_key(key + "/")
        for known in filter(None, (above, inode)):
            self._forget(known)
        for child in walk(inode) if inode is not None else ():
            self._forget(child)

    def _forget(self, inode: Inode) -> None:
        inode.validated_at = float("-inf")
        self._kernel.invalidate_inode(inode.number, attributes_only=True)
        is_held = inode.parent is None or inode.children or inode.attributes.is_directory
        # A directory that is somebody's current one must stay in the tree of the kernel, or it has no path any more.
        if inode.parent is not None and not is_held and inode.is_linked:
            self._table.forget_entry(inode)
