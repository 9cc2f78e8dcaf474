"""Buckets, keys and connections on a real server."""

from __future__ import annotations

import http.client
import socket
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint, EndpointError, resolve_endpoint
from spacesfs.client.errors import AccessDenied, Conflict, InvalidRequest, NoSuchBucket, Untrusted
from spacesfs.client.signing import UNSIGNED_PAYLOAD, Signable, presign
from spacesfs.client.transport import ClientOptions
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway


async def test_the_life_of_a_bucket(client: SpacesClient) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    await client.create_bucket(name)
    created = dict(await client.list_buckets())[name]
    assert abs(created - time.time_ns()) < 60 * 10**9
    bucket = client.bucket(name)
    usage = await bucket.usage()
    assert (usage.bytes_used, usage.object_count) == (0, 0)
    await bucket.put("k", b"x")
    with pytest.raises(Conflict):
        await client.delete_bucket(name)
    await bucket.delete("k")
    await client.delete_bucket(name)
    with pytest.raises(NoSuchBucket):
        await bucket.usage()
    with pytest.raises(NoSuchBucket):
        await client.delete_bucket(name)


async def test_the_bucket_of_somebody_else(bucket: Bucket, stranger: SpacesClient) -> None:
    with pytest.raises(AccessDenied):
        await stranger.bucket(bucket.name).usage()
    with pytest.raises(Conflict):
        await stranger.create_bucket(bucket.name)


@pytest.mark.parametrize("name", ["", "ab", "a/b", "a?b", "a b", "-ab", "a..b", "é" * 4, "a" * 300, "a\nb"])
async def test_names_that_no_bucket_has(client: SpacesClient, name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a bucket name"):
        client.bucket(name)


async def test_wrong_keys(rgw: RadosGateway, bucket_name: str) -> None:
    for credentials, code, hint in (
        (Credentials("unknown", rgw.secret_key), "InvalidAccessKeyId", "access key is not known"),
        (Credentials(rgw.access_key, "wrong"), "SignatureDoesNotMatch", "is the secret key right"),
    ):
        async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials) as client:
            with pytest.raises(AccessDenied, match=hint) as failure:
                await client.bucket(bucket_name).list_page("")
            assert failure.value.code == code
            with pytest.raises(AccessDenied):
                await client.bucket(bucket_name).usage()


class LoopbackResolver(trio.abc.HostnameResolver):
    """Knows every name as this machine."""

    async def getaddrinfo(self, host: bytes | None, port: bytes | str | int | None, *_: int) -> list[tuple[Any, ...]]:
        assert host is not None
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        raise NotImplementedError


async def test_virtual_host_addressing(rgw: RadosGateway, bucket: Bucket) -> None:
    trio.socket.set_custom_hostname_resolver(LoopbackResolver())
    endpoint = Endpoint(f"http://localhost:{rgw.endpoint.rpartition(':')[2]}", "us-east-1", "virtual")
    async with SpacesClient(endpoint, Credentials(rgw.access_key, rgw.secret_key)) as client:
        etag = await client.bucket(bucket.name).put("a/../b c", b"x")
    assert (await bucket.head("a/../b c")).etag == etag


async def test_a_presigned_url(rgw: RadosGateway, bucket: Bucket) -> None:
    key, host = "a/../b +%é", rgw.endpoint.removeprefix("http://")
    await bucket.put(key, b"for everyone with the link")
    path = resolve_endpoint(None, rgw.endpoint).path(bucket.name, key)
    request = Signable("GET", path, (("response-content-type", "text/x"),), {"host": host}, UNSIGNED_PAYLOAD)
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    query = presign(request, credentials, "us-east-1", datetime.now(UTC), expires_seconds=60)
    for tail, status in (("", 200), ("&response-expires=0", 403)):
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"{path}?{query}{tail}")
        reply = connection.getresponse()
        assert reply.status == status
        assert (reply.headers["content-type"] == "text/x") == (status == 200)
        assert (b"for everyone" in reply.read()) == (status == 200)
        connection.close()


async def test_over_tls(edge: Edge, rgw: RadosGateway, bucket: Bucket) -> None:
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    endpoint = resolve_endpoint(None, edge.https_url)
    async with SpacesClient(endpoint, credentials, options=ClientOptions(ca_bundle=edge.ca_bundle)) as client:
        body = bytes(3 << 20)
        etag = await client.bucket(bucket.name).put("k", body)
        buffer = bytearray(len(body))
        info = await client.bucket(bucket.name).get_range("k", 0, memoryview(buffer), if_match=etag)
        assert (bytes(buffer), info.size) == (body, len(body))
    async with SpacesClient(endpoint, credentials) as client:
        with pytest.raises(Untrusted, match="is not trusted") as failure:
            await client.bucket(bucket.name).usage()
        assert failure.value.attempts == 1


async def test_a_ca_bundle_that_is_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ca")
    (folder / "empty.pem").write_text("")
    for path in (folder / "missing.pem", folder / "empty.pem"):
        with pytest.raises(EndpointError, match=f"CA bundle {path}"):
            SpacesClient(
                resolve_endpoint("nyc3", None), Credentials("id", "secret"), options=ClientOptions(ca_bundle=path)
            )
