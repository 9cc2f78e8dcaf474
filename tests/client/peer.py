"""The other end of a connection, byte by byte: says exactly what it is told to, for tests of the transport."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import h11
import httpx
import trio

from spacesfs.client.wire.transport import SINK, Sink, WireTransport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Say:
    """Read a request (or only its head), send bytes, and then keep the connection, end or break it, or read no more."""

    text: bytes
    then: str = "keep"
    is_early: bool = False


@dataclass
class Peer:
    """Takes one step of its script for each request; the last one is repeated.

    Attributes:
        seen: The number of the connection, and the method, target and body of each request.
        free: What it waits for before it answers.
    """

    script: Sequence[Say]
    tls: ssl.SSLContext | None = None
    seen: list[tuple[int, bytes, bytes, bytes]] = field(default_factory=list)
    connections: list[trio.abc.Stream] = field(default_factory=list)
    free: trio.Event = field(default_factory=trio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/"

    async def serve(self, tcp: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        stream: trio.abc.Stream = trio.SSLStream(tcp, self.tls, server_side=True) if self.tls else tcp
        number = len(self.connections)
        self.connections.append(stream)
        connection = h11.Connection(h11.SERVER)
        try:
            while (step := await self._next_step(connection, stream, number)) is not None:
                await stream.send_all(step.text)
                if step.then == "stall":
                    await trio.sleep_forever()
                if step.then == "reset":
                    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if step.then != "keep":
                    await trio.aclose_forcefully(tcp)
                    return
                connection = h11.Connection(h11.SERVER)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            await trio.aclose_forcefully(tcp)

    async def _next_step(self, connection: h11.Connection, stream: trio.abc.Stream, number: int) -> Say | None:
        """Read one request; return what to do about it, None at the end of the connection."""
        head, body = None, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
                continue
            step = self.script[min(len(self.seen), len(self.script) - 1)]
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif head is None:
                return None
            if head is not None and (step.is_early or isinstance(event, h11.EndOfMessage)):
                self.seen.append((number, head.method, head.target, bytes(body)))
                await self.free.wait()
                return step


@asynccontextmanager
async def peer(*script: Say | bytes, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Peer]:
    """Run a peer on a free port of 127.0.0.1, or on the given one."""
    other = Peer([step if isinstance(step, Say) else Say(step) for step in script], tls)
    other.free.set()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, other.serve, port, host="127.0.0.1")
        )
        other.port = listeners[0].socket.getsockname()[1]
        yield other
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def wired(
    tls: ssl.SSLContext | None = None, *, connections: int = 4, idle_seconds: float = 60, patience: float = 5
) -> AsyncIterator[tuple[httpx.AsyncClient, WireTransport]]:
    """Make a client on our transport; when the block ends well, no connection may be in use."""
    context = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    transport = WireTransport(context, connections_per_host=connections, idle_seconds=idle_seconds)
    async with httpx.AsyncClient(transport=transport, timeout=patience, trust_env=False) as client:
        yield client, transport
        assert transport.statistics().active == 0


def receive_into(buffer: bytearray) -> dict[str, Sink]:
    """Return the extensions that make a body go into a buffer."""
    return {SINK: Sink(lambda *_: memoryview(buffer))}
