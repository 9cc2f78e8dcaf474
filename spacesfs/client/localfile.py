"""The local end of a transfer: a file that gets its name only when it is whole. Blocking, but knows no Space."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import trio

from spacesfs.client.hashing import INLINE_BYTES

T = TypeVar("T")


class NewFile:
    """A file under construction beside its final name, which it takes in one step; used as a context manager.

    Left without `commit` it is gone, and what had the name before is untouched. A target that is neither a file nor
    missing, such as ``/dev/null`` or a pipe, is written to directly.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Begin a file.

        Raises:
            FileExistsError: The name is taken, and not to be taken over.
            IsADirectoryError: A directory has the name.
            OSError: It can't be made.
        """
        before = _status(path)
        self.path = path if before is None else Path(os.path.realpath(path))  # through a link, as cp does
        if before is not None and not overwrite:
            raise FileExistsError(errno.EEXIST, "is there already", str(path))
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
        self._overwrite = overwrite
        self._temporary: str | None = None
        if before is not None and not stat.S_ISREG(before.st_mode):
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            return
        temporary = os.path.join(os.path.dirname(self.path), f".spacesfs-{secrets.token_hex(6)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with _named(path):
            self._descriptor = os.open(temporary, flags, 0o666)
        self._temporary = temporary
        if before is not None:
            os.fchmod(self._descriptor, stat.S_IMODE(before.st_mode))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._descriptor)
        if self._temporary is not None:
            with suppress(OSError):
                os.unlink(self._temporary)

    def write(self, data: memoryview) -> None:
        """Append bytes.

        Raises:
            OSError: The disk is full, or what else can go wrong with one.
        """
        with _named(self.path):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def set_time(self, time_ns: int) -> None:
        """Give the file a time of last change, after the last write; a device keeps its own.

        Raises:
            OSError: The file system has no such time.
        """
        if self._temporary is None:
            return
        with _named(self.path):
            os.utime(self._descriptor, ns=(time_ns, time_ns))

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            FileExistsError: Somebody else took the name meanwhile, and it is not to be taken over.
            OSError: It can't have the name.
        """
        if self._temporary is None:
            return
        with _named(self.path):
            if not self._overwrite:
                _link(self._temporary, self.path)
            else:
                os.replace(self._temporary, self.path)
                self._temporary = None


def local_target(path: Path, key: str) -> Path:
    """Return the file that an object goes to: ``path``, or in that directory the last part of the key."""
    return path / key.rstrip("/").rpartition("/")[2] if path.is_dir() else path


async def on_disk(work: Callable[..., T], *arguments: object, size: int = 0) -> T:
    """Do blocking work on a local file: in a thread if it moves more bytes than the hop to one is worth."""
    if size <= INLINE_BYTES:
        return work(*arguments)
    return await trio.to_thread.run_sync(work, *arguments)


def read_exactly(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a file; return how many bytes there were, fewer only at its end."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(descriptor, [buffer[filled:]], offset + filled)
        if not count:
            break
        filled += count
    return filled


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _link(temporary: str, path: Path) -> None:
    """Give a second name, which fails where it is taken; on file systems without hard links check and rename."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "is there already", str(path)) from None
        os.rename(temporary, path)


class _named:  # noqa: N801 - reads as the function it is
    """Let errors of the block name the file that the caller knows, and no other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(self._path), None
