"""What calls refuse, and with which errno."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

from tests.posix.comparing import as_user, check_same, compared, make, make_of_kind, open_close, told, tree


def _furnish() -> None:
    for kind in ("file", "directory", "fifo", "full directory", "socket"):
        make_of_kind(kind, kind)
    make("present")
    for link, target in {
        "dangling": "nowhere",
        "loop": "loop",
        "to directory": "directory",
        "to file": "file",
    }.items():
        os.symlink(target, link)


def _visit(path: str) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
        os.fchdir(here)
    finally:
        os.close(here)


CALLS: dict[str, Callable[[str], Any]] = {
    "open": lambda path: open_close(path, os.O_RDONLY),
    "create": lambda path: open_close(path, os.O_CREAT | os.O_WRONLY),
    "exclusive": lambda path: open_close(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "stat": lambda path: stat.S_IFMT(os.stat(path).st_mode),
    "lstat": lambda path: stat.S_IFMT(os.lstat(path).st_mode),
    "chmod": lambda path: os.chmod(path, 0o700),
    "chown": lambda path: os.chown(path, 0, 0),
    "lchown": lambda path: os.lchown(path, 0, 0),
    "utime": os.utime,
    "truncate": lambda path: os.truncate(path, 0),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "symlink": lambda path: os.symlink("x", path),
    "readlink": os.readlink,
    "listdir": lambda path: sorted(os.listdir(path)),
    "rename from": lambda path: os.rename(path, "elsewhere"),
    "rename to": lambda path: os.rename("present", path),
    "getxattr": lambda path: os.getxattr(path, "user.x"),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"1"),
    "listxattr": os.listxattr,
    "access": lambda path: os.access(path, os.F_OK),
    "statvfs": lambda path: os.statvfs(path).f_namemax,
    "chdir and back": _visit,
}


@pytest.mark.parametrize(
    "path",
    [
        "absent",
        "absent/x",
        "file/x",
        "file/",
        "file/..",
        "file/.",
        "directory/absent",
        "directory/",
        "directory/.",
        "directory/..",
        ".",
        "..",
        "",
        "fifo/x",
        "dangling",
        "dangling/x",
        "dangling/",
        "loop",
        "loop/x",
        "to directory/",
        "to directory",
        "to file/",
        "to file/x",
        "x" * 255,
        "x" * 256,
        "absent/" + "x" * 256,
        "file/" + "x" * 256,
        "/".join(["directory"] + ["."] * 2000),
        "/".join(["."] * 2100),
        "/".join(["directory", ".."] * 300),
        "full directory",
        "socket",
    ],
    ids=lambda path: path[:30] + f"…{len(path)}" * (len(path) > 30),
)
def test_every_call_on(path: str, mounted: Any, local: Any) -> None:
    def case() -> Any:
        seen = []
        before: list[tuple[str, str]] = []
        for number, (name, call) in enumerate(CALLS.items()):
            if not number or tree() != before:
                os.mkdir(f"../case{number}")
                os.chdir(f"../case{number}")
                _furnish()
                before = tree()
            waits = path in {"fifo", "socket"} and name in {"open", "create"}
            seen.append((name, None if waits else told(call, path), tree()))
        return seen

    def first() -> Any:
        os.mkdir("first")
        os.chdir("first")
        return case()

    check_same(first, mounted, local)


@compared
def test_directories_that_are_not_empty() -> Any:
    seen: list[Any] = []
    for kind in ("file", "directory", "symlink", "fifo", "socket"):
        os.mkdir(f"d-{kind}")
        make_of_kind(kind, f"d-{kind}/x")
        seen.append(told(os.rmdir, f"d-{kind}"))
        (os.rmdir if kind == "directory" else os.unlink)(f"d-{kind}/x")
        seen.append(told(os.rmdir, f"d-{kind}"))
    return [*seen, tree()]


@compared
def test_bad_numbers() -> Any:
    make("f", b"content")
    handle = os.open("f", os.O_RDWR)
    reading = os.open("f", os.O_RDONLY)
    seen = [
        told(os.truncate, "f", -1),
        told(os.ftruncate, handle, -1),
        told(os.ftruncate, reading, 1),
        told(os.lseek, handle, -1, os.SEEK_SET),
        told(os.pread, handle, 5, 100),
        told(os.pread, handle, 5, 2**62),
        told(os.pwrite, handle, b"x", -1),
        told(os.pread, handle, 5, -1),
        told(os.write, reading, b"x"),
        told(os.listdir, handle),
        told(os.fchdir, handle),
    ]
    os.close(handle)
    os.close(reading)
    return seen


@compared
def test_links_to_strange_targets() -> Any:
    seen: list[Any] = []
    for number, target in enumerate(["", "x", "/", ".", "..", "a/b", "x" * 4095, "ü" * 2000, " ", "\n", "\\"]):
        seen += [told(os.symlink, target, f"l{number}"), told(os.readlink, f"l{number}")]
        seen.append(told(lambda number=number: os.lstat(f"l{number}").st_size))
    seen += [told(os.symlink, b"\xff\xfe", b"bytes"), told(os.readlink, b"bytes")]
    return [*seen, told(os.symlink, "x" * 4096, "too long"), tree()]


@compared
def test_into_other_file_systems() -> Any:
    make("f")
    return [told(os.rename, "f", "/proc/x"), told(os.rename, "/proc/version", "x"), told(os.link, "/proc/version", "x")]


@compared
def test_removing_the_current_directory() -> Any:
    os.mkdir("d")
    os.chdir("d")
    os.rmdir("../d")
    seen = [
        os.listdir("."),
        told(open_close, "f", os.O_CREAT | os.O_WRONLY),
        told(os.mkdir, "x"),
        told(os.stat, "..") != "",
    ]
    return [*seen, told(os.rmdir, ".")]


@compared
def test_unprivileged_in_a_directory_of_root() -> Any:
    os.mkdir("d", 0o755)
    make("d/f")
    return [
        as_user(1, call, *arguments)
        for call, arguments in (
            (os.unlink, ("d/f",)),
            (os.unlink, ("d/absent",)),
            (os.rmdir, ("d/absent",)),
            (os.mkdir, ("d/f",)),
            (os.mkdir, ("d/x",)),
            (os.rename, ("d/f", "d/g")),
            (os.rename, ("d/absent", "d/g")),
            (os.symlink, ("x", "d/f")),
            (os.chmod, ("d/absent", 0)),
            (open_close, ("d/f", os.O_WRONLY)),
            (open_close, ("d/f", os.O_CREAT | os.O_EXCL)),
            (open_close, ("d/x", os.O_CREAT)),
        )
    ]


def test_hard_links_are_refused(mounted: Any) -> None:
    """Documented: an object has one key."""
    (mounted / "f").write_bytes(b"x")
    (mounted / "d").mkdir()
    for source, target, code in (
        ("f", "g", "EPERM"),
        ("d", "g", "EPERM"),
        ("f", "d", "EEXIST"),
        ("absent", "g", "ENOENT"),
        ("f", "absent/g", "ENOENT"),
    ):
        assert told(os.link, mounted / source, mounted / target) == code
    assert sorted(os.listdir(mounted)) == ["d", "f"]


def test_mountpoint_is_busy(posix_mount: Any) -> None:
    assert told(os.rmdir, posix_mount.path) == "EBUSY"
    assert told(os.rename, posix_mount.path, posix_mount.path.parent / "x") == "EBUSY"
