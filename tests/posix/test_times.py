"""Which call moves which time, and times as they are set."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Any

from tests.posix.comparing import compared, make, make_of_kind, times_moved, told

KINDS = ("file", "directory", "fifo", "socket", "symlink")


@compared
def test_calls_that_change_a_file() -> Any:
    make("f", b"content")
    os.mkdir("sub")
    handle = os.open("f", os.O_RDWR)
    calls: list[Callable[[], Any]] = [
        lambda: os.chmod("f", 0o600),
        lambda: os.chmod("f", 0o600),
        lambda: os.chown("f", 1, 1),
        lambda: os.chown("f", -1, 2),
        lambda: os.truncate("f", 3),
        lambda: os.truncate("f", 3),
        lambda: os.ftruncate(handle, 5),
        lambda: os.write(handle, b"x"),
        lambda: os.write(handle, b""),
        lambda: os.setxattr("f", "user.x", b"1"),
        lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
        lambda: os.close(os.open("f", os.O_WRONLY)),
        lambda: os.close(os.open("f", os.O_WRONLY | os.O_CREAT)),
        lambda: os.stat("f"),
        lambda: os.utime("f", (5, 5)),
        lambda: told(os.chmod, "f/x", 0o600),
        lambda: told(os.truncate, "f", -1),
    ]
    return [times_moved("f", call) for call in calls]


@compared
def test_calls_that_change_a_directory() -> Any:
    os.mkdir("d")
    os.mkdir("e")
    calls: list[Callable[[], Any]] = [
        lambda: make("d/f"),
        lambda: os.mkdir("d/d"),
        lambda: os.symlink("x", "d/l"),
        lambda: os.mkfifo("d/p"),
        lambda: os.mknod("d/n", stat.S_IFREG | 0o600),
        lambda: os.rename("d/f", "d/g"),
        lambda: os.rename("d/g", "e/g"),
        lambda: os.rename("e/g", "d/g"),
        lambda: os.unlink("d/g"),
        lambda: os.rmdir("d/d"),
        lambda: make("e/elsewhere"),
        lambda: told(os.mkdir, "d/l"),
        lambda: told(os.rmdir, "d/l"),
        lambda: os.close(os.open("d/n", os.O_CREAT | os.O_WRONLY)),
        lambda: os.chmod("d", 0o700),
    ]
    return [times_moved("d", call) for call in calls]


@compared
def test_a_directory_that_was_made_a_while_ago() -> Any:
    """By then its marker is in the Space, with the times of its making."""
    os.mkdir("d")
    os.mkdir("e")
    os.utime("e", (5, 5))
    time.sleep(2.5)
    seen = [times_moved("d", lambda: make("d/f")), times_moved("e", lambda: make("e/f"))]
    os.utime("e", (5, 5))
    return [*seen, os.stat("e").st_mtime, times_moved("d", lambda: os.unlink("d/f"))]


@compared
def test_what_is_new_has_one_time() -> Any:
    seen = []
    for kind in KINDS:
        before = time.time_ns() - 50_000_000
        make_of_kind(kind, kind)
        found = os.lstat(kind)
        seen += [found.st_mtime_ns >= before, found.st_ctime_ns >= before, found.st_atime_ns >= before]
    return seen


@compared
def test_rename_leaves_the_content_time() -> Any:
    seen = []
    for kind in KINDS:
        make_of_kind(kind, kind)
        os.utime(kind, ns=(1_000, 2_000), follow_symlinks=False)
        os.rename(kind, f"{kind}2")
        found = os.lstat(f"{kind}2")
        seen.append((found.st_atime_ns // 1000, found.st_mtime_ns // 1000))
    return seen


@compared
def test_times_set_to_the_nanosecond() -> Any:
    seen = []
    for kind in KINDS:
        make_of_kind(kind, kind)
        for moment in (0, 1, 999_999_999, 1_000_000_001, 2**31 * 10**9 + 7, -1, 4_102_444_800_123_456_789):
            os.utime(kind, ns=(moment, moment + 3), follow_symlinks=False)
            found = os.lstat(kind)
            seen.append((kind, found.st_atime_ns, found.st_mtime_ns))
    return seen


@compared
def test_utime_now() -> Any:
    make("f")
    os.utime("f", (1, 1))
    before = time.time()
    os.utime("f")
    found = os.stat("f")
    return [abs(found.st_mtime - before) < 60, abs(found.st_atime - before) < 60]


@compared
def test_utimensat_omits_and_takes_now() -> Any:
    import ctypes

    class Time(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("ns", ctypes.c_long))

    now, omit = (1 << 30) - 1, (1 << 30) - 2
    libc = ctypes.CDLL(None, use_errno=True)

    def utimensat(path: bytes, atime: tuple[int, int], mtime: tuple[int, int]) -> int:
        times = (Time * 2)(Time(*atime), Time(*mtime))
        return 0 if libc.utimensat(-100, path, times, 0) == 0 else ctypes.get_errno()

    make("f")
    seen: list[Any] = []

    def look() -> None:
        found = os.stat("f")
        times = (found.st_atime_ns, found.st_mtime_ns)
        seen.extend("now" if abs(at - time.time_ns()) < 60 * 10**9 else at for at in times)

    for atime, mtime in (
        ((5, 6), (7, 8)),
        ((0, omit), (9, 10)),
        ((11, 12), (0, omit)),
        ((0, omit), (0, omit)),
        ((0, now), (0, omit)),
        ((1, 1), (0, now)),
        ((0, now), (0, now)),
        ((0, 10**9), (0, 0)),
        ((0, -5), (0, 0)),
    ):
        seen.append(utimensat(b"f", atime, mtime))
        look()
    return seen


@compared
def test_change_time_moves_when_attributes_are_set() -> Any:
    seen = []
    for kind in KINDS:
        make_of_kind(kind, kind)
        seen.append(times_moved(kind, lambda kind=kind: os.utime(kind, (1, 1), follow_symlinks=False)))  # type: ignore[misc]
        seen.append(times_moved(kind, lambda kind=kind: os.lchown(kind, 1, 1)))  # type: ignore[misc]
    return seen


@compared
def test_times_of_an_open_file_that_is_written() -> Any:
    handle = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(handle, b"one")
    os.utime("f", (1, 2))
    seen = [os.fstat(handle).st_mtime]
    os.close(handle)
    return [*seen, os.stat("f").st_mtime]


@compared
def test_times_through_mmap() -> Any:
    import mmap

    make("f", b"x" * 4096)
    os.utime("f", (1, 1))
    handle = os.open("f", os.O_RDWR)
    mapped = mmap.mmap(handle, 4096)
    mapped[0:3] = b"new"
    mapped.flush()
    moved = os.fstat(handle).st_mtime > 1
    mapped.close()
    os.close(handle)
    with open("f", "rb") as file:
        return [moved, file.read(4)]
