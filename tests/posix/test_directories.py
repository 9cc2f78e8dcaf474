"""Directories read while they change, removed while they are open, and their links."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from tests.posix.comparing import compared, make, told, tree

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.opendir.restype = _LIBC.readdir.restype = ctypes.c_void_p
_LIBC.telldir.restype = ctypes.c_long
for _call in (_LIBC.readdir, _LIBC.telldir, _LIBC.rewinddir, _LIBC.closedir):
    _call.argtypes = (ctypes.c_void_p,)
_LIBC.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
_NAME_AT = 19  # of d_name in struct dirent of 64-bit Linux


class Stream:
    """A DIR of the C library."""

    def __init__(self, path: str) -> None:
        self._dir = _LIBC.opendir(path.encode())
        assert self._dir

    def next(self) -> str | None:
        """Return the next name but those of the directory and its parent; None at the end."""
        while entry := _LIBC.readdir(self._dir):
            name = ctypes.string_at(entry + _NAME_AT).decode()
            if name not in {".", ".."}:
                return name
        return None

    def rest(self) -> list[str]:
        """Return all names from here on."""
        names = []
        while (name := self.next()) is not None:
            names.append(name)
        return names

    def tell(self) -> int:
        """Return the position."""
        return int(_LIBC.telldir(self._dir))

    def seek(self, position: int) -> None:
        """Go back to a position."""
        _LIBC.seekdir(self._dir, position)

    def rewind(self) -> None:
        """Begin anew, with what is there by now."""
        _LIBC.rewinddir(self._dir)

    def close(self) -> None:
        """Close it."""
        _LIBC.closedir(self._dir)


def _fill(path: str, count: int) -> None:
    os.mkdir(path)
    for number in range(count):
        make(f"{path}/{number:04d}")


@compared
def test_dot_and_dot_dot() -> Any:
    os.makedirs("a/b")
    numbers = [os.stat(path).st_ino for path in ("a", "a/.", "a/b/..", "a/b/../../a")]
    stream = Stream("a")
    names = sorted(stream.rest())
    stream.close()
    return [len(set(numbers)), [name for name in names if name not in {".", ".."}]]


@compared
def test_positions() -> Any:
    _fill("d", 300)
    stream = Stream("d")
    marks: list[tuple[int, str | None]] = []
    while True:
        at = stream.tell()
        name = stream.next()
        if name is None:
            break
        marks.append((at, name))
    seen = [sorted(str(name) for _, name in marks if name not in {".", ".."})]
    for at, name in marks[::37]:
        stream.seek(at)
        assert stream.next() == name
    stream.seek(marks[len(marks) // 2][0])
    seen.append([str(stream.rest() == [name for _, name in marks[len(marks) // 2 :]])])
    stream.close()
    return seen


@compared
def test_removed_while_read() -> Any:
    """Each name is seen once; those removed before they come may be missing."""
    _fill("d", 500)
    stream = Stream("d")
    seen = [stream.next() for _ in range(50)]
    kept = {f"{number:04d}" for number in range(0, 500, 7)}
    for number in range(500):
        if f"{number:04d}" not in kept:
            os.unlink(f"d/{number:04d}")
    seen += stream.rest()
    stream.close()
    return [kept <= set(map(str, seen)), len(seen) == len(set(seen)), sorted(os.listdir("d"))]


@compared
def test_added_while_read() -> Any:
    _fill("d", 500)
    stream = Stream("d")
    seen = [stream.next() for _ in range(50)]
    for number in range(500, 700):
        make(f"d/{number:04d}")
    seen += stream.rest()
    old = {f"{number:04d}" for number in range(500)}
    stream.rewind()
    again = stream.rest()
    stream.close()
    return [old <= set(map(str, seen)), len(seen) == len(set(seen)), len(again), len(os.listdir("d"))]


@compared
def test_renamed_while_read() -> Any:
    _fill("d", 200)
    stream = Stream("d")
    seen = [str(stream.next()) for _ in range(20)]
    for number in range(0, 200, 5):
        os.rename(f"d/{number:04d}", f"d/x{number:04d}")
    seen += stream.rest()
    stream.close()
    stayed = {f"{number:04d}" for number in range(200) if number % 5}
    return [stayed <= set(seen), len(seen) == len(set(seen))]


@compared
def test_read_after_rmdir() -> Any:
    os.mkdir("d")
    handle = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("d")
    seen = [os.listdir(handle), told(os.mkdir, "x", dir_fd=handle), told(os.stat, "d"), os.fstat(handle).st_nlink]
    os.close(handle)
    return [*seen, tree()]


@compared
def test_made_again_after_rmdir() -> Any:
    os.mkdir("d")
    first = os.stat("d").st_ino
    handle = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("d")
    os.mkdir("d")
    make("d/f")
    seen = [os.listdir(handle), os.stat("d").st_ino != first, tree()]
    os.close(handle)
    return seen


@compared
def test_file_and_directory_take_turns() -> Any:
    seen = []
    for _ in range(3):
        make("x", b"file")
        os.unlink("x")
        os.mkdir("x")
        make("x/y")
        seen.append(tree())
        os.unlink("x/y")
        os.rmdir("x")
        os.symlink("y", "x")
        os.unlink("x")
    return [*seen, tree()]


@compared
def test_deep() -> Any:
    for _ in range(60):
        os.mkdir("d")
        os.chdir("d")
    make("f", b"x")
    for _ in range(60):
        os.chdir("..")
    return [os.stat("/".join(["d"] * 60 + ["f"])).st_size, len(tree())]


@compared
def test_names_of_every_byte_that_is_text() -> Any:
    names = [chr(code) for code in range(1, 0x180) if chr(code) not in "/."] + ["\u2028", "\ufeff", "\U0001f680"]
    for name in names:
        make(name, name.encode())
    seen = [sorted(os.listdir(".")) == sorted(names)]
    for name in names:
        with open(name, "rb") as file:
            seen.append(file.read() == name.encode())
        os.rename(name, name + "x")
        os.unlink(name + "x")
    return [*seen, tree()]


@compared
def test_numbers_are_of_files() -> Any:
    os.mkdir("d")
    make("d/a")
    make("d/b")
    with os.scandir("d") as entries:
        listed = {entry.name: entry.inode() for entry in entries}
    return [{name: number == os.stat(f"d/{name}").st_ino for name, number in listed.items()}, len(set(listed.values()))]


@compared
def test_fsync_of_a_directory() -> Any:
    os.mkdir("d")
    make("d/f")
    handle = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    seen = [told(os.fsync, handle), told(os.fdatasync, handle)]
    os.close(handle)
    return seen


def test_links_of_a_directory(mounted: Any) -> None:
    """Documented: 2, whatever it holds, as to count its sub-directories it would have to be listed."""
    (mounted / "d" / "e").mkdir(parents=True)
    assert (mounted / "d").stat().st_nlink == 2
    assert (mounted / "d" / "e").stat().st_nlink == 2
