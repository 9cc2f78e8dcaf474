"""What a bucket is set to, on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from types_boto3_s3 import S3Client

from spacesfs.client.buckets import Document
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.errors import AccessDenied, InvalidRequest, NoSuchBucket, NotFound

CORS = (
    "<CORSConfiguration><CORSRule><AllowedOrigin>https://example.org</AllowedOrigin>"
    "<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
)
LIFECYCLE = (
    "<LifecycleConfiguration><Rule><ID>old</ID><Prefix>tmp/</Prefix><Status>Enabled</Status>"
    "<Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>"
)


def policy(bucket: Bucket) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket.name}/*",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def test_location(bucket: Bucket, s3: S3Client) -> None:
    assert await bucket.location() == s3.get_bucket_location(Bucket=bucket.name)["LocationConstraint"]


async def test_versioning(bucket: Bucket, s3: S3Client) -> None:
    assert await bucket.versioning() == "never"
    await bucket.set_versioning(is_enabled=True)
    assert s3.get_bucket_versioning(Bucket=bucket.name)["Status"] == "Enabled"
    assert await bucket.versioning() == "enabled"
    await bucket.set_versioning(is_enabled=False)
    assert await bucket.versioning() == "suspended"


async def test_bucket_acl(bucket: Bucket, s3: S3Client) -> None:
    assert await bucket.get_bucket_acl() == "private"
    await bucket.set_bucket_acl("public-read")
    assert await bucket.get_bucket_acl() == "public-read"
    assert any("URI" in grant["Grantee"] for grant in s3.get_bucket_acl(Bucket=bucket.name)["Grants"])
    with pytest.raises(InvalidRequest, match="public-read-write"):
        await bucket.set_bucket_acl("public-read-write")  # type: ignore[arg-type]
    assert await bucket.get_bucket_acl() == "public-read"


async def test_cors(bucket: Bucket, s3: S3Client) -> None:
    await bucket.put_document("cors", CORS)
    assert s3.get_bucket_cors(Bucket=bucket.name)["CORSRules"][0]["AllowedOrigins"] == ["https://example.org"]
    assert "https://example.org" in (await bucket.get_document("cors") or "")


async def test_lifecycle(bucket: Bucket, s3: S3Client) -> None:
    await bucket.put_document("lifecycle", LIFECYCLE)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"][0]["ID"] == "old"
    assert "tmp/" in (await bucket.get_document("lifecycle") or "")


async def test_policy(bucket: Bucket, s3: S3Client) -> None:
    await bucket.put_document("policy", policy(bucket))
    theirs: Any = json.loads(s3.get_bucket_policy(Bucket=bucket.name)["Policy"])
    assert theirs == json.loads(policy(bucket)) == json.loads(await bucket.get_document("policy") or "")


@pytest.mark.parametrize("kind", ["cors", "lifecycle", "policy"])
async def test_documents_come_and_go(bucket: Bucket, kind: Document) -> None:
    documents = {"cors": CORS, "lifecycle": LIFECYCLE, "policy": policy(bucket)}
    assert await bucket.get_document(kind) is None
    await bucket.delete_document(kind)
    await bucket.put_document(kind, documents[kind])
    await bucket.delete_document(kind)
    assert await bucket.get_document(kind) is None
    with pytest.raises(InvalidRequest):
        await bucket.put_document(kind, "<nonsense")


async def test_a_document_that_there_is_not(bucket: Bucket) -> None:
    with pytest.raises(InvalidRequest, match="encryption"):
        await bucket.get_document("encryption")  # type: ignore[arg-type]


async def test_a_bucket_that_there_is_not(client: SpacesClient) -> None:
    missing = client.bucket("no-such-bucket")
    with pytest.raises(NoSuchBucket):
        await missing.location()
    with pytest.raises(NoSuchBucket):
        await missing.get_document("cors")
    with pytest.raises(NotFound):
        await missing.delete_document("cors")


async def test_a_stranger_may_not(bucket: Bucket, stranger: SpacesClient) -> None:
    theirs = stranger.bucket(bucket.name)
    with pytest.raises(AccessDenied):
        await theirs.get_bucket_acl()
    with pytest.raises(AccessDenied):
        await theirs.set_versioning(is_enabled=True)
    with pytest.raises(AccessDenied):
        await theirs.put_document("policy", policy(bucket))
