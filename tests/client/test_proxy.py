"""Through a proxy, on httpx's own transport: which proxy, and what it is asked for."""

from __future__ import annotations

import pytest

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import EndpointError, resolve_endpoint
from spacesfs.client.errors import BadReply, SpacesError
from spacesfs.client.transport import ClientOptions
from spacesfs.client.wire.stock import proxy_for
from tests.client.peer import peer
from tests.client.scripted import Answer, scripted

SPACE = "https://nyc3.digitaloceanspaces.com"
REPLY = b'HTTP/1.1 206 Partial Content\r\ncontent-length: 4\r\ncontent-range: bytes 0-3/4\r\netag: "e"\r\n'
DATE = b"last-modified: Sun, 22 Nov 2026 07:12:09 GMT\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        (SPACE, {}, None),
        (SPACE, {"https_proxy": "http://p:3128"}, "http://p:3128"),
        (SPACE, {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        (SPACE, {"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, "http://a"),
        (SPACE, {"all_proxy": "http://p"}, "http://p"),
        (SPACE, {"http_proxy": "http://p"}, None),
        (SPACE, {"https_proxy": ""}, None),
        (SPACE, {"https_proxy": "http://p", "no_proxy": "digitaloceanspaces.com"}, None),
        (SPACE, {"https_proxy": "http://p", "NO_PROXY": "*"}, None),
        (SPACE, {"https_proxy": "http://p", "no_proxy": "example.com, spaces.com"}, "http://p"),
        ("http://localhost:80", {"http_proxy": "http://p", "no_proxy": "localhost,127.0.0.1"}, None),
    ],
)
def test_the_environment_names_a_proxy(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environ) == proxy


def through(endpoint: str, proxy: str) -> SpacesClient:
    options = ClientOptions(max_attempts=1, proxy=proxy)
    return SpacesClient(resolve_endpoint(None, endpoint), Credentials("id", "secret"), options=options)


async def test_a_plain_request_reaches_the_proxy_as_it_was_signed() -> None:
    async with peer(REPLY + DATE + b"body") as proxy, through("http://space.localhost", proxy.url) as client:
        buffer = bytearray(4)
        await client.bucket("bucket").get_range("a/../b//./c", 0, memoryview(buffer))
        assert buffer == b"body"
        assert proxy.seen[0][1:3] == (b"GET", b"http://space.localhost/bucket/a/../b//./c")


async def test_a_secure_request_asks_for_a_tunnel_to_the_server() -> None:
    async with peer(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n") as proxy:
        async with through(SPACE, proxy.url) as client:
            with pytest.raises(SpacesError):
                await client.bucket("bucket").head("key")
        assert proxy.seen[0][1:3] == (b"CONNECT", b"bucket.nyc3.digitaloceanspaces.com:443")


@pytest.mark.parametrize("proxy", ["socks5://user:hidden@localhost:1", "nonsense", "http://user:hidden@[::1"])
async def test_an_unusable_proxy_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(EndpointError, match="the proxy can't be used") as failure:
        through(SPACE, proxy)
    assert "hidden" not in str(failure.getrepr(style="native", chain=True))
    assert "hidden" not in repr(ClientOptions(proxy=proxy))


@pytest.mark.parametrize("excess", [b"", b"more"])
async def test_the_stock_transport_fills_buffers_too(excess: bytes) -> None:
    body = b"0123456789"
    headers = {"Content-Range": "bytes 0-9/10", "ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 07:12:09 GMT"}
    options = ClientOptions(max_attempts=1, http_transport="httpx")
    async with scripted(Answer(206, body + excess, headers), options=options) as (client, _):
        buffer = bytearray(10)
        if excess:
            with pytest.raises(BadReply):
                await client.bucket("bucket").get_range("k", 0, memoryview(buffer))
        else:
            await client.bucket("bucket").get_range("k", 0, memoryview(buffer))
            assert buffer == body
