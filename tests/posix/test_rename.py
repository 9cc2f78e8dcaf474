"""Everything renamed over everything, and what must not be."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

from tests.posix.comparing import KINDS, compared, make, make_of_kind, told, tree

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4  # linux/fs.h
_AT_FDCWD = -100


def renameat2(source: str, target: str, flags: int) -> str:
    """Rename with flags; return the name of the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, source.encode(), _AT_FDCWD, target.encode(), flags) == 0:
        return "done"
    return errno.errorcode[ctypes.get_errno()]


@compared
def test_every_kind_over_every_kind() -> Any:
    seen: list[Any] = []
    for source in KINDS:
        for target in (*KINDS, None):
            os.mkdir("case")
            os.chdir("case")
            make_of_kind(source, "source")
            if target is not None:
                make_of_kind(target, "target")
            number = os.lstat("source").st_ino
            seen.append((source, target, told(os.rename, "source", "target"), tree()))
            if os.path.lexists("target") and not os.path.lexists("source"):
                seen.append(os.lstat("target").st_ino == number)
            os.chdir("..")
            os.rename("case", f"{source} over {target}")
    return seen


@compared
def test_every_kind_without_replacing() -> Any:
    seen = []
    for source in KINDS:
        for target in (*KINDS, None):
            os.mkdir("case")
            make_of_kind(source, "case/source")
            if target is not None:
                make_of_kind(target, "case/target")
            seen.append((source, target, renameat2("case/source", "case/target", NOREPLACE), tree("case")))
            os.rename("case", f"{source} over {target}")
    return seen


def test_exchange_is_refused(mounted: Any) -> None:
    """EINVAL, as of a file system that does not know it (documented)."""
    for name in ("a", "b"):
        (mounted / name).write_bytes(name.encode())
    assert renameat2(str(mounted / "a"), str(mounted / "b"), EXCHANGE) == "EINVAL"
    assert renameat2(str(mounted / "a"), str(mounted / "c"), WHITEOUT) == "EINVAL"
    assert renameat2(str(mounted / "a"), str(mounted / "b"), NOREPLACE | EXCHANGE) == "EINVAL"
    assert [(mounted / name).read_bytes() for name in ("a", "b")] == [b"a", b"b"]


@compared
def test_onto_itself() -> Any:
    seen = []
    for kind in KINDS:
        make_of_kind(kind, kind)
        seen += [told(os.rename, kind, kind), renameat2(kind, kind, NOREPLACE)]
    return [*seen, tree()]


@compared
def test_into_itself() -> Any:
    os.makedirs("a/b/c")
    return [
        told(os.rename, "a", "a/x"),
        told(os.rename, "a", "a/b/x"),
        told(os.rename, "a", "a/b"),
        told(os.rename, "a/b", "a"),
        told(os.rename, "a/b/c", "a/b"),
        told(os.rename, "a/b/c", "a"),
        tree(),
    ]


@compared
def test_dots() -> Any:
    os.makedirs("a/b")
    calls = [("a/.", "c"), ("a/..", "c"), ("a", "c/."), ("a/b", "."), ("a/b", ".."), (".", "c"), ("..", "c")]
    return [*(told(os.rename, *call) for call in calls), tree()]


@compared
def test_trailing_slashes() -> Any:
    os.mkdir("d")
    make("f")
    os.symlink("d", "l")
    calls = [("f/", "g"), ("f", "g/"), ("d/", "e/"), ("e", "d/"), ("l/", "m"), ("f", "l/"), ("d", "f/")]
    return [*(told(os.rename, *call) for call in calls), tree()]


@compared
def test_nothing_there() -> Any:
    make("f")
    calls = [("no", "x"), ("no/f", "x"), ("f", "no/x"), ("f/x", "y"), ("f", "f/x"), ("", "x"), ("f", "")]
    return [*(told(os.rename, *call) for call in calls), tree()]


@compared
def test_open_file_keeps_its_bytes() -> Any:
    make("old", b"old")
    make("new", b"new")
    replaced, moved = os.open("new", os.O_RDWR), os.open("old", os.O_RDWR)
    os.rename("old", "new")
    os.pwrite(moved, b"OLD", 0)
    os.pwrite(replaced, b"N", 0)
    seen: list[Any] = [os.pread(replaced, 10, 0), os.pread(moved, 10, 0), os.fstat(replaced).st_nlink]
    seen.append(os.fstat(moved).st_ino == os.stat("new").st_ino)
    os.close(replaced)
    os.close(moved)
    with open("new", "rb") as file:
        return [*seen, file.read(), tree()]


@compared
def test_directory_with_an_open_one_inside() -> Any:
    os.makedirs("a/b")
    make("a/b/f", b"x")
    handle = os.open("a/b", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("a", "c")
    seen = [os.listdir(handle), told(os.stat, "f", dir_fd=handle) != "ENOENT"]
    os.close(os.open("g", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    return [*seen, tree()]


@compared
def test_working_directory_that_moves() -> Any:
    os.makedirs("a/b")
    here = os.open(".", os.O_RDONLY)
    os.chdir("a/b")
    os.rename("../../a", "../../z")
    make("f")
    seen = [os.listdir("."), sorted(os.listdir(".."))]
    os.chdir(here)
    os.close(here)
    return [*seen, tree()]


@compared
def test_over_an_empty_directory_that_is_open() -> Any:
    os.mkdir("a")
    make("a/f")
    os.mkdir("b")
    handle = os.open("b", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("a", "b")
    seen = [told(os.stat, "f", dir_fd=handle), told(os.open, "g", os.O_CREAT | os.O_WRONLY, dir_fd=handle)]
    os.close(handle)
    return [*seen, tree()]


@compared
def test_long_names() -> Any:
    make("f")
    os.mkdir("d")
    longest = "x" * 255
    return [
        told(os.rename, "f", longest),
        told(os.rename, longest, longest + "x"),
        told(os.rename, longest + "x", "y"),
        told(os.rename, "d", longest + "x"),
        told(os.rename, longest, "f"),
        tree(),
    ]


@compared
def test_chains_and_rings() -> Any:
    for name in "abc":
        make(name, name.encode())
    for source, target in (("a", "t"), ("b", "a"), ("c", "b"), ("t", "c"), ("a", "z"), ("z", "a")):
        os.rename(source, target)
    seen = []
    for name in "abc":
        with open(name, "rb") as file:
            seen.append(file.read())
    return [*seen, tree()]


@compared
def test_directories_change_places() -> Any:
    for name in ("a", "b"):
        os.mkdir(name)
        make(f"{name}/{name}", name.encode())
    for source, target in (("a", "t"), ("b", "a"), ("t", "b"), ("a/b", "b/b"), ("b/a", "a/a")):
        os.rename(source, target)
    return tree()


@compared
def test_case_and_suffixes() -> Any:
    make("f")
    os.mkdir("f.d")
    make("f.d/x")
    os.mkdir("f-d")
    return [told(os.rename, "f.d", "F.d"), told(os.rename, "f", "F"), told(os.rename, "f-d", "F.d"), tree()]


@compared
def test_removed_while_renamed() -> Any:
    make("a", b"a")
    handle = os.open("a", os.O_RDWR)
    os.unlink("a")
    make("a", b"b")
    os.rename("a", "c")
    seen = [os.pread(handle, 5, 0), told(os.stat, "a")]
    os.close(handle)
    with open("c", "rb") as file:
        return [*seen, file.read()]
