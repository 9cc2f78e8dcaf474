"""The bucket in memory does what the real one does: every case runs on both."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from types_boto3_s3 import S3Client

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import InvalidRange, NoSuchKey, NoSuchUpload, PreconditionFailed
from spacesfs.client.models import ObjectProperties
from tests.memory_store import MemoryStore
from tests.servers.rgw import RadosGateway

Store = MemoryStore | Bucket
Check = Callable[[Store], Awaitable[None]]

CARRIED = ObjectProperties(content_type="text/plain", metadata={"mode": "33188"}, acl="public-read", tags="a=b")
MIB = 1 << 20


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def real(rgw: RadosGateway, bucket_name: str) -> AsyncIterator[Bucket]:
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials) as client:
        yield client.bucket(bucket_name)


async def check_objects(store: Store) -> None:
    first = await store.put("k", b"first", CARRIED, if_none_match=True)
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"other", if_none_match=True)
    second = await store.put("k", b"second", CARRIED, if_match=first)
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"third", if_match=first)
    info = await store.head("k")
    assert (info.size, info.etag, info.last_modified_ns % 10**9) == (6, second, 0)
    assert (info.properties.metadata, info.properties.acl, info.properties.tags) == ({"mode": "33188"}, None, None)
    assert (await store.get_acl("k"), await store.get_tags("k")) == ("public-read", "a=b")
    await store.delete("k")
    await store.delete("k")
    with pytest.raises(NoSuchKey):
        await store.head("k")


async def check_ranges(store: Store) -> None:
    etag = await store.put("k", b"0123456789")
    buffer = bytearray(b"....")
    assert (await store.get_range("k", 8, memoryview(buffer), if_match=etag)).size == 10
    assert buffer == b"89.."
    with pytest.raises(InvalidRange):
        await store.get_range("k", 10, memoryview(buffer))
    with pytest.raises(PreconditionFailed):
        await store.get_range("k", 0, memoryview(buffer), if_match="0" * 32)
    with pytest.raises(NoSuchKey):
        await store.get_range("missing", 0, memoryview(buffer), if_match=etag)


async def check_copies(store: Store) -> None:
    etag = await store.put("a", b"bytes", CARRIED)
    assert (await store.copy("a", "b", source_etag=etag)).etag == etag
    assert (await store.head("b")).properties.metadata == {"mode": "33188"}
    assert (await store.get_acl("b"), await store.get_tags("b")) == ("private", "a=b")
    await store.copy("a", "a", replace=ObjectProperties(metadata={"x": "y"}, acl="public-read"))
    assert (await store.head("a")).properties.metadata == {"x": "y"}
    assert (await store.get_acl("a"), await store.get_tags("a")) == ("public-read", None)
    with pytest.raises(PreconditionFailed):
        await store.copy("a", "c", source_etag="0" * 32)
    with pytest.raises(NoSuchKey):
        await store.copy("missing", "c")


async def check_uploads(store: Store) -> None:
    await store.put("base", b"b" * (5 * MIB))
    upload = await store.create_upload("k", ObjectProperties(metadata={"x": "y"}))
    copied = await store.copy_part("k", upload, 1, "base", 0, 5 * MIB, source_etag="0" * 32)  # ignored, as it is there
    sent = await store.upload_part("k", upload, 2, b"end")
    assert await store.list_parts("k", upload) == [copied, sent]
    assert [(found.key, found.upload_id) for found in await store.list_uploads("k")] == [("k", upload)]
    assert await store.list_uploads("other") == []
    etag = await store.complete_upload("k", upload, [copied, sent], tags="a=b")
    info = await store.head("k")
    assert (info.size, info.etag, info.properties.metadata) == (5 * MIB + 3, etag, {"x": "y"})
    digests = bytes.fromhex(copied.etag) + bytes.fromhex(sent.etag)
    assert etag == hashlib.md5(digests, usedforsecurity=False).hexdigest() + "-2"
    assert await store.get_tags("k") == "a=b"
    aborted = await store.create_upload("k")
    await store.abort_upload("k", aborted)
    for gone in (aborted, upload):
        with pytest.raises(NoSuchUpload):
            await store.abort_upload("k", gone)
    with pytest.raises(NoSuchUpload):
        await store.upload_part("k", aborted, 1, b"x")
    with pytest.raises(NoSuchUpload):
        await store.list_parts("k", aborted)
    assert await store.list_uploads() == []


async def check_listings(store: Store) -> None:
    for key in ("a", "d/", "d/x", "d/y/z", "d0", "e/é", "e/\U0001f600", "e/\uffff"):
        await store.put(key, b"")
    page = await store.list_page("", delimiter="/")
    assert ([entry.key for entry in page.objects], page.prefixes, page.resume) == (["a", "d0"], ("d/", "e/"), None)
    page = await store.list_page("d/", delimiter="/")
    assert ([entry.key for entry in page.objects], page.prefixes) == (["d/", "d/x"], ("d/y/",))
    page = await store.list_page("e/", max_keys=2)
    assert page.resume
    rest = await store.list_page("e/", resume=page.resume)
    keys = [entry.key for entry in page.objects + rest.objects]
    page = await store.list_page("", delimiter="/", start_after="a")
    assert ([entry.key for entry in page.objects], page.prefixes) == (["d0"], ("d/", "e/"))
    page = await store.list_page("d/", delimiter="/", start_after="d/")
    assert ([entry.key for entry in page.objects], page.prefixes) == (["d/x"], ("d/y/",))
    assert (keys, rest.resume) == (["e/é", "e/\uffff", "e/\U0001f600"], None)
    assert await store.delete_many([*keys, "missing"]) == []
    assert (await store.list_page("e/")).objects == ()


async def check_conditions_of_a_versioned_bucket(store: Store) -> None:
    first = await store.put("k", b"first", if_none_match=True)
    second = await store.put("k", b"second", if_none_match=True)
    assert first != second
    with pytest.raises(PreconditionFailed):
        await store.put("k", b"third", if_match=second)
    assert (await store.head("k")).etag == second


CHECKS = [check_objects, check_ranges, check_copies, check_uploads, check_listings]


@pytest.mark.parametrize("check", CHECKS)
async def test_in_memory(check: Check, memory: MemoryStore) -> None:
    await check(memory)


@pytest.mark.parametrize("check", CHECKS)
async def test_on_a_real_server(check: Check, real: Bucket) -> None:
    await check(real)


async def test_a_versioned_bucket_in_memory(memory: MemoryStore) -> None:
    memory.conditions = "versioned"
    await check_conditions_of_a_versioned_bucket(memory)


async def test_a_versioned_bucket_on_a_real_server(real: Bucket, s3: S3Client, bucket_name: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket_name, VersioningConfiguration={"Status": "Enabled"})
    await check_conditions_of_a_versioned_bucket(real)


async def test_conditions_that_are_ignored(memory: MemoryStore) -> None:
    memory.conditions = "ignored"
    await memory.put("k", b"first", if_none_match=True)
    await memory.put("k", b"second", if_none_match=True)
    await memory.put("k", b"third", if_match="0" * 32)
    assert memory.body("k") == b"third"


async def test_what_can_not_be_deleted(memory: MemoryStore) -> None:
    memory.undeletable = {"a"}
    for key in ("a", "b"):
        memory.set(key, b"")
    assert [failure.key for failure in await memory.delete_many(["a", "b"])] == ["a"]
    assert memory.names() == ["a"]
