"""Signature Version 2: Amazon's published vectors, botocore as a second opinion, and a real server's word."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Addressing, Endpoint, resolve_endpoint
from spacesfs.client.errors import AccessDenied
from spacesfs.client.models import ObjectProperties
from spacesfs.client.signing import UNSIGNED_PAYLOAD, Signable, encode_query
from spacesfs.client.signing_v2 import authorize, presign, sign, string_to_sign
from spacesfs.client.transport import ClientOptions
from tests.client.hostile import HEADER_VALUES, KEYS, TEXTS
from tests.servers.rgw import RadosGateway

KEY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
WHEN = datetime(2013, 5, 24, tzinfo=UTC)
BUCKET = "awsexamplebucket1"
UPLOAD = {
    "content-md5": "4gJE4saaMU4BqNR0kLY+lw==",
    "content-type": "application/x-download",
    "x-amz-acl": "public-read",
    "x-amz-meta-checksumalgorithm": "crc32",
    "x-amz-meta-filechecksum": "0x02661779",
    "x-amz-meta-reviewedby": "joe@example.com,jane@example.com",
}
UPLOAD_TEXT = """PUT
4gJE4saaMU4BqNR0kLY+lw==
application/x-download
Tue, 27 Mar 2007 21:06:08 +0000
x-amz-acl:public-read
x-amz-meta-checksumalgorithm:crc32
x-amz-meta-filechecksum:0x02661779
x-amz-meta-reviewedby:joe@example.com,jane@example.com
/static.example.com/db-backup.dat.gz"""
# Name: method, bucket in the host, path, query, headers, date; what is signed, and its signature.
VECTORS = {
    "get": (
        ("GET", BUCKET, "/photos/puppy.jpg", (), {}, "Tue, 27 Mar 2007 19:36:42 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/awsexamplebucket1/photos/puppy.jpg",
        "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
    ),
    "put": (
        ("PUT", BUCKET, "/photos/puppy.jpg", (), {"content-type": "image/jpeg"}, "Tue, 27 Mar 2007 21:15:45 +0000"),
        "PUT\n\nimage/jpeg\nTue, 27 Mar 2007 21:15:45 +0000\n/awsexamplebucket1/photos/puppy.jpg",
        "iqRzw+ileNPu1fhspnRs8nOjjIA=",
    ),
    "list": (
        (
            "GET",
            BUCKET,
            "/",
            (("prefix", "photos"), ("max-keys", "50"), ("marker", "puppy")),
            {},
            "Tue, 27 Mar 2007 19:42:41 +0000",
        ),
        "GET\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/awsexamplebucket1/",
        "m0WP8eCtspQl5Ahe6L1SozdX9YA=",
    ),
    "acl": (
        ("GET", BUCKET, "/", (("acl", ""),), {}, "Tue, 27 Mar 2007 19:44:46 +0000"),
        "GET\n\n\nTue, 27 Mar 2007 19:44:46 +0000\n/awsexamplebucket1/?acl",
        "82ZHiFIjc+WbcwFKGUVEQspPn+0=",
    ),
    "delete": (
        ("DELETE", BUCKET, "/photos/puppy.jpg", (), {}, "Tue, 27 Mar 2007 21:20:26 +0000"),
        "DELETE\n\n\nTue, 27 Mar 2007 21:20:26 +0000\n/awsexamplebucket1/photos/puppy.jpg",
        "XbyTlbQdu9Xw5o8P4iMwPktxQd8=",
    ),
    "upload": (
        ("PUT", "static.example.com", "/db-backup.dat.gz", (), UPLOAD, "Tue, 27 Mar 2007 21:06:08 +0000"),
        UPLOAD_TEXT,
        "jtBQa0Aq+DkULFI8qrpwIjGEx0E=",
    ),
    "list all buckets": (
        ("GET", "", "/", (), {}, "Wed, 28 Mar 2007 01:29:59 +0000"),
        "GET\n\n\nWed, 28 Mar 2007 01:29:59 +0000\n/",
        "qGdzdERIC03wnaRNKh6OqZehG9s=",
    ),
    "encoded key": (
        ("GET", "", "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re", (), {}, "Wed, 28 Mar 2007 01:49:49 +0000"),
        "GET\n\n\nWed, 28 Mar 2007 01:49:49 +0000\n/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
        "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    ),
    "query": (
        ("GET", "johnsmith", "/photos/puppy.jpg", (), {}, "1175139620"),
        "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg",
        "NpgCjnDzrM+WFzoENXmpNDUsSn8=",
    ),
}

DATE = "Fri, 24 May 2013 00:00:00 GMT"  # as `WHEN`
LIFE_SECONDS = 600
EXPIRES = str(int(WHEN.timestamp()) + LIFE_SECONDS)
ADDRESSINGS: st.SearchStrategy[Addressing] = st.sampled_from(["path", "virtual"])
# Sub-resources that botocore signs as we do; the other parameters are signed by neither.
SUB_RESOURCES = st.sampled_from(["acl", "partNumber", "uploadId", "uploads", "versionId", "response-content-type"])
HEADERS = st.dictionaries(st.from_regex(r"x-amz-meta-[a-z0-9-]{1,10}", fullmatch=True), HEADER_VALUES, max_size=4)
TOKENS = st.none() | st.text("abcXYZ/+=", min_size=1)
QUERIES = st.dictionaries(SUB_RESOURCES | TEXTS.filter(bool), TEXTS, max_size=5)


class BotoHeader(HmacV1Auth):
    """botocore's signer, at our time."""

    def _get_date(self) -> str:
        return DATE


class BotoQuery(HmacV1QueryAuth):
    """botocore's signer of URLs, at our time."""

    def _get_date(self) -> str:
        return EXPIRES


@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors(name: str) -> None:
    (method, bucket, path, query, headers, date), text, signature = VECTORS[name]
    request = Signable(method, path, query, headers, UNSIGNED_PAYLOAD, bucket)
    assert string_to_sign(request, {**headers, "date": date}) == text
    assert sign(text, KEY) == signature


def test_the_published_url() -> None:
    request = Signable("GET", "/photos/puppy.jpg", (), {}, UNSIGNED_PAYLOAD, "johnsmith")
    query = presign(request, KEY, datetime.fromtimestamp(1175139600, UTC), expires_seconds=20)
    assert query == (
        "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"
    )


def test_an_amz_date_takes_the_place_of_the_date() -> None:
    request = Signable("GET", "/k", (), {}, UNSIGNED_PAYLOAD)
    assert string_to_sign(request, {"x-amz-date": "D", "date": "E"}) == "GET\n\n\n\nx-amz-date:D\n/k"


def test_a_url_is_valid_for_a_second_at_least() -> None:
    with pytest.raises(ValueError, match="a second at least"):
        presign(Signable("GET", "/k", (), {}, UNSIGNED_PAYLOAD), KEY, WHEN, expires_seconds=0)


def asked_of_both(
    *, method: str, addressing: Addressing, key: str, query: dict[str, str], headers: dict[str, str]
) -> tuple[Signable, AWSRequest]:
    """Return one request as each of the signers wants it."""
    endpoint = Endpoint("https://s3.example.com", "nyc3", addressing)
    path = endpoint.path(BUCKET, key)
    ours = Signable(method, path, tuple(query.items()), headers, UNSIGNED_PAYLOAD, endpoint.host_bucket(BUCKET))
    # botocore takes an empty value's "=" for a part of it; servers do not.
    parts = "&".join(part.removesuffix("=") for part in encode_query(query.items()).split("&"))
    url = f"{endpoint.origin(BUCKET)}{path}{'?' if parts else ''}{parts}"
    full_path = f"/{BUCKET}{path}" if addressing == "virtual" else path
    return ours, AWSRequest(method, url, headers=dict(headers), auth_path=full_path)


REQUESTS = st.builds(
    asked_of_both,
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    addressing=ADDRESSINGS,
    key=KEYS,
    query=QUERIES,
    headers=HEADERS,
)


@given(REQUESTS, TOKENS)
def test_botocore_signs_the_same(request_pair: tuple[Signable, AWSRequest], token: str | None) -> None:
    ours, theirs = request_pair
    BotoHeader(BotoCredentials(KEY.access_key_id, KEY.secret_access_key, token)).add_auth(theirs)
    added = authorize(ours, Credentials(KEY.access_key_id, KEY.secret_access_key, token), WHEN)
    assert added["authorization"] == theirs.headers["Authorization"]
    assert added["date"] == theirs.headers["Date"]


@given(REQUESTS, TOKENS)
def test_botocore_presigns_the_same(request_pair: tuple[Signable, AWSRequest], token: str | None) -> None:
    ours, theirs = request_pair
    BotoQuery(BotoCredentials(KEY.access_key_id, KEY.secret_access_key, token)).add_auth(theirs)
    signed = Credentials(KEY.access_key_id, KEY.secret_access_key, token)
    url = parse_qs(presign(ours, signed, WHEN, expires_seconds=LIFE_SECONDS))
    botos_url = parse_qs(urlsplit(str(theirs.url)).query)
    for name in ("Signature", "Expires", "AWSAccessKeyId"):
        assert url[name] == botos_url[name]


@pytest.fixture
async def signing_v2(rgw: RadosGateway) -> AsyncIterator[SpacesClient]:
    """A client that signs as version 2."""
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    options = ClientOptions(signature_version=2)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials, options=options) as client:
        yield client


@pytest.mark.parametrize("key", ["plain", "a/../b//c +%?&=é\N{GRINNING FACE}", "~*'()!"])
async def test_a_real_server_accepts_it(signing_v2: SpacesClient, bucket_name: str, key: str) -> None:
    """Through what is signed in its own way: metadata, sub-resources and their values, copies, a document."""
    bucket = signing_v2.bucket(bucket_name)
    etag = await bucket.put(key, b"body", ObjectProperties(metadata={"a": "1  2", "b": "x,y"}))
    assert (await bucket.head(key)).properties.metadata == {"a": "1  2", "b": "x,y"}
    await bucket.set_acl(key, "public-read")
    assert await bucket.get_acl(key) == "public-read"
    upload_id = await bucket.create_upload(key)
    part = await bucket.upload_part(key, upload_id, 1, b"part")
    await bucket.complete_upload(key, upload_id, [part])
    assert (await bucket.head(key)).etag != etag
    assert [entry.key for entry in (await bucket.list_page("", max_keys=5)).objects] == [key]
    assert bucket_name in dict(await signing_v2.list_buckets())


async def test_a_real_server_refuses_another_secret(rgw: RadosGateway, bucket_name: str) -> None:
    options = ClientOptions(signature_version=2)
    credentials = Credentials(rgw.access_key, "wrong")
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials, options=options) as client:
        with pytest.raises(AccessDenied) as refusal:
            await client.bucket(bucket_name).list_page("")
    assert refusal.value.code == "SignatureDoesNotMatch"


async def test_a_real_server_accepts_the_url(rgw: RadosGateway, signing_v2: SpacesClient, bucket_name: str) -> None:
    key, host = "a/../b +%é", rgw.endpoint.removeprefix("http://")
    await signing_v2.bucket(bucket_name).put(key, b"for everyone with the link")
    path = resolve_endpoint(None, rgw.endpoint).path(bucket_name, key)
    request = Signable("GET", path, (("response-content-type", "text/x"),), {}, UNSIGNED_PAYLOAD)
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    for age_seconds, status in ((0, 200), (7200, 403)):
        signed_at = datetime.now(UTC) - timedelta(seconds=age_seconds)
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"{path}?{presign(request, credentials, signed_at, expires_seconds=600)}")
        reply = connection.getresponse()
        assert reply.status == status
        assert (reply.headers["content-type"] == "text/x") == (status == 200)
        assert (reply.read() == b"for everyone with the link") == (status == 200)
        connection.close()
