"""Our HTTP/1.1 against peers that say exactly what they are told: replies of all forms, and of none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from spacesfs.client.wire.connection import Connection, Timeouts
from spacesfs.client.wire.exchange import JOINED_BYTES, MAX_HEAD_BYTES, MAX_INTERIM_REPLIES, Exchange
from spacesfs.client.wire.transport import SINK, Sink
from tests.client.cancelling import cancelling
from tests.client.peer import CHUNKED, HEAD, OK, Say, peer, receive_into, wired

REFUSAL = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 8\r\n\r\nSlowDown"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Pieces(httpx.AsyncByteStream):
    """A request's body in pieces of a large buffer."""

    def __init__(self, body: bytes, piece: int) -> None:
        view = memoryview(body)
        self._pieces = iter([view[start : start + piece] for start in range(0, len(view), piece)])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece  # type: ignore[return-value]  # any buffer will do
        raise StopAsyncIteration


@pytest.mark.parametrize(
    ("reply", "method", "body", "kept"),
    [
        (OK, "GET", b"hello", 1),
        (HEAD + b"content-length: 0\r\n\r\n", "GET", b"", 1),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "GET", b"hello", 1),
        (CHUNKED + b"2\r\nhe\r\n3;name=value\r\nllo\r\n0\r\n\r\n", "GET", b"hello", 1),
        (CHUNKED + b"5\r\nhello\r\n0\r\nchecksum: 1234\r\nother: x\r\n\r\n", "GET", b"hello", 1),
        (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET", b"hello", 1),
        (CONTINUE + b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, "GET", b"hello", 1),
        (HEAD + b"content-length: 5\r\n\r\n", "HEAD", b"", 1),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", "HEAD", b"", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", b"", 1),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "GET", b"", 1),
        (HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", "GET", b"hello", 0),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", "GET", b"hello", 0),
        (Say(HEAD + b"\r\nhello", "end"), "GET", b"hello", 0),
    ],
)
async def test_replies_of_all_forms(reply: bytes | Say, method: str, body: bytes, kept: int) -> None:
    async with peer(reply) as other, wired() as (client, transport):
        response = await client.request(method, other.url)
        assert response.content == body
        assert transport.statistics().idle == kept


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        HEAD + b"content-length: 5\r\n\r\nhell",
        HEAD + b"content-length: -5\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
        HEAD + b"transfer-encoding: gzip\r\n\r\n",
        HEAD + b"name with space: x\r\n\r\n",
        HEAD + b"x: " + b"y" * MAX_HEAD_BYTES,
        HEAD + b"x: y\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhelloworld\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"five\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n" + b"x: y\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        CONTINUE * (MAX_INTERIM_REPLIES + 1) + OK,
    ],
    ids=lambda reply: repr(reply[:70]),
)
async def test_what_is_no_whole_reply(reply: bytes) -> None:
    async with peer(Say(reply, "end"), OK) as other, wired() as (client, transport):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(other.url)
        assert transport.statistics().idle == 0
        assert (await client.get(other.url)).content == b"hello"


@pytest.mark.parametrize(("size", "sends"), [(0, 1), (1, 1), (JOINED_BYTES, 1), (JOINED_BYTES + 1, 2)])
async def test_a_small_body_goes_out_with_its_head(monkeypatch: pytest.MonkeyPatch, size: int, sends: int) -> None:
    sent: list[bytes] = []
    send = Connection.send

    async def noted(connection: Connection, data: memoryview, seconds: float) -> None:
        sent.append(bytes(data))
        await send(connection, data, seconds)

    monkeypatch.setattr(Connection, "send", noted)
    async with peer(OK) as other, wired() as (client, _):
        await client.put(other.url, content=Pieces(bytes(size), size or 1), headers={"content-length": str(size)})
    assert len(sent) == sends
    assert b"".join(sent).endswith(b"\r\n\r\n" + bytes(size))


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"content-length: 5\r\n\r\nhe", CHUNKED + b"5\r\nhe"])
async def test_a_reset_at_any_point(begun: bytes) -> None:
    async with peer(Say(begun, "reset"), OK) as other, wired() as (client, transport):
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):  # Linux may drop what came before
            await client.get(other.url)
        assert transport.statistics().idle == 0
        assert (await client.get(other.url)).content == b"hello"


async def test_a_connection_is_used_again() -> None:
    async with peer(OK) as other, wired() as (client, transport):
        for _ in range(3):
            assert (await client.get(other.url)).content == b"hello"
        assert {number for number, *_ in other.seen} == {0}
        assert transport.statistics().connected == 1


async def test_a_body_goes_into_the_sink() -> None:
    async with peer(OK) as other, wired() as (client, transport):
        buffer = bytearray(8)
        response = await client.get(other.url, extensions=receive_into(buffer))
        assert (bytes(buffer), response.content) == (b"hello\0\0\0", b"")
        assert transport.statistics().idle == 1


@pytest.mark.parametrize("reply", [OK, CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"])
async def test_what_does_not_fit_into_the_sink_stays_in_the_response(reply: bytes) -> None:
    async with peer(reply) as other, wired() as (client, _):
        buffer = bytearray(3)
        response = await client.get(other.url, extensions=receive_into(buffer))
        assert (bytes(buffer), response.content) == (b"hel", b"lo")


async def test_a_large_body_arrives_whole_in_the_sink() -> None:
    body = bytes(range(256)) * (40 << 10)
    async with peer(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body) as other, wired() as (client, _):
        buffer = bytearray(len(body))
        await client.get(other.url, extensions=receive_into(buffer))
        assert buffer == body


async def test_a_sink_may_refuse() -> None:
    def refuse(status: int, headers: httpx.Headers) -> memoryview:
        raise LookupError(f"{status} {headers['content-length']}")

    async with peer(OK) as other, wired() as (client, transport):
        with pytest.raises(LookupError, match="200 5"):
            await client.get(other.url, extensions={SINK: Sink(refuse)})
        assert transport.statistics().idle == 0


@pytest.mark.parametrize("has_length", [True, False])
async def test_an_upload_arrives_whole(has_length: bool) -> None:
    body = bytes(range(256)) * (40 << 10)
    headers = {"content-length": str(len(body))} if has_length else {}
    async with peer(OK) as other, wired() as (client, transport):
        await client.put(other.url, content=Pieces(body, 1_000_000), headers=headers)
        assert other.seen[0][3] == body
        assert transport.statistics().idle == 1


async def test_a_target_goes_out_as_it_is() -> None:
    async with peer(OK) as other, wired() as (client, _):
        await client.get(other.url, extensions={"target": b"/a/../b//./c?x"})
        assert other.seen[0][2] == b"/a/../b//./c?x"


async def test_an_impossible_request_is_not_sent() -> None:
    async with peer(OK) as other, wired() as (client, _):
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(other.url, extensions={"target": b"/a b\r\nx: y"})
        with pytest.raises(httpx.LocalProtocolError):
            await client.put(other.url, content=Pieces(b"long", 4), headers={"content-length": "3"})
        assert other.seen == []


@pytest.mark.parametrize("then", ["end", "reset"])
async def test_an_early_refusal_is_heard(then: str) -> None:
    body = bytes(4 << 20)
    async with peer(Say(REFUSAL, then, is_early=True), OK) as other, wired(patience=5) as (client, transport):
        try:
            response = await client.put(other.url, content=Pieces(body, 65536), headers={"content-length": "4194304"})
        except httpx.ReadError:
            assert then != "end"  # Linux may drop the reply at a reset
        else:
            assert response.status_code == 503
        assert transport.statistics().idle == 0


@pytest.mark.parametrize("is_secure", [False, True])
async def test_an_early_refusal_is_heard_though_nobody_reads_on(
    is_secure: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """The server keeps the connection; its answer must not cost the time that a stalled line may take."""
    theirs, ours = contexts if is_secure else (None, None)
    length = 64 << 20  # more than all buffers between us hold
    async with (
        peer(Say(REFUSAL, "stall", is_early=True), tls=theirs) as other,
        wired(ours, patience=30) as (client, transport),
    ):
        response = await client.put(
            other.url, content=Pieces(bytes(length), 1 << 20), headers={"content-length": str(length)}
        )
        assert (response.status_code, response.content) == (503, b"SlowDown"), "it would be httpx.WriteTimeout"
        assert (transport.statistics().active, transport.statistics().idle) == (0, 0)


async def test_bytes_that_nobody_asked_for_are_no_reply() -> None:
    stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
    async with peer(OK + stray, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + stray, OK) as other, wired() as (client, _):
        for _ in range(3):
            assert (await client.get(other.url)).content == b"hello"
        assert [number for number, *_ in other.seen] == [0, 1, 2]


async def test_bytes_that_come_while_idle_are_no_reply() -> None:
    async with peer(OK) as other, wired() as (client, transport):
        await client.get(other.url)
        assert transport.statistics().idle == 1
        await trio.testing.wait_all_tasks_blocked()
        await other.connections[0].send_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        assert (await client.get(other.url)).status_code == 200
        assert [number for number, *_ in other.seen] == [0, 1]


async def test_a_server_that_ends_idle_connections_or_restarts() -> None:
    async with wired() as (client, transport):
        async with peer(OK) as other:
            await client.get(other.url)
            await other.connections[0].aclose()
            assert (await client.get(other.url)).content == b"hello"
            assert transport.statistics().connected == 2
        async with peer(OK, port=other.port) as restarted:
            assert (await client.get(restarted.url)).content == b"hello"
            assert transport.statistics().connected == 3


async def test_connections_are_not_kept_for_ever() -> None:
    async with peer(OK) as other, wired(idle_seconds=0) as (client, transport):
        await client.get(other.url)
        await client.get(other.url)
        assert (transport.statistics().idle, transport.statistics().connected) == (0, 2)


async def test_idle_connections_expire_without_another_request(jumping_clock: MockClock) -> None:
    async with peer(OK) as other, wired(idle_seconds=15) as (client, transport), trio.open_nursery() as nursery:
        url = f"http://127.0.0.1:{other.port}/"  # no name to look up in a thread, for which the clock would not wait
        nursery.start_soon(transport.tend)
        for _ in range(2):
            await client.get(url)
            await trio.sleep(14)
            assert transport.statistics().idle == 1
        await trio.sleep(1.5)
        assert (transport.statistics().idle, transport.statistics().connected) == (0, 1)
        await client.get(url)
        await trio.sleep(16)
        assert (transport.statistics().idle, transport.statistics().connected) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_a_silent_server_is_given_up() -> None:
    async with peer(OK) as other, wired(patience=0.1) as (client, transport):
        other.free = trio.Event()
        with pytest.raises(httpx.ReadTimeout):
            await client.get(other.url)
        assert transport.statistics().idle == 0


async def test_a_server_that_reads_nothing_is_given_up() -> None:
    async with peer(Say(OK, is_early=True)) as other, wired(patience=0.1) as (client, _):
        other.free = trio.Event()
        with pytest.raises(httpx.WriteTimeout):
            await client.put(other.url, content=bytes(32 << 20))


async def test_a_server_that_accepts_nothing_is_given_up() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):  # the queue of a listener that never accepts
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        async with wired(patience=0.2) as (client, _):
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")


async def test_places_are_limited_and_given_in_order() -> None:
    async with peer(OK) as other, wired(connections=1) as (client, transport):
        other.free = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(client.get, f"{other.url}{number}")
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(httpx.PoolTimeout):
                await client.get(other.url, timeout=httpx.Timeout(5, pool=0.1))
            assert transport.statistics().active == 1
            other.free.set()
        assert [target for _, _, target, _ in other.seen] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
        assert len(other.connections) == 1


async def test_closing_wakes_who_waits() -> None:
    async with peer(OK) as other, wired() as (client, transport), trio.open_nursery() as nursery:
        other.free = trio.Event()

        async def ask() -> None:
            with pytest.raises(httpx.ReadError, match="closed here"):
                await client.get(other.url)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await transport.aclose()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([HEAD, OK, CHUNKED, CONTINUE, b"\r\n", b"content-length: 7", b"5\r\nhello\r\n", b"0\r\n"]),
        ),
        max_size=8,
    )
)
def test_any_bytes_at_all_end_in_a_reply_or_an_error(said: list[bytes]) -> None:
    trio.run(hear, b"".join(said))


async def hear(said: bytes) -> None:
    """Take bytes for a reply; httpx's errors are all that may come of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.send(said)
        theirs.shutdown(socket.SHUT_WR)
        exchange = Exchange(Connection(ours), Timeouts())
        with trio.fail_after(10):
            await exchange.send(httpx.Request("GET", "http://localhost/"))
            try:
                await exchange.receive_head()
                while await exchange.receive_into(memoryview(bytearray(4))):
                    pass
            except httpx.TransportError:
                assert not exchange.is_reusable


@pytest.mark.parametrize("reply", [OK, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], ids=["length", "chunks"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("idle_seconds", [60, 0], ids=["kept", "new"])
async def test_cancellation_at_every_await(
    reply: bytes, is_secure: bool, idle_seconds: float, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    theirs, ours = contexts if is_secure else (None, None)
    async with peer(reply, tls=theirs) as other, wired(ours, idle_seconds=idle_seconds) as (client, transport):
        step, is_done = 0, False
        while not is_done:
            step += 1
            with trio.CancelScope() as scope:
                with cancelling(scope, step):
                    await client.put(other.url, content=Pieces(bytes(1000), 300), extensions=receive_into(bytearray(2)))
                is_done = not scope.cancel_called
            assert transport.statistics().active == 0
            assert transport.statistics().idle <= 1
        assert step > 5
        assert (await client.get(other.url)).content == b"hello"
