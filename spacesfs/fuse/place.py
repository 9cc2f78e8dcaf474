"""Where a mount is made: at its mountpoint, or aside, to be put in the place of a dead one that still sits there.

An empty directory between two mounts would tell `rsync --delete` that all is gone. So root mounts on a private folder
first, and when the mount answers it takes the dead one's place in a single step: beneath it, and then the dead one is
taken off (Linux 6.5, `MOVE_MOUNT_BENEATH`), or on top of it where the kernel can't, and then the dead one goes when the
mount ends. Users other than root have only fusermount3, which can do neither: for them the dead mount is taken off just
before the new one is made, and the directory is empty for some milliseconds.
"""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from pathlib import Path
from typing import Protocol

from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import is_dead, is_stale, mounted_at, recover_stale_mount, unmount
from spacesfs.fuse.sockets import runtime_directory

log = logging.getLogger(__name__)

_OPEN_TREE, _MOVE_MOUNT = 428, 429  # the same on all architectures
_AT_FDCWD, _OPEN_TREE_CLONE = -100, 1  # linux/mount.h, as all below
_EMPTY_PATH, _BENEATH = 0x4, 0x200  # of move_mount(2)
_MS_BIND = 0x1000
_PREFIX = "aside-"


class Place(Protocol):
    """Where the kernel's side of one mount is.

    Attributes:
        directory: Where to mount.
        recovered: A line on the dead mount whose place it takes, or None.
    """

    directory: Path
    recovered: str | None

    def settle(self) -> None:
        """Be at the mountpoint; called when the mount answers at ``directory``. Blocks, but asks the mount nothing.

        Raises:
            MountError: It can't be brought there.
        """

    def leave(self) -> bool:
        """Take off what `settle` has put there; return whether the one who mounted shall unmount ``directory``."""


def place_for(mountpoint: Path) -> Place:
    """Return where to mount for ``mountpoint`` (absolute, links resolved).

    Raises:
        MountError: A dead mount there can't be taken off, or there is no place aside.
    """
    if os.geteuid() == 0 and is_dead(mountpoint):
        return _Aside(mountpoint)
    return _AtMountpoint(mountpoint)


class _AtMountpoint:
    """The mountpoint itself; what is dead there goes first."""

    def __init__(self, mountpoint: Path) -> None:
        self.directory = mountpoint
        self.recovered = recover_stale_mount(mountpoint)

    def settle(self) -> None:
        """Be there already."""

    def leave(self) -> bool:
        """Leave it to who mounted."""
        return True


class _Aside:
    """A folder of our own, until the mount takes a dead one's place."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = mountpoint
        self._device: str | None = None
        self.recovered: str | None = f"recovered {mountpoint}: a fresh mount takes the place of a dead one"
        try:
            runtime_directory().mkdir(mode=0o700, parents=True, exist_ok=True)
            _clear_left(runtime_directory())
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=runtime_directory()))
        except OSError as error:
            raise MountError(f"can't make a place aside in {runtime_directory()}: {error.strerror}") from error

    def settle(self) -> None:
        """Take the dead mount's place, and leave the folder."""
        aside = mounted_at(self.directory)
        if aside is None or not is_dead(self._mountpoint):
            raise MountError(f"{self._mountpoint} was unmounted meanwhile")
        if put_beneath(self.directory, self._mountpoint):
            unmount(self._mountpoint, lazy=True)
        else:
            put_on_top(self.directory, self._mountpoint)
        self._device = aside.device
        unmount(self.directory, lazy=True)
        self.directory.rmdir()
        _clear_beneath(self._mountpoint, aside.device)

    def leave(self) -> bool:
        """Take the mount off, unless somebody has; then the dead ones that it may stand on."""
        if self._device is not None:
            mount = mounted_at(self._mountpoint)
            if mount is not None and mount.device == self._device:
                unmount(self._mountpoint, lazy=True)
            recover_stale_mount(self._mountpoint)
        try:
            if mounted_at(self.directory) is not None:
                unmount(self.directory, lazy=True)
            self.directory.rmdir()
        except (MountError, OSError) as error:
            log.debug("%s: %s", self.directory, error)
        return False


def _clear_left(folder: Path) -> None:
    """Remove the places of processes that died before their mount was settled."""
    for left in folder.glob(f"{_PREFIX}*"):
        if is_stale(left):
            unmount(left, lazy=True)
            left.rmdir()


def _clear_beneath(mountpoint: Path, device: str) -> None:
    """Take off further dead mounts, which crashes before ours may have left on top of the new one."""
    while (mount := mounted_at(mountpoint)) is not None and mount.device != device and mount.is_ours:
        if not is_stale(mountpoint):
            return
        unmount(mountpoint, lazy=True)


def put_beneath(aside: Path, mountpoint: Path) -> bool:
    """Put the mount on ``aside`` also beneath the one on ``mountpoint``; return False where the kernel can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    tree = libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(aside), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if tree < 0:
        return False
    try:
        flags = _EMPTY_PATH | _BENEATH
        return bool(libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(mountpoint), flags) == 0)
    finally:
        os.close(tree)


def put_on_top(aside: Path, mountpoint: Path) -> None:
    """Put the mount on ``aside`` also on top of the one on ``mountpoint``.

    Raises:
        MountError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(aside), os.fsencode(mountpoint), None, _MS_BIND, None) != 0:
        number = ctypes.get_errno()
        raise MountError(f"{mountpoint}: the fresh mount can't take the dead one's place: {os.strerror(number)}")
