"""The place of a mount: what is mounted there now, whether we may mount, and getting rid of a mount.

All this runs before and after the life of a mount, in a process without an event loop.

A directory that is not empty is refused. fusermount3 would allow it, but what lies there would be hidden, and what
programs write there while the mount is down would be hidden by the next one; s3fs and rclone refuse it too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from spacesfs.errors import MountError
from spacesfs.fuse.programs import bare_environment

FILE_SYSTEM_TYPE = "fuse.spacesfs"
FUSE_DEVICE = Path("/dev/fuse")
_AUTOMOUNT = "autofs"

_MOUNTINFO = Path("/proc/self/mountinfo")
_FUSE_CONF = Path("/etc/fuse.conf")
_FIELDS_BEFORE, _FIELDS_AFTER = 6, 2  # proc(5): fewest fields on each side of the separator
_OCTAL_ESCAPE = re.compile(rb"\\([0-7]{3})")
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # linux/fs.h
_FUSERMOUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo; ``device`` is ``MAJOR:MINOR``."""

    mountpoint: Path
    type: str
    source: str
    device: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is a Space that spacesfs mounted."""
        return self.type == FILE_SYSTEM_TYPE


def parse_mountinfo(content: bytes) -> list[Mount]:
    """Return the mounts in the order they were made. Lines that are not as proc(5) says are left out."""
    mounts = []
    for line in content.split(b"\n"):  # a name may hold any other byte, \r too
        before, separator, after = line.partition(b" - ")
        fields, kind = before.split(b" "), after.split(b" ")
        if separator and len(fields) >= _FIELDS_BEFORE and len(kind) >= _FIELDS_AFTER:
            device = fields[2].decode("ascii", "replace")
            mounts.append(Mount(Path(_unescape(fields[4])), _unescape(kind[0]), _unescape(kind[1]), device))
    return mounts


def mounted_at(path: Path) -> Mount | None:
    """Return what is mounted on exactly ``path`` (absolute, links resolved), topmost first."""
    return next((mount for mount in reversed(_mounts()) if mount.mountpoint == path), None)


def mount_around(path: Path) -> Mount | None:
    """Return the mount that ``path`` (absolute, links resolved) lies in."""
    around = [mount for mount in _mounts() if path.is_relative_to(mount.mountpoint)]
    return max(reversed(around), key=lambda mount: len(mount.mountpoint.parts), default=None)


def is_stale(path: Path) -> bool:
    """Tell whether the process that served the mount on ``path`` is dead.

    statvfs asks it; the attributes that stat wants may still be in the kernel's cache.
    """
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def is_dead(path: Path) -> bool:
    """Tell whether a Space is mounted on ``path`` (absolute, links resolved) whose process is dead."""
    mount = mounted_at(path)
    return mount is not None and mount.is_ours and is_stale(path)


def stale_mounts() -> list[Path]:
    """Return the mountpoints of Spaces whose process is dead."""
    return [mount.mountpoint for mount in _mounts() if mount.is_ours and is_stale(mount.mountpoint)]


def recover_stale_mount(path: Path) -> str | None:
    """Remove what a killed spacesfs left mounted on ``path``; return one line that says so, or None.

    Raises:
        MountError: It can't be removed.
    """
    if not is_dead(path):
        return None
    while is_dead(path):
        unmount(path, lazy=True)
    return f"recovered {path}: a stale mount, left by a process that died, was unmounted"


def check_mountpoint(path: Path, *, allow_other: bool = False) -> None:
    """Check that we can mount on ``path`` (absolute, links resolved); a stale mount of ours is no hindrance.

    Raises:
        MountError: We can't.
    """
    mount = mounted_at(path)
    if mount is not None and mount.type == _AUTOMOUNT:
        pass  # systemd waits for us to mount on it, and who looks into it waits for systemd
    elif mount is None or not mount.is_ours or not is_stale(path):
        _check_free(path, mount)
    _check_fuse_device()
    if os.geteuid() != 0:
        _check_fusermount(allow_other=allow_other)


def _check_free(path: Path, mount: Mount | None) -> None:
    if mount is not None:
        what = f"the Space {mount.source}" if mount.is_ours else f"{mount.source} ({mount.type})"
        raise MountError(f"{path} is busy: {what} is mounted there; unmount it, or choose another directory")
    if (around := mount_around(path)) is not None and around.is_ours:
        raise MountError(f"{path} lies in the Space mounted on {around.mountpoint}; choose a directory outside of it")
    _check_directory(path)


def unmount(path: Path, *, lazy: bool = False) -> None:
    """Unmount ``path``; with ``lazy`` at once from the tree, and for good when nobody uses it any more.

    Raises:
        MountError: A process uses it, or it can't be unmounted.
    """
    if os.geteuid() != 0:
        _run_fusermount(path, lazy=lazy)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) != 0:
        raise _cannot_unmount(path, ctypes.get_errno())


def answers(path: Path) -> bool:
    """Tell whether a file system of its own answers on ``path``."""
    try:
        os.statvfs(path)
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except OSError:
        return False


def _mounts() -> list[Mount]:
    return parse_mountinfo(_MOUNTINFO.read_bytes())


def _unescape(field: bytes) -> str:
    """Undo the kernel's escapes of space, tab, line break and backslash."""
    return os.fsdecode(_OCTAL_ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))


def _check_directory(path: Path) -> None:
    try:
        facts = path.stat()
        if not stat.S_ISDIR(facts.st_mode):
            raise MountError(f"{path} is not a directory; choose an empty directory")
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountError(f"{path} does not exist; make it with: mkdir -p {path}") from None
    except OSError as error:
        raise MountError(f"{path} can't be used: {error.strerror}") from error
    if not is_empty:
        raise MountError(f"{path} is not empty, and a mount would hide what is in it; choose an empty directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise MountError(f"you may not write to {path}; choose a directory of yours")
    if os.geteuid() not in (0, facts.st_uid) and facts.st_mode & stat.S_ISVTX:
        raise MountError(f"{path} is shared (sticky) and not yours; choose a directory of yours")


def _check_fuse_device() -> None:
    hint = "load it with: modprobe fuse; in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        raise MountError(f"{FUSE_DEVICE} is missing; {hint}") from None
    except OSError as error:
        raise MountError(f"{FUSE_DEVICE} can't be opened ({error.strerror}); {hint}") from error


def _check_fusermount(*, allow_other: bool) -> None:
    """Check what users other than root need: they mount with the help of a set-uid program."""
    if shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is missing; install it with: apt install fuse3")
    if allow_other and not _allows_others():
        raise MountError(f"--allow-other needs the line user_allow_other in {_FUSE_CONF}; ask root to add it")


def _allows_others() -> bool:
    try:
        lines = _FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _run_fusermount(path: Path, *, lazy: bool) -> None:
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", os.fspath(path)]
    try:
        done = subprocess.run(
            command,
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=_FUSERMOUNT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise MountError("fusermount3 is missing; install it with: apt install fuse3") from None
    except subprocess.TimeoutExpired:
        raise MountError(f"{path} can't be unmounted: fusermount3 does not come back") from None
    if done.returncode != 0:
        is_busy = "busy" in done.stderr.lower()
        raise (
            _cannot_unmount(path, errno.EBUSY)
            if is_busy
            else MountError(done.stderr.strip() or f"can't unmount {path}")
        )


def _cannot_unmount(path: Path, number: int) -> MountError:
    if number == errno.EBUSY:
        return MountError(f"{path} is busy; see who uses it with: fuser -vm {path}")
    return MountError(f"{path} can't be unmounted: {os.strerror(number)}")
