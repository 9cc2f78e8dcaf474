"""One connection to a server: a non-blocking socket, plain or TLS, that reads into the caller's memory.

Every wait has its own timeout and is a place where the task may be cancelled; whoever is cancelled in the middle of an
exchange closes the connection. What goes wrong is raised as httpx's transport errors.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import httpx
import trio

from spacesfs.client.wire.pace import Bandwidth

BURST_BYTES = 1 << 20  # what is read or written in one go before other tasks get their turn: about a millisecond of TLS

STALL_SECONDS = 1.0  # when nothing goes out for so long, see whether the server has something to say

RECORD_BYTES = 16 * 1024  # what TLS gives at a time

_EARLY_BYTES = RECORD_BYTES  # more than a refusal is long
_DEFAULT_PORTS = {"https": 443, "http": 80}
_NOT_READABLE = (BlockingIOError, ssl.SSLWantReadError)
_NOT_WRITABLE = (BlockingIOError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads to."""

    is_secure: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Self:
        """Return the origin of a URL."""
        return cls(url.scheme == "https", url.host, url.port or _DEFAULT_PORTS[url.scheme])


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, for bytes to come, for bytes to go, and for a place in the pool."""

    connect: float = float("inf")
    read: float = float("inf")
    write: float = float("inf")
    pool: float = float("inf")

    @classmethod
    def of(cls, request: httpx.Request) -> Self:
        """Return what httpx attached to a request; None there means no limit."""
        given: dict[str, float | None] = request.extensions.get("timeout", {})
        return cls(**{name: seconds for name, seconds in given.items() if seconds is not None})


class Interrupted(Exception):
    """The server says something before it has read all of a request; it may never read the rest."""


class Connection:
    """Owns one socket. One task uses it at a time; `close` may come from anywhere and wakes who waits."""

    def __init__(self, sock: socket.socket, bandwidth: Bandwidth | None = None) -> None:
        self._sock = sock
        self._bandwidth = bandwidth or Bandwidth()
        self._failure: OSError | None = None
        self._early = b""  # came while we were sending
        self.idle_since: float | None = None  # trio's clock; kept by the pool

    async def send(self, data: memoryview, seconds: float) -> None:
        """Send all of ``data``, never copied.

        Raises:
            Interrupted: It stalled, and the server has answered meanwhile.
            httpx.WriteTimeout: Not a byte went out for that many ``seconds``.
            httpx.WriteError: The connection broke.
        """
        has_waited = False
        pace = self._bandwidth.up
        size = pace.slice_bytes(len(data))  # the same until it goes out: TLS wants to be offered the same bytes again
        while data:
            try:
                sent = self._sock.send(data[:size])
                data = data[sent:]
                size = pace.slice_bytes(len(data))
                await pace.pay(sent)
            except _NOT_WRITABLE:
                await self._wait_to_send(seconds)
                has_waited = True
            except ssl.SSLWantReadError:  # TLS has something to agree on first
                await self._wait(trio.lowlevel.wait_readable, seconds, httpx.WriteTimeout, httpx.WriteError)
            except OSError as problem:
                raise httpx.WriteError(str(problem)) from problem
        if not has_waited:
            await trio.lowlevel.checkpoint()

    async def receive_into(self, view: memoryview, seconds: float) -> int:
        """Wait for bytes, and take as many as are there and fit.

        Returns:
            How many bytes of ``view`` are filled; 0 at the end of the stream.

        Raises:
            httpx.ReadTimeout: Not a byte came for that many ``seconds``.
            httpx.ReadError: The connection broke, or TLS ended without saying so.
        """
        if self._early:
            taken = min(len(view), len(self._early))
            view[:taken], self._early = self._early[:taken], self._early[taken:]
            await trio.lowlevel.checkpoint()
            return taken
        has_waited = False
        while True:
            try:
                taken = self._drain(view[: self._bandwidth.down.slice_bytes(BURST_BYTES)])
                await self._bandwidth.down.pay(taken)
            except _NOT_READABLE:
                await self._wait(trio.lowlevel.wait_readable, seconds, httpx.ReadTimeout, httpx.ReadError)
                has_waited = True
            except ssl.SSLWantWriteError:
                await self._wait(trio.lowlevel.wait_writable, seconds, httpx.ReadTimeout, httpx.ReadError)
            except OSError as problem:
                raise httpx.ReadError(str(problem)) from problem
            else:
                if not has_waited:
                    await trio.lowlevel.checkpoint()
                return taken

    def is_quiet(self) -> bool:
        """Tell whether the connection is open and nothing has come unasked: it can carry another request."""
        if self._failure is not None or self._early:
            return False
        try:
            self._sock.recv(1)  # TLS takes its session tickets from the socket this way, which are no data
        except _NOT_READABLE:
            return True
        except OSError:
            return False
        return False  # the end of the stream, or a byte of a reply to nothing

    @property
    def session(self) -> ssl.SSLSession | None:
        """What lets the next TLS connection skip most of the handshake."""
        return self._sock.session if isinstance(self._sock, ssl.SSLSocket) else None

    @property
    def is_resumed(self) -> bool:
        """Whether the handshake was a short one."""
        return isinstance(self._sock, ssl.SSLSocket) and bool(self._sock.session_reused)

    def close(self) -> None:
        """Close the socket; a task that waits for it gets an error."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    async def shake_hands(self, seconds: float) -> None:
        """Make the TLS handshake.

        Raises:
            httpx.ConnectTimeout: No answer in time.
            httpx.ConnectError: It failed; the cause says why.
        """
        assert isinstance(self._sock, ssl.SSLSocket)
        while True:
            try:
                return self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._wait(trio.lowlevel.wait_readable, seconds, httpx.ConnectTimeout, httpx.ConnectError)
            except ssl.SSLWantWriteError:
                await self._wait(trio.lowlevel.wait_writable, seconds, httpx.ConnectTimeout, httpx.ConnectError)
            except OSError as problem:
                raise httpx.ConnectError(str(problem)) from problem

    def _drain(self, view: memoryview) -> int:
        """Fill ``view`` with what is there; TLS gives at most 16 KiB at a time.

        An error behind bytes is kept for the next call: a server may answer and hang up, and its answer counts.
        """
        if self._failure is not None:
            raise self._failure
        taken = 0
        try:
            while taken < len(view):
                count = self._sock.recv_into(view[taken:])
                taken += count
                if not count or len(view) <= RECORD_BYTES:
                    break  # of a head all is there as a rule; asking TLS in vain costs as much as reading it
        except OSError as problem:
            if not taken:
                raise
            if not isinstance(problem, (*_NOT_READABLE, ssl.SSLWantWriteError)):
                self._failure = problem
        return taken

    async def _wait_to_send(self, seconds: float) -> None:
        """Wait until bytes can go out; a server that has refused a request may read no more, and not hang up."""
        waited = 0.0
        while True:
            pause = min(STALL_SECONDS, seconds - waited)
            try:
                return await self._wait(trio.lowlevel.wait_writable, pause, httpx.WriteTimeout, httpx.WriteError)
            except httpx.WriteTimeout:
                if self._has_early_bytes():
                    raise Interrupted from None
                waited += pause
                if waited >= seconds:
                    raise

    def _has_early_bytes(self) -> bool:
        """Look whether the server has said something; what TLS has to say to TLS is no such thing."""
        try:
            self._early = self._sock.recv(_EARLY_BYTES)
        except (*_NOT_READABLE, ssl.SSLWantWriteError):
            return False
        except OSError as problem:
            raise httpx.WriteError(str(problem)) from problem
        return bool(self._early)

    async def _wait(
        self,
        for_what: Callable[[socket.socket], Awaitable[None]],
        seconds: float,
        late: type[httpx.TimeoutException],
        broken: type[httpx.NetworkError],
    ) -> None:
        """Wait for the socket, so long."""
        try:
            with trio.move_on_after(seconds):
                return await for_what(self._sock)
        except trio.ClosedResourceError:
            raise broken("the connection was closed here") from None
        raise late(f"nothing happened for {seconds:g} seconds")


async def connect(
    origin: Origin, tls: ssl.SSLContext, session: ssl.SSLSession | None, seconds: float, bandwidth: Bandwidth
) -> Connection:
    """Connect to a server, to whichever of its addresses answers first.

    Args:
        origin: The server.
        tls: Used where the origin is secure.
        session: Of an earlier connection to the same server.
        seconds: Time for the connection, and again for each step of the handshake.
        bandwidth: What its bytes count towards.

    Raises:
        httpx.ConnectTimeout: No answer in time.
        httpx.ConnectError: It failed; the cause says why.
    """
    sock = await _open_socket(origin, seconds)
    if not origin.is_secure:
        return Connection(sock, bandwidth)
    try:
        # An end of the stream that TLS did not announce is an error: somebody may have cut a reply short.
        secure = tls.wrap_socket(
            sock,
            server_hostname=origin.host,
            session=session,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
    except (OSError, ValueError) as problem:
        sock.close()
        raise httpx.ConnectError(str(problem)) from problem
    connection = Connection(secure, bandwidth)
    try:
        await connection.shake_hands(seconds)
    except BaseException:
        connection.close()
        raise
    return connection


async def _open_socket(origin: Origin, seconds: float) -> socket.socket:
    """Let trio resolve the name and try the addresses; the socket is ours from then on."""
    try:
        with trio.fail_after(seconds):
            stream = await trio.open_tcp_stream(origin.host, origin.port)
    except trio.TooSlowError as problem:
        raise httpx.ConnectTimeout(f"no connection within {seconds:g} seconds") from problem
    except (OSError, UnicodeError) as problem:  # a host that IDNA can't write
        raise httpx.ConnectError(str(problem)) from problem
    family = stream.socket.family
    sock = socket.socket(family, socket.SOCK_STREAM, fileno=stream.socket.detach())
    sock.setblocking(False)
    with suppress(OSError):  # not every kernel has it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)  # trio wants short queues, we few wake-ups
    return sock
