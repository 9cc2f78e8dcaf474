"""One request and its reply on one connection.

h11 reads and writes heads, and bodies in chunks. A body of known length does not pass through it: its bytes go from the
socket to where the caller wants them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import h11
import httpx

from spacesfs.client.wire.connection import RECORD_BYTES, Connection, Interrupted, Timeouts

MAX_HEAD_BYTES = 64 * 1024  # S3 sends about 1 KiB, and 2 KiB more of metadata; h11 refuses a longer one
MAX_INTERIM_REPLIES = 16  # 100 Continue and its kind; a server that sends more of them is not serious
READ_BYTES = RECORD_BYTES  # for heads and chunks
JOINED_BYTES = 64 * 1024  # a body up to this goes out with its head: copying it costs less than one more packet

_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class Exchange:
    """The state of one request on one connection: first `send`, then `receive_head`, then `receive_into` to the end.

    Whoever makes it asks `is_reusable` at the end, whatever happened before.
    """

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._ahead = memoryview(b"")  # of the body, came with the head or in a chunk
        self._left: int | None = None  # of the body, ``_ahead`` included; None when only its end will tell
        self._is_overlong = False
        self._is_bodiless = False

    async def send(self, request: httpx.Request) -> None:
        """Send the head and the body, piece by piece as it comes.

        A server may refuse a request before it has read all of it, and hang up, or read no more; what it said can still
        be read. So a connection that breaks or stalls while sending is no error yet.

        Raises:
            httpx.WriteTimeout: Not a byte went out for too long.
            httpx.LocalProtocolError: No such head or body is possible.
        """
        self._is_bodiless = request.method == "HEAD"
        target = request.extensions.get("target", request.url.raw_path)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        try:
            head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
            await self._send_all(self._protocol.send(head) or b"", request.stream)
        except h11.LocalProtocolError as problem:
            raise httpx.LocalProtocolError(str(problem)) from problem
        except (httpx.WriteError, Interrupted):
            return

    async def receive_head(self) -> h11.Response:
        """Wait for the reply and return its head, past all interim ones.

        Raises:
            httpx.ReadTimeout: Not a byte came for too long.
            httpx.ReadError: The connection broke.
            httpx.RemoteProtocolError: What came is no HTTP, or the server hung up without a word.
        """
        for _ in range(MAX_INTERIM_REPLIES):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                self._look_at_body(event)
                return event
        raise httpx.RemoteProtocolError("nothing but interim replies")

    async def receive_into(self, view: memoryview) -> int:
        """Fill the beginning of ``view`` with what has come of the body.

        Returns:
            The number of bytes; 0 at the end of the body.

        Raises:
            httpx.ReadTimeout, httpx.ReadError: As above.
            httpx.RemoteProtocolError: The body is shorter than promised, or its chunks make no sense.
        """
        if self._left is None and not self._ahead:
            self._ahead = await self._next_chunk()
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
        elif self._left:
            count = await self._connection.receive_into(view[: self._left], self._timeouts.read)
            if not count:
                raise httpx.RemoteProtocolError(f"the body ended {self._left} bytes too early")
        else:
            return 0
        if self._left is not None:
            self._left -= count
        return count

    @property
    def is_reusable(self) -> bool:
        """Whether everything was sent and received, not a byte more, and the server did not ask to hang up."""
        return self._left == 0 and not self._is_overlong and self._protocol.our_state is h11.DONE

    async def _send_all(self, head: bytes, stream: httpx.AsyncByteStream) -> None:
        """Send a head, and the body piece by piece; a small first one goes out with the head."""
        pieces = aiter(stream)
        try:
            async for piece in pieces:
                for framed in self._protocol.send_with_data_passthrough(h11.Data(data=piece)) or ():
                    if head and len(framed) <= JOINED_BYTES:
                        await self._send(b"".join((head, framed)))
                    else:
                        await self._send(head)
                        await self._send(framed)
                    head = b""
        finally:
            if isinstance(pieces, AsyncGenerator):  # trio wants those to be closed, and httpx makes such
                await pieces.aclose()
        await self._send(head + (self._protocol.send(h11.EndOfMessage()) or b""))

    async def _send(self, data: bytes) -> None:
        if data:
            await self._connection.send(memoryview(data), self._timeouts.write)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        """Return the next event of the reply; bytes are read as needed."""
        while True:
            with _remote_errors():
                event = self._protocol.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # mypy can't tell h11's sentinels apart
            buffer = bytearray(READ_BYTES)
            count = await self._connection.receive_into(memoryview(buffer), self._timeouts.read)
            with _remote_errors():
                self._protocol.receive_data(bytes(memoryview(buffer)[:count]))

    def _look_at_body(self, head: h11.Response) -> None:
        """Find out how long the body is, and take what has come with the head."""
        headers = dict(head.headers)
        if self._is_bodiless or head.status_code in _BODILESS:
            self._left = 0
        elif b"transfer-encoding" not in headers and b"content-length" in headers:
            self._left = int(headers[b"content-length"])
        else:
            return
        came = self._protocol.trailing_data[0]
        self._ahead = memoryview(came)[: self._left]
        self._is_overlong = len(came) > self._left

    async def _next_chunk(self) -> memoryview:
        """Return the next bytes of a body that h11 takes apart; none at its end."""
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                return memoryview(event.data)
            if isinstance(event, h11.EndOfMessage):
                self._left = 0
                self._is_overlong = self._protocol.trailing_data != (b"", False)
                return memoryview(b"")


@contextmanager
def _remote_errors() -> Iterator[None]:
    """Say in httpx's words what h11 thinks of the server."""
    try:
        yield
    except h11.RemoteProtocolError as problem:
        raise httpx.RemoteProtocolError(str(problem)) from problem
