"""The flags of open(2), and what they refuse."""

from __future__ import annotations

import os
import stat
from typing import Any

from tests.posix.comparing import KINDS, as_user, compared, make, make_of_kind, mode_of, open_close, told, tree

READ, WRITE, BOTH = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
NONBLOCK = os.O_NONBLOCK  # or a pipe without a partner would wait for one


@compared
def test_every_kind_with_every_flag() -> Any:
    seen = []
    modifiers = {
        "plain": 0,
        "create": os.O_CREAT,
        "exclusive": os.O_CREAT | os.O_EXCL,
        "truncate": os.O_TRUNC,
        "create and truncate": os.O_CREAT | os.O_TRUNC,
        "append": os.O_APPEND,
        "no follow": os.O_NOFOLLOW,
        "directory": os.O_DIRECTORY,
        "directory, no follow": os.O_DIRECTORY | os.O_NOFOLLOW,
        "path": os.O_PATH,
        "path, no follow": os.O_PATH | os.O_NOFOLLOW,
        "create, no follow": os.O_CREAT | os.O_NOFOLLOW,
        "sync": os.O_SYNC,
        "no access time": os.O_NOATIME,
    }
    for kind in (*KINDS, None):
        for name, modifier in modifiers.items():
            for access in (READ, WRITE, BOTH):
                path = f"{kind} {name} {access}"
                if kind is not None:
                    make_of_kind(kind, path)
                seen.append((path, told(open_close, path, access | modifier | NONBLOCK)))
                seen.append(told(mode_of, path))
    return seen


@compared
def test_links_to_everything() -> Any:
    make("file", b"content")
    os.mkdir("directory")
    os.symlink("file", "to file")
    os.symlink("directory", "to directory")
    os.symlink("to file", "to link")
    os.symlink("loop", "loop")
    os.symlink("b", "a")
    os.symlink("a", "b")
    os.symlink("new", "to new")
    names = ("to file", "to directory", "to link", "loop", "a", "to new")
    seen: list[Any] = []
    for name in names:
        flags = (READ, WRITE, READ | os.O_NOFOLLOW, READ | os.O_DIRECTORY, READ | os.O_PATH | os.O_NOFOLLOW)
        seen += [(name, told(open_close, name, each)) for each in flags]
    seen += [told(open_close, "to new", WRITE | os.O_CREAT | os.O_EXCL), tree()]
    seen += [told(open_close, "to new", WRITE | os.O_CREAT), tree()]
    seen += [told(os.stat, "loop"), told(os.chmod, "loop", 0o600), told(os.truncate, "a", 0), told(os.listdir, "a")]
    seen += [
        told(os.mkdir, "loop/x"),
        told(os.unlink, "loop/x"),
        told(os.rename, "loop/x", "y"),
        told(os.readlink, "a"),
    ]
    return seen


@compared
def test_forty_links_and_one_more() -> Any:
    make("l0", b"x")
    for number in range(1, 43):
        os.symlink(f"l{number - 1}", f"l{number}")
    return [(number, told(open_close, f"l{number}", READ)) for number in (1, 39, 40, 41, 42)]


@compared
def test_exclusive_is_exclusive() -> Any:
    seen = []
    for kind in KINDS:
        make_of_kind(kind, kind)
        seen.append(told(open_close, kind, WRITE | os.O_CREAT | os.O_EXCL))
    return [
        *seen,
        told(open_close, "new", WRITE | os.O_CREAT | os.O_EXCL),
        told(open_close, "new", WRITE | os.O_CREAT | os.O_EXCL),
    ]


@compared
def test_created_read_only_and_written() -> Any:
    handle = os.open("f", os.O_CREAT | os.O_EXCL | WRITE, 0o000)
    seen: list[Any] = [os.write(handle, b"written")]
    os.close(handle)
    seen += [mode_of("f"), as_user(1, open_close, "f", READ), told(open_close, "f", READ), os.stat("f").st_size]
    handle = os.open("g", os.O_CREAT | READ, 0o400)
    seen += [told(os.write, handle, b"x"), os.read(handle, 5)]
    os.close(handle)
    handle = os.open("f", WRITE)
    seen.append(told(os.read, handle, 5))
    os.close(handle)
    return seen


@compared
def test_mode_counts_only_for_a_new_file() -> Any:
    make("f", b"x", 0o640)
    os.close(os.open("f", os.O_CREAT | WRITE, 0o777))
    return mode_of("f")


@compared
def test_truncating() -> Any:
    make("f", b"content")
    os.symlink("f", "l")
    handle = os.open("f", READ)
    os.close(os.open("l", WRITE | os.O_TRUNC))
    seen = [os.fstat(handle).st_size, os.read(handle, 10)]
    os.close(handle)
    make("g", b"content", 0o400)
    seen += [as_user(1, open_close, "g", READ | os.O_TRUNC), os.stat("g").st_size]
    return seen


@compared
def test_appending() -> Any:
    make("f", b"one")
    first, second = os.open("f", WRITE | os.O_APPEND), os.open("f", WRITE | os.O_APPEND)
    os.write(first, b" two")
    os.write(second, b" three")
    os.lseek(first, 0, os.SEEK_SET)
    os.write(first, b" four")
    os.pwrite(first, b" five", 0)  # Linux: appends all the same
    os.close(first)
    os.close(second)
    with open("f", "rb") as file:
        return file.read()


@compared
def test_executing_what_is_written_to() -> Any:
    make("run", b"#!/bin/sh\nexit 0\n", 0o755)
    handle = os.open("run", WRITE)
    seen = [told(os.posix_spawn, "./run", ["./run"], {})]
    os.close(handle)
    pid = os.posix_spawn("./run", ["./run"], {})
    return [*seen, os.waitpid(pid, 0)[1]]


@compared
def test_special_files_of_mknod() -> Any:
    seen: list[Any] = []
    for name, kind in {
        "regular": stat.S_IFREG,
        "none": 0,
        "fifo": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
        "directory": stat.S_IFDIR,
        "link": stat.S_IFLNK,
    }.items():
        seen.append(told(os.mknod, name, kind | 0o640))
        seen.append(told(os.mknod, name, kind | 0o640))
    for name, kind in {"char": stat.S_IFCHR, "block": stat.S_IFBLK}.items():
        seen.append(told(os.mknod, name, kind | 0o640, os.makedev(11, 22)))
        found = os.lstat(name)
        seen.append((found.st_mode, os.major(found.st_rdev), os.minor(found.st_rdev)))
        seen.append(as_user(1, os.mknod, f"{name}2", kind | 0o640, os.makedev(1, 3)))
    return [*seen, tree()]


@compared
def test_pipe_between_processes() -> Any:
    os.mkfifo("p")
    pid = os.fork()
    if not pid:
        handle = os.open("p", WRITE)
        os.write(handle, b"through")
        os._exit(0)
    handle = os.open("p", READ)
    seen = os.read(handle, 100)
    os.close(handle)
    os.waitpid(pid, 0)
    return seen


@compared
def test_socket_carries_bytes() -> Any:
    import socket

    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect("s")
    taken, _ = server.accept()
    client.sendall(b"through")
    seen = [taken.recv(10), stat.S_ISSOCK(os.stat("s").st_mode)]
    for end in (taken, client, server):
        end.close()
    os.unlink("s")
    again = socket.socket(socket.AF_UNIX)
    seen.append(told(again.connect, "s"))
    again.close()
    return seen


def test_unnamed_files_are_refused(mounted: Any) -> None:
    """Documented: the library that talks to the kernel offers no hook."""
    assert told(os.open, mounted, WRITE | os.O_TMPFILE) == "ENOTSUP"
