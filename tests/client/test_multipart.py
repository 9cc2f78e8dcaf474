"""Multipart uploads on a real server."""

from __future__ import annotations

import pytest

from spacesfs.client.client import Bucket
from spacesfs.client.errors import InvalidRange, InvalidRequest, NoSuchKey, NoSuchUpload
from spacesfs.client.hashing import multipart_etag
from spacesfs.client.models import ObjectProperties

MIB = 1 << 20
FIRST = bytes(range(256)) * (5 * MIB // 256)
SECOND = b"the end"
PROPERTIES = ObjectProperties(content_type="text/plain", metadata={"mode": "33188"}, acl="public-read", tags="a=b")


async def content(bucket: Bucket, key: str) -> bytes:
    buffer = bytearray((await bucket.head(key)).size)
    await bucket.get_range(key, 0, memoryview(buffer))
    return bytes(buffer)


async def test_an_upload(bucket: Bucket) -> None:
    upload = await bucket.create_upload("dir/a +b", PROPERTIES)
    first = await bucket.upload_part("dir/a +b", upload, 1, FIRST)
    last = await bucket.upload_part("dir/a +b", upload, 7, memoryview(SECOND))
    assert [part.size for part in (first, last)] == [len(FIRST), len(SECOND)]
    assert await bucket.list_parts("dir/a +b", upload) == [first, last]
    assert [(u.key, u.upload_id) for u in await bucket.list_uploads("dir/")] == [("dir/a +b", upload)]
    assert await bucket.list_uploads("elsewhere/") == []

    etag = await bucket.complete_upload("dir/a +b", upload, [last, first], tags=PROPERTIES.tags)
    assert etag == multipart_etag([first.etag, last.etag])
    info = await bucket.head("dir/a +b")
    assert (info.etag, info.properties.content_type) == (etag, "text/plain")
    assert info.properties.metadata == PROPERTIES.metadata
    assert await bucket.get_acl("dir/a +b") == "public-read"
    assert await bucket.get_tags("dir/a +b") == "a=b"
    assert await content(bucket, "dir/a +b") == FIRST + SECOND
    assert await bucket.list_uploads() == []


async def test_completing_twice_is_completing(bucket: Bucket) -> None:
    upload = await bucket.create_upload("k")
    parts = [await bucket.upload_part("k", upload, 1, SECOND)]
    assert await bucket.complete_upload("k", upload, parts) == await bucket.complete_upload("k", upload, parts)


async def test_copied_parts(bucket: Bucket) -> None:
    etag = await bucket.put("source é", FIRST)
    upload = await bucket.create_upload("k")
    first = await bucket.copy_part("k", upload, 1, "source é", 0, len(FIRST), source_etag=etag)
    second = await bucket.copy_part("k", upload, 2, "source é", 5, 9)
    assert (first.etag, first.size, second.size) == (etag, len(FIRST), 4)
    await bucket.complete_upload("k", upload, [first, second])
    assert await content(bucket, "k") == FIRST + FIRST[5:9]


async def test_copied_parts_that_cannot_be(bucket: Bucket) -> None:
    await bucket.put("source", b"x")
    upload = await bucket.create_upload("k")
    with pytest.raises(InvalidRange):
        await bucket.copy_part("k", upload, 1, "source", 0, 2)
    with pytest.raises(NoSuchKey):
        await bucket.copy_part("k", upload, 1, "missing", 0, 1)


async def test_an_upload_that_does_not_fit_is_refused(bucket: Bucket) -> None:
    upload = await bucket.create_upload("k")
    parts = [await bucket.upload_part("k", upload, number, SECOND) for number in (1, 2)]
    with pytest.raises(InvalidRequest) as failure:
        await bucket.complete_upload("k", upload, parts)
    assert failure.value.code == "EntityTooSmall"


@pytest.mark.parametrize("number", [0, 10_001])
async def test_part_numbers_are_checked_here(bucket: Bucket, number: int) -> None:
    with pytest.raises(ValueError, match="10000"):
        await bucket.upload_part("k", "upload", number, b"x")


async def test_an_aborted_upload_is_gone(bucket: Bucket) -> None:
    upload = await bucket.create_upload("k")
    await bucket.upload_part("k", upload, 1, SECOND)
    await bucket.abort_upload("k", upload)
    with pytest.raises(NoSuchUpload):
        await bucket.abort_upload("k", upload)
    with pytest.raises(NoSuchUpload):
        await bucket.upload_part("k", upload, 2, SECOND)
    with pytest.raises(NoSuchUpload):
        await bucket.list_parts("k", upload)
    with pytest.raises(NoSuchKey):
        await bucket.head("k")


async def test_more_parts_than_a_page(bucket: Bucket) -> None:
    upload = await bucket.create_upload("k")
    sent = [await bucket.upload_part("k", upload, number, b"") for number in range(1, 1003)]
    assert await bucket.list_parts("k", upload) == sent
    await bucket.abort_upload("k", upload)
