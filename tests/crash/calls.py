"""What a program of the crash tests does to its folder, as data: written to its log before and after each call.

A log is a file of JSON lines outside the mount. Each call has a number: ``Begun`` is written before the call,
``Reached`` when an fsync or msync in the midst of a file returned, ``Ended`` when the call returned. All that a killed
mount owes can be worked out from that.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec


class Put(msgspec.Struct, frozen=True, tag=True):
    """Write bytes at an offset; `data` makes them of the seed."""

    offset: int
    seed: int
    size: int


class Store(msgspec.Struct, frozen=True, tag=True):
    """Change bytes by a shared mapping, then msync."""

    offset: int
    seed: int
    size: int


class Cut(msgspec.Struct, frozen=True, tag=True):
    """Set the size."""

    size: int


class Sync(msgspec.Struct, frozen=True, tag=True):
    """Call fsync."""


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Do nothing for a while, with the file open."""

    seconds: float


Step: TypeAlias = Put | Store | Cut | Sync | Pause


class Write(msgspec.Struct, frozen=True, tag=True):
    """Open a file, do the steps, close it; acknowledged when close returns. ``flags`` are those of open(2).

    With ``is_shell`` a shell does it, by redirection; then an fsync takes the place of its close, whose result a shell
    does not look at.
    """

    path: str
    flags: int
    mode: int
    steps: list[Step]
    is_shell: bool = False

    @property
    def empties(self) -> bool:
        """Say whether the file is empty after open."""
        return bool(self.flags & (os.O_TRUNC | os.O_EXCL))


class Rename(msgspec.Struct, frozen=True, tag=True):
    """Rename a file, link or directory; ``by_program`` by mv in a process of its own."""

    path: str
    new_path: str
    by_program: bool


class Remove(msgspec.Struct, frozen=True, tag=True):
    """Unlink a file or link."""

    path: str


class MakeDirectory(msgspec.Struct, frozen=True, tag=True):
    """Make a directory."""

    path: str
    mode: int


class RemoveDirectory(msgspec.Struct, frozen=True, tag=True):
    """Remove an empty directory."""

    path: str


class Link(msgspec.Struct, frozen=True, tag=True):
    """Make a symbolic link."""

    path: str
    target: str


class ChangeMode(msgspec.Struct, frozen=True, tag=True):
    """Set permission bits."""

    path: str
    mode: int


class SetTime(msgspec.Struct, frozen=True, tag=True):
    """Set the time of modification."""

    path: str
    mtime_ns: int


Call: TypeAlias = Write | Rename | Remove | MakeDirectory | RemoveDirectory | Link | ChangeMode | SetTime


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A call is about to be made in a folder of the root; paths are below that, and the folder itself is ``""``."""

    number: int
    folder: str
    call: Call


class Reached(msgspec.Struct, frozen=True, tag=True):
    """An fsync or msync in the midst of a Write returned: its first ``steps`` steps are acknowledged."""

    number: int
    steps: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A call returned; ``error`` is the name of its errno, empty for success."""

    number: int
    error: str


Line: TypeAlias = Begun | Reached | Ended

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def data(seed: int, size: int) -> bytes:
    """Return the bytes that a seed stands for."""
    return random.Random(seed).randbytes(size)


class Log:
    """The writing end: each line reaches the kernel before `write` returns, and so outlives its process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, line: Line) -> None:
        """Append a line."""
        os.write(self._file, _ENCODER.encode(line) + b"\n")


def read_log(path: Path) -> Iterator[Line]:
    """Yield the lines of a log."""
    for line in path.read_bytes().splitlines():
        yield _DECODER.decode(line)
