"""What one attempt of a call moves: its body on the way out, the reply on the way in, and the count of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
import trio

from spacesfs.client.call import Call, Reply, RequestRecord
from spacesfs.client.hashing import Body
from spacesfs.client.wire.transport import Sink
from spacesfs.client.xmltree import Malformed

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024  # a listing of 1,000 keys of 1,024 bytes, each byte escaped, is 6 MB
SEND_PIECE_BYTES = 256 * 1024  # the timeout counts from piece to piece, so a piece must go through a slow line in time


@dataclass(slots=True)
class Traffic:
    """What one attempt has moved so far; ``heard`` is told whenever something moves, so it must be quick."""

    attempt: int
    heard: Callable[[], None]
    status: int | None = None
    sent: int = 0
    received: int = 0

    def record(self, call: Call, seconds: float) -> RequestRecord:
        """Return the attempt as metrics and logs see it."""
        return RequestRecord(
            call.operation_class, call.operation, self.status, seconds, self.sent, self.received, self.attempt
        )


class BodyStream(httpx.AsyncByteStream):
    """A body in pieces that are not copied before the socket; to be read once.

    Not a generator: httpx leaves those behind unfinished when sending is cancelled, and trio then complains.
    """

    def __init__(self, body: Body, traffic: Traffic) -> None:
        self._body = memoryview(body).cast("B")
        self._traffic = traffic
        self._taken = 0

    def drop(self) -> None:
        """Let go of the bytes: an error may keep the request, which would keep them."""
        self._body = memoryview(b"")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._taken:
            self._traffic.heard()
        self._traffic.sent = self._taken  # whoever asks for more has sent what it had
        piece = self._body[self._taken : self._taken + SEND_PIECE_BYTES]
        if not piece:
            raise StopAsyncIteration
        self._taken += len(piece)
        return piece  # type: ignore[return-value]  # httpx says bytes and takes any buffer


class Landing:
    """Where the reply to one attempt goes: into the call's own buffer if it succeeds and has one, else a document."""

    def __init__(self, call: Call, traffic: Traffic) -> None:
        self._call = call
        self._traffic = traffic
        self._buffer: memoryview | None = None
        self.sink = Sink(self._place, self._progress)

    def _place(self, status: int, headers: httpx.Headers) -> memoryview | None:
        """Note the status, and return the buffer that the body should fill."""
        self._traffic.status = status
        self._traffic.heard()
        if self._call.into is not None and httpx.codes.is_success(status):
            self._buffer = self._call.into(Reply(status, headers))
        return self._buffer

    def _progress(self) -> None:
        """Something came: tell so, and the caller what is there of its buffer."""
        self._traffic.heard()
        if self._call.on_bytes is not None:
            self._call.on_bytes(self.sink.filled)

    def drop(self) -> None:
        """Part from the sink, which refers back: such a ring keeps the call's bytes until the next collection."""
        del self.sink

    async def receive(self, response: httpx.Response) -> Reply:
        """Read what is left of a reply: all of it where httpx's own transport is used, which knows no sink."""
        buffer = self._buffer or self._place(response.status_code, response.headers)
        self._traffic.received = self.sink.filled
        if buffer is not None:
            if self.sink.filled != len(buffer) or response.headers.get("content-length") != str(len(buffer)):
                await _fill(buffer, response, self._traffic)  # else there is no more, and asking costs a tenth
            return Reply(response.status_code, response.headers)
        if self._call.method == "HEAD" or response.headers.get("content-length") == "0":
            return Reply(response.status_code, response.headers)  # reading nothing costs a tenth of the whole
        return Reply(response.status_code, response.headers, await _document(response, self._traffic))


async def _document(response: httpx.Response, traffic: Traffic) -> bytes:
    """Read a body of which nobody knows the length."""
    body = bytearray()
    with trio.CancelScope() as reading:
        async for piece in response.aiter_raw():
            traffic.heard()
            traffic.received += len(piece)
            if traffic.received > MAX_DOCUMENT_BYTES:
                reading.cancel()
            else:
                body += piece
    if traffic.received > MAX_DOCUMENT_BYTES:
        raise Malformed("an endless document")
    return bytes(body)


async def _fill(buffer: memoryview, response: httpx.Response, traffic: Traffic) -> None:
    """Read a body that must be exactly as long as the buffer; of which the beginning may be there already."""
    with trio.CancelScope() as reading:
        async for piece in response.aiter_raw():
            traffic.heard()
            start = traffic.received
            traffic.received += len(piece)
            if traffic.received > len(buffer):
                # Leaving the loop would leave httpx's nested generators to the garbage collector; cancelling ends them.
                reading.cancel()
            else:
                buffer[start : traffic.received] = piece
    if traffic.received != len(buffer):
        raise Malformed(f"{traffic.received} bytes instead of {len(buffer)}")
