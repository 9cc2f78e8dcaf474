"""An HTTP server that answers as told, for what no real server does on demand: faults, lies and storms."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import h11
import trio

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.transport import ClientOptions, Observer

ACCESS_KEY = "AKSCRIPTED"
SECRET_KEY = "never-to-be-seen-in-a-message"


@dataclass(frozen=True)
class Answer:
    """One reply, or a way of not replying.

    ``length`` is the Content-Length told, if it is not that of the body; the connection ends after the body.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    has_length: bool = True

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in self.headers.items())]
        if self.has_length:
            lines.append(f"content-length: {len(self.body) if self.length is None else self.length}")
        return "\r\n".join([*lines, "connection: close", "", ""]).encode() + self.body


@dataclass(frozen=True)
class Reset:
    """Read the request and break the connection."""


@dataclass(frozen=True)
class Silence:
    """Read the request and say nothing."""


@dataclass(frozen=True)
class Trickle:
    """An answer whose body comes byte by byte, with a pause before each."""

    answer: Answer
    pause_seconds: float


@dataclass(frozen=True)
class Late:
    """An answer of which not a byte comes for a while."""

    answer: Answer
    seconds: float


Step = Answer | Reset | Silence | Trickle | Late


@dataclass
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer:
    """Answers each request with the next step of its script; the last one is repeated."""

    def __init__(self, script: tuple[Step, ...]) -> None:
        self.requests: list[Request] = []
        self.url = ""
        self._script = script

    def step_for(self, request: Request) -> Step:  # noqa: ARG002 - for servers that choose by it
        """Choose the answer to a request."""
        return self._script[min(len(self.requests), len(self._script) - 1)]

    async def start(self, nursery: trio.Nursery) -> None:
        """Serve on a free port until the nursery ends."""
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1")
        )
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            request = await _read_request(stream)
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            request = None  # a client may give up in the middle
        if request is None:
            return
        step = self.step_for(request)
        self.requests.append(request)
        with suppress(trio.BrokenResourceError):  # a client may hang up on an answer
            await _answer(stream, step)
        await stream.aclose()


async def _answer(stream: trio.SocketStream, step: Step) -> None:
    if isinstance(step, Silence):
        await trio.sleep_forever()
    elif isinstance(step, Reset):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif isinstance(step, Trickle):
        reply, length = step.answer.encode(), len(step.answer.body)
        await stream.send_all(reply[:-length])
        for byte in reply[-length:]:
            await trio.sleep(step.pause_seconds)
            await stream.send_all(bytes([byte]))
    elif isinstance(step, Late):
        await trio.sleep(step.seconds)
        await stream.send_all(step.answer.encode())
    else:
        await stream.send_all(step.encode())


async def _read_request(stream: trio.SocketStream) -> Request | None:
    connection = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some()
            connection.receive_data(data)
            if not data and head is None:
                return None
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif head is not None:
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), headers, bytes(body))


@asynccontextmanager
async def scripted_server(*script: Step) -> AsyncIterator[ScriptedServer]:
    """Run a server on a free port."""
    server = ScriptedServer(script)
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted(
    *script: Step, options: ClientOptions | None = None, on_request: Observer | None = None
) -> AsyncIterator[tuple[SpacesClient, ScriptedServer]]:
    """Run a server and a client of it."""
    async with scripted_server(*script) as server:
        endpoint = resolve_endpoint("nyc3", server.url)
        credentials = Credentials(ACCESS_KEY, SECRET_KEY)
        async with SpacesClient(endpoint, credentials, options=options, on_request=on_request) as client:
            yield client, server
