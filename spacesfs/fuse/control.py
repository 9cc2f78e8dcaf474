"""The control socket's server: answers ``spacesfs status``, ``sync``, ``pending`` and others for one mount.

One task per client. Whatever a client sends or omits, it can at worst lose its own connection: requests are short and
must come soon, replies must be taken soon, and errors of the mount are answered, not raised.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from spacesfs.errors import MountError, errno_for
from spacesfs.fuse.messages import (
    MAX_REQUEST_BYTES,
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
    decode_request,
    encode_line,
)
from spacesfs.fuse.sockets import listen

log = logging.getLogger(__name__)

MAX_CLIENTS = 32
REQUEST_SECONDS = 5.0
SEND_SECONDS = 10.0  # for each piece of a reply: a status with all changes of a large rename has many megabytes
PIECE_BYTES = 256 << 10

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class ControlTarget(Protocol):
    """The mount, as the control socket sees it."""

    async def status(self) -> MountStatus:
        """Return how the mount is now."""

    def sync(self, path: str | None) -> AsyncGenerator[SyncProgress, None]:
        """Bring all changes to the Space, or those at and below ``path``; yield what is left, and end when nothing is.

        Raises:
            FsError, SpacesError, MountError: It can't be done.
        """

    def retry(self, paths: list[str]) -> int:
        """Try again at once what waits at and below paths; return how many changes that is."""

    async def drop(self, paths: list[str]) -> int:
        """Forget what waits at and below paths; return how many changes that was.

        Raises:
            FsError, MountError: It can't be done.
        """

    async def refresh(self, path: str) -> bool:
        """Forget what is known of what lies at and below a path; say whether the kernel has, too."""

    async def drop_cache(self) -> None:
        """Forget what was kept of files."""

    async def change(self, change: Change) -> None:
        """Change options of the running mount.

        Raises:
            MountError: One can't be so.
        """


_Brief = Status | Retry | Drop | Refresh | DropCache | Change
"""What is answered by one reply."""


class _BadRequest(Exception):
    """What the client sent is not a request."""


async def serve_control(
    socket_path: Path, target: ControlTarget, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve clients until cancelled; then the socket is gone.

    Raises:
        MountError: The socket can't be made, or another process serves it.
    """
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen(socket_path)))
    identity = _identity(socket_path)
    task_status.started()
    try:
        await trio.serve_listeners(partial(_serve_client, target, trio.CapacityLimiter(MAX_CLIENTS)), [listener])
    finally:
        _remove(socket_path, identity)


def _identity(socket_path: Path) -> int:
    return socket_path.stat().st_ino


def _remove(socket_path: Path, identity: int) -> None:
    """Remove our socket, but not one that a newer mount put in its place since we stopped to listen."""
    try:
        if _identity(socket_path) == identity:
            socket_path.unlink()
    except OSError as error:
        log.debug("control socket %s: %s", socket_path, error)


async def _serve_client(target: ControlTarget, slots: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    """Answer one client; the ones too many are hung up on. Raises nothing but cancellation."""
    async with stream:
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            await _answer(target, stream)
        finally:
            slots.release()


async def _answer(target: ControlTarget, stream: trio.SocketStream) -> None:
    try:
        request = await _receive(stream)
        _check_peer(stream)  # only now: one who is hung up on while still sending would not hear why
    except _BadRequest as error:
        await _send(stream, Failed(str(error), "EINVAL"))
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        log.debug("control client sent nothing: %r", error)
    else:
        if isinstance(request, Sync):
            await _sync_while_connected(target, request.path, stream)
        else:
            await _send(stream, await _reply(target, request))


async def _reply(target: ControlTarget, request: _Brief) -> Reply:
    try:
        return await _perform(target, request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and the server goes on
        return _failure(error)


async def _perform(target: ControlTarget, request: _Brief) -> Reply:
    match request:
        case Status():
            return await target.status()
        case Retry(paths):
            return Counted(target.retry(paths))
        case Drop(paths):
            return Counted(await target.drop(paths))
        case Refresh(path):
            return Refreshed(await target.refresh(path))
        case DropCache():
            await target.drop_cache()
        case Change():
            await target.change(request)
    return Done()


async def _sync_while_connected(target: ControlTarget, path: str | None, stream: trio.SocketStream) -> None:
    """Stream a sync; a client that hangs up ends it, even while nothing is to be said."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_hangup, stream, nursery.cancel_scope)
        await _sync(target, path, stream)
        nursery.cancel_scope.cancel()


async def _sync(target: ControlTarget, path: str | None, stream: trio.SocketStream) -> None:
    reply: Reply = SyncDone()
    try:
        async with aclosing(target.sync(path)) as steps:
            async for step in steps:
                if not await _send(stream, step):
                    return
    except Exception as error:  # noqa: BLE001 - as above
        reply = _failure(error)
    await _send(stream, reply)


async def _cancel_on_hangup(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.receive_some(1)  # a client has nothing more to say, so any answer means that it is done
    scope.cancel()


async def _receive(stream: trio.SocketStream) -> Request:
    """Return the client's request.

    Raises:
        _BadRequest: It is none, or too long.
        trio.BrokenResourceError, trio.TooSlowError: It did not come.
    """
    line = bytearray()
    with trio.fail_after(REQUEST_SECONDS):
        while not line.endswith(b"\n"):
            received = await stream.receive_some(MAX_REQUEST_BYTES)
            if not received:
                raise trio.BrokenResourceError("the client left")
            line += received
            if len(line) > MAX_REQUEST_BYTES:
                raise _BadRequest("the request is too long")
    try:
        return decode_request(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _BadRequest(f"not a request: {error}") from error


async def _send(stream: trio.SocketStream, reply: Reply) -> bool:
    """Send one reply; return whether the client took it in time."""
    try:
        line = encode_line(reply)
    except UnicodeEncodeError:
        line = encode_line(Failed("the reply holds a name that is not text", "EILSEQ"))
    try:
        for start in range(0, len(line), PIECE_BYTES):
            with trio.fail_after(SEND_SECONDS):
                await stream.send_all(line[start : start + PIECE_BYTES])
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        log.debug("control client left or stalled: %r", error)
        return False
    return True


def _check_peer(stream: trio.SocketStream) -> None:
    """Let only the mount's owner and root in, whatever the socket's permissions became."""
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.geteuid()):
        raise _BadRequest("this mount belongs to another user")


def _failure(error: Exception) -> Failed:
    if isinstance(error, MountError):
        return Failed(str(error))
    number = errno_for(error)
    return Failed(str(error) or os.strerror(number), errno.errorcode[number])
