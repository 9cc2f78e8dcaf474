"""`WireTransport`: what sends our requests, with httpx's interface of transports.

A caller that knows where a body belongs puts a `Sink` into the request's extensions; the bytes are then received there,
once and without a copy. The rest of httpx works as usual: `httpx.Response.aiter_raw` yields what no sink took.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn

import httpx

from spacesfs.client.wire.connection import Origin, Timeouts
from spacesfs.client.wire.exchange import Exchange
from spacesfs.client.wire.pace import Bandwidth
from spacesfs.client.wire.pool import Pool, PoolStatistics

SINK = "spacesfs.sink"  # the name of the extension
PIECE_BYTES = 64 * 1024  # of a body without a sink


@dataclass(slots=True)
class Sink:
    """Where the beginning of a reply's body goes.

    Attributes:
        place: Looks at status and headers, and returns the buffer to fill, or None for no buffer. What it raises ends
            the request.
        progress: Is told whenever bytes have come into the buffer.
        filled: How many bytes the buffer has so far; kept by the transport. What does not fit stays in the response.
    """

    place: Callable[[int, httpx.Headers], memoryview | None]
    progress: Callable[[], None] = lambda: None
    filled: int = 0


class WireTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 on trio, called as it is or by `httpx.AsyncClient`.

    It honours the timeouts of httpx (``connect``, ``read``, ``write``, ``pool``) and its extension ``target``. The
    deadline of a whole request is the caller's cancel scope: cancelled anywhere, an exchange closes its connection.
    A request is never sent twice; a connection that the server has closed meanwhile is noticed before it is used.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        connections_per_host: int,
        idle_seconds: float,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        tls.set_alpn_protocols(["http/1.1"])
        self._pool = Pool(
            tls, connections_per_host=connections_per_host, idle_seconds=idle_seconds, bandwidth=bandwidth
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and receive the head of its reply, and of its body what belongs into the sink.

        Raises:
            httpx.TransportError: No reply came, or not a whole one.
        """
        timeouts = Timeouts.of(request)
        connection = await self._pool.acquire(Origin.of(request.url), timeouts)
        exchange = Exchange(connection, timeouts)
        body = _Body(exchange, lambda: self._pool.release(connection, is_reusable=exchange.is_reusable))
        try:
            await exchange.send(request)
            head = await exchange.receive_head()
            headers = httpx.Headers(list(head.headers))
            sink: Sink | None = request.extensions.get(SINK)
            if sink is not None:
                await _fill(sink, head.status_code, headers, exchange)
        except BaseException:
            body.end()
            raise
        extensions = {"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason}
        return httpx.Response(head.status_code, headers=headers, stream=body, extensions=extensions)

    async def tend(self) -> NoReturn:
        """Close connections that nobody has used for a while; a task of the owner's does this, or nobody.

        Without it they are closed with the next request only.
        """
        await self._pool.tend()

    async def aclose(self) -> None:
        """Close all connections."""
        self._pool.close()

    def statistics(self) -> PoolStatistics:
        """Return how many connections there are."""
        return self._pool.statistics()


async def _fill(sink: Sink, status: int, headers: httpx.Headers, exchange: Exchange) -> None:
    """Receive the body into the sink's buffer, until one of them is at its end."""
    view = sink.place(status, headers)
    while view:
        count = await exchange.receive_into(view)
        if not count:
            break
        view = view[count:]
        sink.filled += count
        sink.progress()


class _Body(httpx.AsyncByteStream):
    """The body of a response, to be read once; gives the connection back when it ends or is closed."""

    def __init__(self, exchange: Exchange, release: Callable[[], None]) -> None:
        self._exchange = exchange
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._release is None:
            raise StopAsyncIteration
        piece = bytearray(PIECE_BYTES)
        try:
            count = await self._exchange.receive_into(memoryview(piece))
        except BaseException:
            self.end()
            raise
        if not count:
            self.end()
            raise StopAsyncIteration
        return bytes(memoryview(piece)[:count])

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        """Give the connection back; once."""
        if self._release is not None:
            release, self._release = self._release, None
            release()
