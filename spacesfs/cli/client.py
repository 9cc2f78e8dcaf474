"""The client of the control socket, with plain blocking sockets: the command line needs no event loop."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from spacesfs.errors import MountError
from spacesfs.fuse.messages import (
    MAX_REPLY_BYTES,
    Change,
    Counted,
    Done,
    Drop,
    DropCache,
    Failed,
    MountStatus,
    Refresh,
    Refreshed,
    Reply,
    Request,
    Retry,
    Status,
    Sync,
    SyncDone,
    SyncProgress,
    decode_reply,
    encode_line,
)
from spacesfs.fuse.mountpoint import mount_around
from spacesfs.fuse.sockets import find_socket, live_sockets

_ANSWER_SECONDS = 10.0
_REST_SECONDS = 90.0  # until changes are not under way any more
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class MountGone(MountError):
    """The mount's process does not listen, or ended in mid-answer."""


def serving(path: Path) -> tuple[Path, Path]:
    """Return the mountpoint and the control socket of the mount that ``path`` (links resolved) lies in.

    Raises:
        MountError: It lies in none, or nobody answers for it.
    """
    mount = mount_around(path)
    if mount is None or not mount.is_ours:
        raise MountError(f"{path} is not in a mounted Space; `spacesfs list` shows what is mounted")
    control = find_socket(mount.mountpoint)
    if control is None:
        raise MountError(
            f"nobody answers for {mount.mountpoint}: it belongs to another user, or its process is gone; "
            f"in that case run: spacesfs umount {mount.mountpoint}"
        )
    return mount.mountpoint, control


def all_statuses() -> list[MountStatus]:
    """Return the status of every mount that we may ask; one that ends meanwhile is left out."""
    statuses = []
    for control in live_sockets():
        try:
            statuses.append(ask_status(control))
        except MountError:
            continue
    return sorted(statuses, key=lambda status: status.mountpoint)


def ask_status(control: Path) -> MountStatus:
    """Return the status of the mount behind a control socket.

    Raises:
        MountError: No answer, or not the one asked for.
    """
    with _replies(control, Status(), _ANSWER_SECONDS) as replies:
        for reply in replies:
            if isinstance(reply, MountStatus):
                return reply
            break
    raise MountError("the mount gave no status; see its log")


def sync_steps(control: Path, path: str | None) -> Iterator[SyncProgress]:
    """Bring changes to the Space; yield what is left until nothing is. There is no limit to how long that takes.

    Args:
        control: The mount's socket.
        path: What to sync, relative to the mount's root, or None for everything.

    Raises:
        MountGone: The mount ended first.
        MountError: It can't be done.
    """
    with _replies(control, Sync(path), None) as replies:
        for reply in replies:
            if isinstance(reply, SyncProgress):
                yield reply
            elif isinstance(reply, SyncDone):
                return
    raise MountGone("the mount ended before all was in the Space; see its log")


def ask_retry(control: Path, paths: list[str]) -> int:
    """Have changes tried again at once; return how many.

    Raises:
        MountError: No answer, or not the one asked for.
    """
    return _count(control, Retry(paths))


def ask_drop(control: Path, paths: list[str]) -> int:
    """Have changes forgotten for good; return how many.

    Raises:
        MountError: It can't be done.
    """
    return _count(control, Drop(paths))


def refresh_mount(control: Path, path: str) -> bool:
    """Have a mount forget what it knows at and below a path, relative to its root; say whether the kernel has, too.

    Raises:
        MountError: No answer, or not the one asked for.
    """
    with _replies(control, Refresh(path), _ANSWER_SECONDS) as replies:
        for reply in replies:
            if isinstance(reply, Refreshed):
                return reply.is_complete
            break
    raise MountError("the mount gave no answer; see its log")


def ask_drop_cache(control: Path) -> None:
    """Have what was kept of files forgotten.

    Raises:
        MountError: No answer, or not the one asked for.
    """
    _do(control, DropCache())


def ask_change(control: Path, change: Change) -> None:
    """Have options of the running mount changed.

    Raises:
        MountError: It can't be done.
    """
    _do(control, change)


def _do(control: Path, request: Request) -> None:
    with _replies(control, request, _REST_SECONDS) as replies:
        if not isinstance(next(replies, None), Done):
            raise MountError("the mount gave no answer; see its log")


def _count(control: Path, request: Request) -> int:
    with _replies(control, request, _REST_SECONDS) as replies:
        for reply in replies:
            if isinstance(reply, Counted):
                return reply.changes
            break
    raise MountError("the mount gave no answer; see its log")


def daemon_pid(control: Path) -> int:
    """Return the id of the process behind a control socket, as the kernel knows it.

    Raises:
        MountGone: Nobody listens.
    """
    with _connected(control, _ANSWER_SECONDS) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(credentials)
    return int(pid)


@contextmanager
def _replies(control: Path, request: Request, timeout_seconds: float | None) -> Iterator[Iterator[Reply]]:
    """Send one request and give its replies; a ``Failed`` one is raised.

    Raises:
        MountGone: The mount's process is not there, or ended.
        MountError: It answered ``Failed``, not in time, or nonsense.
    """
    with _connected(control, _ANSWER_SECONDS) as connection, connection.makefile("rb") as lines:
        try:
            connection.sendall(encode_line(request))
            connection.settimeout(timeout_seconds)
            yield _read(lines)
        except UnicodeEncodeError as error:
            raise MountError("the path is not UTF-8; no object can have that name") from error
        except TimeoutError as error:
            raise MountError("the mount does not answer; see its log") from error
        except ConnectionError as error:
            raise MountGone("the mount ended; see its log") from error
        except msgspec.DecodeError as error:
            raise MountError(f"the mount's answer can't be understood: {error}") from error


def _read(lines: BinaryIO) -> Iterator[Reply]:
    while line := lines.readline(MAX_REPLY_BYTES):
        reply = decode_reply(line)
        if isinstance(reply, Failed):
            raise MountError(f"{reply.message} ({reply.errno_name})" if reply.errno_name else reply.message)
        yield reply


@contextmanager
def _connected(control: Path, timeout_seconds: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(str(control))
        except OSError as error:
            raise MountGone(f"the mount does not answer on {control}: {error.strerror or error}") from error
        yield connection
