"""Runs a case in a mount and on a local disk, and holds the two outcomes against each other.

A case runs in a process of its own, in an empty directory, as root; it returns what it saw. Paths are relative, so that
another user can be asked to do something there whatever the directories above allow.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CASE_SECONDS = 120.0
"""For one case on a busy machine; one that hangs ends then."""
OWNER, OTHER, STRANGER = 65534, 65533, 65532
"""Users (and groups of the same number) that own nothing else on this host."""

Case = Callable[[], Any]


def compared(case: Case) -> Callable[[Path, Path], None]:
    """Make a test of a case: its outcome in the mount is that on a local disk."""

    def test(mounted: Path, local: Path) -> None:
        check_same(case, mounted, local)

    test.__name__ = case.__name__
    test.__doc__ = case.__doc__
    return test


def check_same(case: Case, mounted: Path, local: Path) -> None:
    """Fail if a case goes otherwise in the mount than on a local disk, with what differs."""
    expected, found = outcome(case, local), outcome(case, mounted)
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        differ = [
            (at, theirs, ours) for at, (theirs, ours) in enumerate(zip(expected, found, strict=True)) if theirs != ours
        ]
        assert not differ, f"(position, on the local disk, in the mount): {differ}"
    assert found == expected


def outcome(case: Case, directory: Path) -> Any:
    """Run a case in a directory, in a process of its own; return what it returned."""

    def run() -> Any:
        os.umask(0o022)
        os.chdir(directory)
        return case()

    return in_child(run)


def told(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Make a call; return its result, or the name of the errno that it ended with."""
    try:
        return call(*args, **options)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def as_user(uid: int, call: Callable[..., Any], *args: Any, groups: Sequence[int] = (), **options: Any) -> Any:
    """Make a call as another user, whose group has the same number; return as `told` does."""

    def run() -> Any:
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return told(call, *args, **options)

    return in_child(run)


def in_child(run: Callable[[], Any]) -> Any:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(reading)
            signal.alarm(int(CASE_SECONDS))
            answer = pickle.dumps(run())
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
            status = 0
        except BaseException:  # noqa: BLE001 - the child must never return into pytest
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"a process of the case ended with {status}"
    return pickle.loads(answer)  # noqa: S301 - our own child


# --- what cases need again and again


def make(path: str, content: bytes = b"", mode: int = 0o644) -> None:
    """Make a file, of root's unless it is given away."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    os.write(handle, content)
    os.fchmod(handle, mode)
    os.close(handle)


def give(path: str, uid: int, mode: int, gid: int | None = None) -> None:
    """Give a file to a user, and the group of the same number, with a mode."""
    os.chown(path, uid, uid if gid is None else gid, follow_symlinks=False)
    os.chmod(path, mode)


def make_of_kind(kind: str, path: str) -> None:
    """Make a file of one of KINDS."""
    _MAKERS[kind](path)


def _make_full(path: str) -> None:
    os.mkdir(path)
    make(f"{path}/child")


_MAKERS: dict[str, Callable[[str], None]] = {
    "file": make,
    "directory": os.mkdir,
    "full directory": _make_full,
    "symlink": lambda path: os.symlink("nowhere", path),
    "fifo": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o644),
}
KINDS = tuple(_MAKERS)


def open_close(path: str, flags: int, mode: int = 0o644) -> str:
    """Open a file and close it again."""
    os.close(os.open(path, flags, mode))
    return "opened"


def mode_of(path: str) -> int:
    """Return all bits of a mode."""
    return os.lstat(path).st_mode


def owner_of(path: str) -> tuple[int, int]:
    """Return user and group."""
    found = os.lstat(path)
    return found.st_uid, found.st_gid


def times_moved(path: str, act: Callable[[], Any]) -> tuple[bool, bool, bool]:
    """Say which of atime, mtime and ctime an act changes."""
    before = os.lstat(path)
    time.sleep(0.02)  # more than the tick of a local disk's clock
    act()
    after = os.lstat(path)
    return (
        after.st_atime_ns != before.st_atime_ns,
        after.st_mtime_ns != before.st_mtime_ns,
        after.st_ctime_ns != before.st_ctime_ns,
    )


def tree(path: str = ".") -> list[tuple[str, str]]:
    """Return names and kinds of all that is below a path."""
    found = []
    for folder, directories, files in os.walk(path):
        for name in directories + files:
            full = os.path.join(folder, name)
            found.append((os.path.relpath(full, path), stat.filemode(os.lstat(full).st_mode)[0]))
    return sorted(found)
