"""Signature Version 4: Amazon's published vectors, and botocore as a second opinion on hostile input."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.utils import percent_encode as boto_percent_encode
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint
from spacesfs.client.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Signable,
    authorize,
    canonical_request,
    encode_query,
    percent_encode,
    presign,
    signing_key,
)
from tests.client.hostile import HEADER_VALUES, KEYS, TEXTS

KEY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
WHEN = datetime(2013, 5, 24, tzinfo=UTC)
STAMP = "20130524T000000Z"
HOST = "examplebucket.s3.amazonaws.com"

VECTORS = {
    "get": (
        Signable("GET", "/test.txt", (), {"host": HOST, "range": "bytes=0-9"}, EMPTY_SHA256),
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put": (
        Signable(
            "PUT",
            "/test%24file.text",
            (),
            {"host": HOST, "date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        ),
        "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "lifecycle": (
        Signable("GET", "/", (("lifecycle", ""),), {"host": HOST}, EMPTY_SHA256),
        "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list": (
        Signable("GET", "/", (("prefix", "J"), ("max-keys", "2")), {"host": HOST}, EMPTY_SHA256),
        "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}
CHUNKED_SEED = Signable(
    "PUT",
    "/examplebucket/chunkObject.txt",
    (),
    {
        "host": "s3.amazonaws.com",
        "content-encoding": "aws-chunked",
        "content-length": "66824",
        "x-amz-decoded-content-length": "66560",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    },
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
)


def signature(headers: dict[str, str]) -> str:
    return headers["authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors(name: str) -> None:
    request, canonical_hash, expected = VECTORS[name]
    headers = {**request.headers, "x-amz-date": STAMP, "x-amz-content-sha256": request.payload_hash}
    canonical = canonical_request(request.method, request.path, request.query, headers, request.payload_hash)
    assert hashlib.sha256(canonical.encode()).hexdigest() == canonical_hash
    assert signature(authorize(request, KEY, "us-east-1", WHEN)) == expected


def test_signing_key_vector() -> None:
    key = signing_key(KEY.secret_access_key, "20130524", "us-east-1")
    assert key.hex() == "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"


def test_chunked_upload_seed_vector() -> None:
    expected = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    assert signature(authorize(CHUNKED_SEED, KEY, "us-east-1", WHEN)) == expected


def test_presigned_vector() -> None:
    request = Signable("GET", "/test.txt", (), {"host": HOST}, UNSIGNED_PAYLOAD)
    query = presign(request, KEY, "us-east-1", WHEN, expires_seconds=86400)
    assert query.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    unsigned = [(name, unquote(value)) for name, value in (pair.split("=") for pair in query.split("&")[:-1])]
    canonical = canonical_request("GET", "/test.txt", unsigned, {"host": HOST}, UNSIGNED_PAYLOAD)
    expected = "3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04"
    assert hashlib.sha256(canonical.encode()).hexdigest() == expected


@pytest.mark.parametrize("seconds", [0, 604_801])
def test_presigned_urls_live_a_week_at_most(seconds: int) -> None:
    request = Signable("GET", "/test.txt", (), {"host": HOST}, UNSIGNED_PAYLOAD)
    with pytest.raises(ValueError, match="604800"):
        presign(request, KEY, "us-east-1", WHEN, expires_seconds=seconds)


def test_a_session_token_is_sent_and_signed() -> None:
    token = Credentials(KEY.access_key_id, KEY.secret_access_key, "the token")
    headers = authorize(VECTORS["get"][0], token, "us-east-1", WHEN)
    assert headers["x-amz-security-token"] == "the token"
    assert "x-amz-security-token" in headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]


@given(KEYS)
def test_percent_encoding_loses_nothing(key: str) -> None:
    encoded = percent_encode(key, keep_slashes=True)
    assert unquote(encoded) == key
    assert encoded == boto_percent_encode(key, safe="/~")
    assert encoded.isascii()


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    key=KEYS,
    query=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=4),
    metadata=st.dictionaries(st.from_regex(r"x-amz-meta-[a-z0-9-]{1,10}", fullmatch=True), HEADER_VALUES, max_size=4),
    token=st.none() | st.text("abcXYZ/+=", min_size=1),
)
def test_botocore_signs_the_same(
    method: str, key: str, query: dict[str, str], metadata: dict[str, str], token: str | None
) -> None:
    path = Endpoint("https://s3.example.com", "nyc3", "path").path("bucket", key)
    headers = {"host": "s3.example.com", **metadata}
    ours = authorize(
        Signable(method, path, tuple(query.items()), headers, UNSIGNED_PAYLOAD),
        Credentials(KEY.access_key_id, KEY.secret_access_key, token),
        "nyc3",
        WHEN,
    )

    added = {name: value for name, value in ours.items() if name != "authorization"}
    request = AWSRequest(method, f"https://s3.example.com{path}", headers={**headers, **added}, params=query)
    request.context["timestamp"] = STAMP
    boto = S3SigV4Auth(BotoCredentials(KEY.access_key_id, KEY.secret_access_key, token), "s3", "nyc3")
    canonical = boto.canonical_request(request)
    assert signature(ours) == boto.signature(boto.string_to_sign(request, canonical), request)


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    key=KEYS,
    query=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=4),
    token=st.none() | st.text("abcXYZ/+=", min_size=1),
    seconds=st.integers(1, 604_800),
)
def test_botocore_presigns_the_same(
    method: str, key: str, query: dict[str, str], token: str | None, seconds: int
) -> None:
    path = Endpoint("https://s3.example.com", "nyc3", "path").path("bucket", key)
    signed = Credentials(KEY.access_key_id, KEY.secret_access_key, token)
    request = Signable(method, path, tuple(query.items()), {"host": "s3.example.com"}, UNSIGNED_PAYLOAD)
    ours = parse_qs(presign(request, signed, "nyc3", WHEN, expires_seconds=seconds), keep_blank_values=True)

    theirs = AWSRequest(method, f"https://s3.example.com{path}?{encode_query(query.items())}")
    theirs.context["timestamp"] = STAMP
    boto = S3SigV4QueryAuth(BotoCredentials(KEY.access_key_id, KEY.secret_access_key, token), "s3", "nyc3", seconds)
    getattr(boto, "_modify_request_before_signing")(theirs)  # noqa: B009 - what is public signs as of now
    canonical = boto.canonical_request(theirs)
    assert ours["X-Amz-Signature"] == [boto.signature(boto.string_to_sign(theirs, canonical), theirs)]
    named = parse_qs(urlsplit(str(theirs.url)).query, keep_blank_values=True)
    assert {name: values for name, values in ours.items() if name != "X-Amz-Signature"} == named
