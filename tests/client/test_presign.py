"""Signed URLs: a stranger with one and nothing else, on a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint, resolve_endpoint
from spacesfs.client.errors import InvalidRequest
from spacesfs.client.presign import signed_url
from spacesfs.client.signer import SignatureVersion
from tests.servers.rgw import RadosGateway

both = pytest.mark.parametrize("version", [2, 4])
KEY = "dir/a +é'(1)!.txt"


@pytest.fixture
def owner(rgw: RadosGateway) -> Credentials:
    """Who signs."""
    return Credentials(rgw.access_key, rgw.secret_key)


@pytest.fixture(params=["path", "virtual"])
def endpoint(rgw: RadosGateway, request: pytest.FixtureRequest) -> Endpoint:
    """The gateway with the bucket in the path, and in the host."""
    if request.param == "path":
        return resolve_endpoint(None, rgw.endpoint)
    return Endpoint(rgw.endpoint.replace("127.0.0.1", "localhost"), "us-east-1", "virtual")


def ask(method: str, url: str, body: bytes = b"", **headers: str) -> httpx.Response:
    host = urlsplit(url).netloc
    here = url.replace(host, f"127.0.0.1:{urlsplit(url).port}", 1)  # not every machine resolves names below localhost
    return httpx.request(method, here, content=body, headers={"host": host, **headers}, trust_env=False)


@both
async def test_reading(bucket: Bucket, endpoint: Endpoint, owner: Credentials, version: SignatureVersion) -> None:
    await bucket.put(KEY, b"content")
    url = signed_url("GET", endpoint, owner, bucket.name, KEY, signature_version=version)
    assert owner.secret_access_key not in url
    assert ask("GET", url).content == b"content"
    assert ask("GET", url, Range="bytes=1-2").content == b"on"
    assert ask("PUT", url, b"x").status_code == 403
    assert ask("GET", url.replace("dir/a", "dir/b")).status_code == 403
    assert ask("GET", url.partition("?")[0]).status_code == 403


@both
async def test_what_the_server_shall_say(
    bucket: Bucket, endpoint: Endpoint, owner: Credentials, version: SignatureVersion
) -> None:
    await bucket.put(KEY, b"content")
    wanted = {
        "response-content-disposition": 'attachment; filename="a b.txt"',
        "response-content-type": "text/x-own",
    }
    url = signed_url("GET", endpoint, owner, bucket.name, KEY, response=wanted, signature_version=version)
    reply = ask("GET", url)
    assert reply.headers["content-disposition"] == 'attachment; filename="a b.txt"'
    assert reply.headers["content-type"] == "text/x-own"


@both
async def test_writing(bucket: Bucket, endpoint: Endpoint, owner: Credentials, version: SignatureVersion) -> None:
    headers = {"content-type": "text/plain", "x-amz-acl": "public-read"}
    url = signed_url("PUT", endpoint, owner, bucket.name, KEY, headers=headers, signature_version=version)
    assert ask("PUT", url, b"new").status_code == 403
    assert ask("PUT", url, b"new", **headers).status_code == 200
    assert (await bucket.get(KEY))[1] == b"new"
    assert await bucket.get_acl(KEY) == "public-read"


@both
async def test_expired(bucket: Bucket, endpoint: Endpoint, owner: Credentials, version: SignatureVersion) -> None:
    await bucket.put(KEY, b"content")
    past = datetime.now(UTC) - timedelta(seconds=120)
    for seconds, status in ((60, 403), (600, 200)):
        url = signed_url(
            "GET",
            endpoint,
            owner,
            bucket.name,
            KEY,
            expires_seconds=seconds,
            now=past,
            signature_version=version,
        )
        assert ask("GET", url).status_code == status


async def test_a_version(bucket: Bucket, endpoint: Endpoint, owner: Credentials) -> None:
    await bucket.set_versioning(is_enabled=True)
    await bucket.put(KEY, b"old")
    old = (await bucket.head(KEY)).version_id
    await bucket.put(KEY, b"new")
    for version in (2, 4):
        url = signed_url("GET", endpoint, owner, bucket.name, KEY, version_id=old, signature_version=version)
        assert ask("GET", url).content == b"old"


async def test_a_url_can_do_no_more_than_its_key(bucket: Bucket, rgw: RadosGateway, stranger: SpacesClient) -> None:
    await bucket.put(KEY, b"content")
    key = Credentials(rgw.other_access_key, rgw.other_secret_key)
    url = signed_url("GET", resolve_endpoint(None, rgw.endpoint), key, bucket.name, KEY)
    assert ask("GET", url).status_code == 403


def test_what_would_be_refused_is_refused_here(owner: Credentials) -> None:
    nyc3 = resolve_endpoint("nyc3", None)
    for seconds in (0, 604_801):
        with pytest.raises(ValueError, match="604800"):
            signed_url("GET", nyc3, owner, "bucket", "k", expires_seconds=seconds)
    with pytest.raises(ValueError, match="response-nonsense"):
        signed_url("GET", nyc3, owner, "bucket", "k", response={"response-nonsense": "x"})
    with pytest.raises(InvalidRequest):
        signed_url("GET", nyc3, owner, "bucket", "")
