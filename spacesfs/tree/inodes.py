"""Inode numbers: which name each stands for, and how often the kernel holds it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from spacesfs.attributes import Attributes
from spacesfs.client.models import ObjectVersion
from spacesfs.tree.names import is_part, name_beside, name_inside, name_of, segment_in, text_of


class Kernel(Protocol):
    """What the kernel can be told to forget. Nothing of it waits."""

    def invalidate_inode(self, inode: int, *, attributes_only: bool = False) -> None:
        """Forget an inode's attributes and, unless told otherwise, its pages."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Forget what stands under a name."""


class NoKernel:
    """Where there is none."""

    def invalidate_inode(self, inode: int, *, attributes_only: bool = False) -> None:
        """Nobody remembers."""

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Nobody remembers."""


LEAST_INODES = 20_000
INODE_BYTES = 1024  # measured: 850, with name, version and attributes
_LET_GO = 2  # names for each new one
ROOT_NUMBER = 1  # FUSE_ROOT_ID


class Inode:
    """One file or directory that the kernel knows.

    A key is spelt from the parents, so that renaming a directory moves everything below it in one step.

    What has a long name is seen inside directories that are parts of it. Those are inodes, too, but have nothing below
    them here: the long name, as a path, is one in the directory that holds the object, and so is a part.

    Attributes:
        is_part: It is a part of long names.
        version: The object in the Space that the inode stands for; None for what is not in the Space yet, and for a
            directory without a marker.
        attributes: As last known.
        validated_at: When the Space was last asked, in seconds of trio's clock; minus infinity for never.
        is_displaced: True once another host's change took the name, so that what is written here must not be dropped.
        touched_ns: When names in the directory last changed here, which its marker is not told; 0 for never.
        is_kind_known: False while only a listing told of the file; if it turns out a symlink, that is a new inode.
    """

    __slots__ = (
        "attributes",
        "children",
        "is_displaced",
        "is_kind_known",
        "is_part",
        "lookups",
        "name",
        "number",
        "parent",
        "pins",
        "touched_ns",
        "validated_at",
        "version",
    )

    def __init__(self, number: int, name: str, attributes: Attributes, *, parent: Inode | None) -> None:
        self.number = number
        self.name = name
        self.parent = parent
        self.attributes = attributes
        self.version: ObjectVersion | None = None
        self.children: dict[str, Inode] = {}
        self.lookups = 0
        self.pins = 0
        self.touched_ns = 0
        self.validated_at = float("-inf")
        self.is_displaced = False
        self.is_kind_known = True
        self.is_part = parent is not None and is_part(name)

    @property
    def is_linked(self) -> bool:
        """Say whether the inode still has a name."""
        return self.parent is None or self.parent.children.get(self.name) is self

    @property
    def home(self) -> Inode:
        """The directory whose listing shows what is in this one: that where a long name begins, else itself."""
        return self.parent if self.is_part and self.parent is not None else self

    def name_inside(self, name: str) -> str | None:
        """Return the name, in `home`, of what is called ``name`` in this directory; None if nothing can be."""
        return name_inside(self.name, name) if self.is_part else name

    @property
    def key(self) -> str:
        """The key of the object, or of the marker, or of `home`; an unlinked inode keeps the key it had."""
        if self.is_part:
            return self.home.key
        segments = []
        inode = self
        while inode.parent is not None:
            segments.append(segment_in(inode.name))
            inode = inode.parent
        key = inode.name + "/".join(reversed(segments))
        return key + "/" if segments and self.attributes.is_directory else key


class InodeTable:
    """All inodes of a mount.

    An inode lives while the kernel holds it (``lookups``), something here uses it (``pins``), or it has children.
    Only sync methods: each call is atomic between awaits.
    """

    def __init__(
        self,
        prefix: str,
        root_attributes: Attributes,
        kernel: Kernel | None = None,
        limit: int = LEAST_INODES,
    ) -> None:
        """Begin with the root; of more than ``limit`` inodes the kernel is asked to let the oldest go."""
        self._kernel = kernel or NoKernel()
        self.limit = limit
        self._ages: deque[int] = deque()
        self.root = Inode(ROOT_NUMBER, prefix, root_attributes, parent=None)
        self.root.lookups = 1
        self._by_number = {ROOT_NUMBER: self.root}
        self._next_number = ROOT_NUMBER + 1

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Inode:
        return self._by_number[number]

    def place(self, parent: int, name: bytes) -> tuple[Inode, str | None]:
        """Return the directory that holds what the kernel calls ``name`` in a directory, and its name there.

        That is None where nothing can have such a name.

        Raises:
            NameNotUtf8, NameTooLong: As `text_of`.
        """
        directory = self._by_number[parent]
        return directory.home, directory.name_inside(text_of(name))

    def child(self, parent: Inode, name: str) -> Inode | None:
        """Return the inode of a name, or None if nobody holds one."""
        return parent.children.get(name)

    def by_key(self, key: str) -> Inode | None:
        """Return the inode that has a key now, or None if nobody holds one."""
        if not key.startswith(self.root.name):
            return None
        if key == self.root.name:
            return self.root
        *above, last = key[len(self.root.name) :].removesuffix("/").split("/")
        directory: Inode | None = self.root
        for segment in above:
            directory = directory.children.get(name_of(segment)) if directory is not None else None
        if directory is None:
            return None
        for name in (name_of(last), name_beside(last)):
            inode = directory.children.get(name)
            if inode is not None and inode.key == key:
                return inode
        return None

    def add(self, parent: Inode, name: str, attributes: Attributes) -> Inode:
        """Bind a name to a new inode; an inode that had the name is displaced."""
        self.displace(parent, name)
        inode = Inode(self._next_number, name, attributes, parent=parent)
        self._next_number += 1
        self._by_number[inode.number] = inode
        parent.children[name] = inode
        if not attributes.is_directory:
            self._ages.append(inode.number)
            self._keep_limit()
        return inode

    def unlink(self, parent: Inode, name: str) -> None:
        """Take a name from its inode, which lives on while it is held."""
        inode = parent.children.pop(name, None)
        if inode is not None:
            self._reap(inode)

    def displace(self, parent: Inode, name: str) -> None:
        """Another host changed or removed what a name stood for."""
        inode = parent.children.get(name)
        if inode is not None:
            inode.is_displaced = True
            self.forget_entry(inode)
            self.unlink(parent, name)

    def forget_entry(self, inode: Inode) -> None:
        """Have the kernel forget what stands under the name of an inode."""
        part, _, name = inode.name.rpartition("/")
        holder = inode.parent.children.get(part) if part and inode.parent is not None else inode.parent
        if holder is not None:
            self._kernel.invalidate_entry(holder.number, name.encode())

    def move(self, inode: Inode, parent: Inode, name: str) -> None:
        """Give an inode another name; an inode that had it is unlinked."""
        old_parent = inode.parent
        assert old_parent is not None, "the root has no other name"
        self.unlink(parent, name)
        if inode.is_linked:
            del old_parent.children[inode.name]
        inode.parent, inode.name, inode.is_displaced = parent, name, False
        parent.children[name] = inode
        self._reap(old_parent)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel lets go of an inode ``lookups`` times."""
        inode = self._by_number[number]
        inode.lookups -= lookups
        self._reap(inode)

    def pin(self, inode: Inode) -> None:
        """Keep an inode alive until ``unpin``."""
        inode.pins += 1

    def unpin(self, inode: Inode) -> None:
        """Take back one ``pin``."""
        inode.pins -= 1
        self._reap(inode)

    def drop_unused(self, inode: Inode) -> None:
        """Free an inode that was made for an answer the kernel did not take."""
        self._reap(inode)

    def check_invariants(self) -> None:
        """Assert what the class promises."""
        for number, inode in self._by_number.items():
            assert inode.number == number
            assert inode.lookups >= 0 <= inode.pins
            assert not inode.is_linked or inode.parent is None or inode.parent.number in self._by_number

    def _keep_limit(self) -> None:
        """Have the kernel forget old names, a few for each new one: it keeps as many as it has memory, not we.

        Directories stay: one that is a program's current directory would lose its path.
        """
        if len(self._ages) > 2 * max(len(self._by_number), self.limit):
            self._ages = deque(number for number in self._ages if number in self._by_number)
        if len(self._by_number) <= self.limit:
            return
        left = _LET_GO
        while left and self._ages:
            inode = self._by_number.get(self._ages.popleft())
            if inode is None:
                continue
            left -= 1
            self._ages.append(inode.number)
            if inode.parent is not None and inode.is_linked and not inode.pins:
                self.forget_entry(inode)

    def _reap(self, inode: Inode) -> None:
        while inode.parent is not None and not (inode.lookups or inode.pins or inode.children):
            parent = inode.parent
            if parent.children.get(inode.name) is inode:
                del parent.children[inode.name]
            self._by_number.pop(inode.number, None)
            inode = parent
