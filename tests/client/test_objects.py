"""Object calls on a real server."""

from __future__ import annotations

import hashlib

import pytest
import trio
from types_boto3_s3 import S3Client

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import (
    AccessDenied,
    EncryptedObject,
    InvalidRange,
    InvalidRequest,
    KeyTooLong,
    NoSuchKey,
    NotSupported,
    PreconditionFailed,
)
from spacesfs.client.hashing import INLINE_BYTES, Body
from spacesfs.client.models import ObjectProperties
from tests.client.test_listing import HOSTILE_KEYS

EVERYTHING = ObjectProperties(
    content_type="text/x-python",
    cache_control="max-age=60",
    content_disposition='attachment; filename="a b"',
    content_encoding="gzip",
    content_language="da",
    expires="Thu, 01 Dec 2026 16:00:00 GMT",
    metadata={"mode": "33188", "mtime": "1795331529.948000001", "note": "two  blanks, 100%"},
)


def md5(body: Body) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


async def read(bucket: Bucket, key: str, start: int = 0, length: int = 1 << 20, if_match: str | None = None) -> bytes:
    buffer = bytearray(length)
    info = await bucket.get_range(key, start, memoryview(buffer), if_match=if_match)
    return bytes(buffer[: info.size - start])


@pytest.mark.parametrize("key", HOSTILE_KEYS)
async def test_every_key_means_itself(bucket: Bucket, s3: S3Client, key: str) -> None:
    body = key.encode()
    etag = await bucket.put(key, body)
    assert s3.get_object(Bucket=bucket.name, Key=key)["Body"].read() == body
    assert (await bucket.head(key)).etag == etag
    assert await read(bucket, key) == body
    assert (await bucket.copy(key, "copy")).etag == etag
    assert await read(bucket, "copy") == body
    await bucket.delete(key)
    with pytest.raises(NoSuchKey):
        await bucket.head(key)


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 3 << 20])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bodies_of_any_size_and_kind(bucket: Bucket, size: int, kind: type[Body]) -> None:
    body = bytes(index * 7 % 251 for index in range(1024)) * (size // 1024 + 1)
    etag = await bucket.put("k", kind(body[:size]))
    assert etag == md5(body[:size])
    info = await bucket.head("k")
    assert (info.size, info.etag) == (size, etag)
    if size:
        assert await read(bucket, "k", length=size) == body[:size]


async def test_ranges(bucket: Bucket) -> None:
    await bucket.put("k", b"0123456789")
    buffer = bytearray(b"........")
    info = await bucket.get_range("k", 6, memoryview(buffer))
    assert (bytes(buffer), info.size) == (b"6789....", 10)
    info = await bucket.get_range("k", 2, memoryview(buffer)[2:5])
    assert bytes(buffer) == b"67234..."
    with pytest.raises(InvalidRange):
        await read(bucket, "k", 10)
    await bucket.put("empty", b"")
    with pytest.raises(InvalidRange):
        await read(bucket, "empty")


async def test_reading_one_version(bucket: Bucket) -> None:
    first = await bucket.put("k", b"first")
    assert await read(bucket, "k", if_match=first) == b"first"
    await bucket.put("k", b"second")
    with pytest.raises(PreconditionFailed):
        await read(bucket, "k", if_match=first)
    with pytest.raises(NoSuchKey):
        await read(bucket, "missing", if_match=first)


async def test_properties_are_kept(bucket: Bucket, s3: S3Client) -> None:
    await bucket.put("k", b"x", EVERYTHING)
    assert (await bucket.head("k")).properties == EVERYTHING
    theirs = s3.head_object(Bucket=bucket.name, Key="k")
    assert theirs["Metadata"] == EVERYTHING.metadata
    assert theirs["ContentType"] == EVERYTHING.content_type
    buffer = bytearray(1)
    assert (await bucket.get_range("k", 0, memoryview(buffer))).properties == EVERYTHING


async def test_metadata_beyond_ascii_outlives_a_rewrite(bucket: Bucket) -> None:
    foreign = ObjectProperties(metadata={"note": "café ✓\u00a0\u2003two", "plain": "a"})
    await bucket.put("k", b"x", foreign)
    before = await bucket.head("k")
    await bucket.copy("k", "k", source_etag=before.etag, replace=before.properties)
    assert (await bucket.head("k")).properties.metadata == foreign.metadata


async def test_acl_and_tags(bucket: Bucket) -> None:
    await bucket.put("k", b"x", ObjectProperties(acl="public-read", tags="a=b%20c&d="))
    assert await bucket.get_acl("k") == "public-read"
    assert await bucket.get_tags("k") == "a=b%20c&d="
    assert (await bucket.head("k")).tag_count == 2
    await bucket.set_acl("k", "private")
    assert await bucket.get_acl("k") == "private"
    before = await bucket.head("k")
    await bucket.set_tags("k", "e=%C3%A9%26")
    assert await bucket.get_tags("k") == "e=%C3%A9%26"
    after = await bucket.head("k")
    assert (after.etag, after.last_modified_ns >= before.last_modified_ns) == (before.etag, True)
    await bucket.put("k", b"y")
    assert await bucket.get_tags("k") is None
    with pytest.raises(NoSuchKey):
        await bucket.get_acl("missing")


async def test_conditions(bucket: Bucket) -> None:
    first = await bucket.put("k", b"first", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        await bucket.put("k", b"other", if_none_match=True)
    second = await bucket.put("k", b"second", if_match=first)
    with pytest.raises(PreconditionFailed):
        await bucket.put("k", b"third", if_match=first)
    assert (await bucket.head("k")).etag == second


async def test_of_many_who_create_one_key_one_does(bucket: Bucket) -> None:
    created: list[int] = []

    async def create(number: int) -> None:
        try:
            await bucket.put("lock", b"%d" % number, if_none_match=True)
        except PreconditionFailed:
            return
        created.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(create, number)
    assert await read(bucket, "lock") == b"%d" % created[0]
    assert len(created) == 1


async def test_a_copy_keeps_or_replaces(bucket: Bucket) -> None:
    etag = await bucket.put("a", b"bytes", EVERYTHING)
    await bucket.set_acl("a", "public-read")
    copied = await bucket.copy("a", "b", source_etag=etag)
    assert (copied.etag, (await bucket.head("b")).properties) == (etag, EVERYTHING)
    assert await bucket.get_acl("b") == "private"
    await bucket.copy("a", "c", acl="public-read")
    assert await bucket.get_acl("c") == "public-read"
    fresh = ObjectProperties(content_type="text/plain", metadata={"x": "y"}, acl="public-read", tags="t=1")
    replaced = await bucket.copy("a", "a", source_etag=etag, replace=fresh)
    info = await bucket.head("a")
    assert (info.properties.content_type, info.properties.metadata) == ("text/plain", {"x": "y"})
    assert info.properties.cache_control is None
    assert info.last_modified_ns == replaced.last_modified_ns // 10**9 * 10**9
    assert (await bucket.get_acl("a"), await bucket.get_tags("a")) == ("public-read", "t=1")


async def test_a_copy_that_cannot_be(bucket: Bucket) -> None:
    await bucket.put("a", b"x")
    with pytest.raises(PreconditionFailed):
        await bucket.copy("a", "b", source_etag=md5(b"other"))
    with pytest.raises(NoSuchKey):
        await bucket.copy("missing", "b")
    with pytest.raises(InvalidRequest):
        await bucket.copy("a", "a")


async def test_delete_many(bucket: Bucket) -> None:
    async with trio.open_nursery() as nursery:
        for key in HOSTILE_KEYS:
            nursery.start_soon(bucket.put, key, b"x")
    assert await bucket.delete_many([*HOSTILE_KEYS, "missing"]) == []
    assert (await bucket.list_page("")).objects == ()
    assert await bucket.delete_many([]) == []


async def test_deleting_what_is_missing_is_fine(bucket: Bucket) -> None:
    await bucket.delete("missing")


async def test_encrypted_objects_are_told_apart(bucket: Bucket, s3: S3Client) -> None:
    s3.put_object(Bucket=bucket.name, Key="secret", Body=b"x", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    with pytest.raises(EncryptedObject):
        await bucket.head("secret")
    with pytest.raises(EncryptedObject):
        await read(bucket, "secret")
    with pytest.raises(NotSupported):
        await bucket.copy("secret", "copy")


async def test_a_stranger_is_refused(bucket: Bucket, stranger: SpacesClient) -> None:
    await bucket.put("k", b"x")
    theirs = stranger.bucket(bucket.name)
    with pytest.raises(AccessDenied) as failure:
        await read(theirs, "k")
    assert failure.value.request_id
    with pytest.raises(AccessDenied):
        await theirs.head("k")
    with pytest.raises(AccessDenied):
        await theirs.put("k", b"y")
    with pytest.raises(AccessDenied):
        await theirs.delete_many(["k"])
    assert await read(bucket, "k") == b"x"


async def test_keys_that_cannot_be(bucket: Bucket) -> None:
    with pytest.raises(KeyTooLong):
        await bucket.put("k" * 1025, b"")
    with pytest.raises(InvalidRequest):
        await bucket.head("")


@pytest.mark.parametrize("refused", [ObjectProperties(acl="public-read-write"), ObjectProperties(storage_class="COLD")])  # type: ignore[arg-type]
async def test_what_spaces_does_not_know_is_not_sent(bucket: Bucket, refused: ObjectProperties) -> None:
    with pytest.raises(InvalidRequest, match=r"COLD|public-read-write"):
        await bucket.put("k", b"x", refused)
    with pytest.raises(InvalidRequest):
        await bucket.create_upload("k", refused)
    with pytest.raises(NoSuchKey):
        await bucket.head("k")


async def test_storage_class(bucket: Bucket) -> None:
    await bucket.put("k", b"x", ObjectProperties(storage_class="STANDARD"))
    with pytest.raises(InvalidRequest):
        await bucket.put("k", b"x", ObjectProperties(storage_class="GLACIER"))  # known to S3, not to this server


async def test_tags_are_taken_off(bucket: Bucket) -> None:
    await bucket.put("k", b"x", ObjectProperties(tags="a=b"))
    await bucket.delete_tags("k")
    assert await bucket.get_tags("k") is None


async def test_objects_under_a_customers_key(bucket: Bucket) -> None:
    key, other = CustomerKey(b"k" * 32), CustomerKey(b"o" * 32)
    etag = await bucket.put("secret", b"content", customer_key=key)
    assert etag == md5(b"content")
    info = await bucket.head("secret", customer_key=key)
    assert (info.size, info.is_encrypted) == (7, True)
    buffer = bytearray(7)
    await bucket.get_range("secret", 0, memoryview(buffer), customer_key=key)
    assert buffer == b"content"
    for wrong in (None, other):
        with pytest.raises(EncryptedObject):
            await bucket.head("secret", customer_key=wrong)
        with pytest.raises(EncryptedObject):
            await bucket.get_range("secret", 0, memoryview(buffer), customer_key=wrong)
    assert "k" * 32 not in repr(key)
    with pytest.raises(ValueError, match="32 bytes"):
        CustomerKey(b"short")


async def test_an_upload_under_a_customers_key(bucket: Bucket) -> None:
    key = CustomerKey(b"k" * 32)
    upload = await bucket.create_upload("secret", customer_key=key)
    part = await bucket.upload_part("secret", upload, 1, b"content", customer_key=key)
    await bucket.complete_upload("secret", upload, [part])
    assert (await bucket.head("secret", customer_key=key)).size == 7
    with pytest.raises(EncryptedObject):
        await bucket.head("secret")


async def test_a_copy_from_another_bucket(bucket: Bucket, client: SpacesClient) -> None:
    other = client.bucket(f"{bucket.name}-other")
    await client.create_bucket(other.name)
    try:
        etag = await other.put("a +é", b"bytes", EVERYTHING)
        assert (await bucket.copy("a +é", "b", source_bucket=other.name, source_etag=etag)).etag == etag
        assert (await bucket.head("b")).properties == EVERYTHING
        upload = await bucket.create_upload("c")
        await bucket.copy_part("c", upload, 1, "a +é", 0, 5, source_bucket=other.name)
        await bucket.abort_upload("c", upload)
        await other.delete("a +é")
    finally:
        await client.delete_bucket(other.name)
