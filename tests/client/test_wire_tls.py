"""Our HTTP/1.1 over TLS: bytes both ways, sessions, ends that are none, and certificates of nobody."""

from __future__ import annotations

import ssl

import httpx
import pytest

from tests.client.peer import CHUNKED, HEAD, OK, Say, peer, receive_into, wired


async def test_tls_moves_bytes_both_ways(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = contexts
    body = bytes(range(256)) * (20 << 10)
    reply = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    async with peer(reply, tls=theirs) as other, wired(ours) as (client, transport):
        for _ in range(2):
            buffer = bytearray(len(body))
            await client.put(other.url, content=body, extensions=receive_into(buffer))
            assert (bytes(buffer), other.seen[-1][3]) == (body, body)
        assert transport.statistics().connected == 1


async def test_tls_sessions_are_resumed(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = contexts
    async with peer(OK, tls=theirs) as other, wired(ours) as (client, transport):
        await client.get(other.url)
        await other.connections[0].aclose()
        await client.get(other.url)
        assert (transport.statistics().connected, transport.statistics().resumed) == (2, 1)


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
async def test_a_whole_answer_counts_though_the_end_behind_it_is_rude(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], reply: bytes
) -> None:
    """Servers close TLS without saying so; what they said before that is whole."""
    theirs, ours = contexts
    for _ in range(5):
        async with peer(Say(reply, "end"), tls=theirs) as other, wired(ours) as (client, _):
            assert (await client.get(other.url)).content == b"hello"


async def test_tls_without_its_end_is_no_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = contexts
    async with peer(Say(HEAD + b"\r\nhello", "end"), tls=theirs) as other, wired(ours) as (client, _):
        with pytest.raises(httpx.ReadError):
            await client.get(other.url)


async def test_a_certificate_of_nobody_is_refused(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, _ = contexts
    async with peer(OK, tls=theirs) as other, wired(ssl.create_default_context()) as (client, _):
        with pytest.raises(httpx.ConnectError) as failure:
            await client.get(other.url)
        assert isinstance(failure.value.__cause__, ssl.SSLCertVerificationError)
        assert other.seen == []
