"""Streams and files out of a real Space, and out of one that lies."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import trio
from types_boto3_s3 import S3Client

from spacesfs.client.buffers import PIECE_BYTES, Buffers
from spacesfs.client.client import Bucket
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import (
    EncryptedObject,
    IntegrityError,
    InvalidRange,
    NoSuchKey,
    PreconditionFailed,
    SpacesError,
)
from spacesfs.client.models import ObjectProperties
from tests.client.scripted import Answer, scripted

SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5)


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def read(bucket: Bucket, key: str, start: int = 0, end: int | None = None) -> bytes:
    async with bucket.stream(key, start, end) as stream:
        data = b"".join([bytes(piece) async for piece in stream])
    assert stream.size == len(data)
    return data


@pytest.mark.parametrize("size", SIZES)
async def test_objects_of_any_size(bucket: Bucket, s3: S3Client, tmp_path: Path, size: int) -> None:
    body = content(size)
    s3.put_object(Bucket=bucket.name, Key="dir/k", Body=body, ContentType="text/plain")
    assert await read(bucket, "dir/k") == body
    info, got = await bucket.get("dir/k")
    assert (got, info.size, info.properties.content_type) == (body, size, "text/plain")
    moved: list[int] = []
    assert await bucket.download_file("dir/k", tmp_path / "f", on_bytes=moved.append) == info
    assert (tmp_path / "f").read_bytes() == body
    assert sum(moved) == size


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 6), (0, 2**40), (7, None), (PIECE_BYTES - 1, PIECE_BYTES + 1), (3, 2 * PIECE_BYTES)]
)
async def test_ranges(bucket: Bucket, tmp_path: Path, start: int, end: int | None) -> None:
    body = content(2 * PIECE_BYTES + 9)
    await bucket.put("k", body)
    assert await read(bucket, "k", start, end) == body[start:end]
    await bucket.download_file("k", tmp_path / "f", start, end)
    assert (tmp_path / "f").read_bytes() == body[start:end]


async def test_ranges_that_are_not_there(bucket: Bucket) -> None:
    await bucket.put("k", b"abc")
    await bucket.put("empty", b"")
    for key, start in (("k", 3), ("k", 9), ("empty", 1)):
        with pytest.raises(InvalidRange):
            await read(bucket, key, start)
    for start, end in ((-1, None), (2, 2), (3, 1)):
        with pytest.raises(ValueError, match="no bytes"):
            await read(bucket, "k", start, end)
    with pytest.raises(NoSuchKey):
        await read(bucket, "missing")


async def test_a_stream_may_be_left_early(bucket: Bucket) -> None:
    await bucket.put("k", content(4 * PIECE_BYTES))
    buffers = Buffers(2 * PIECE_BYTES)
    async with bucket.stream("k", buffers=buffers) as stream:
        assert bytes((await anext(stream))[:3]) == content(3)
    with trio.fail_after(5):
        async with buffers.borrow(2 * PIECE_BYTES):
            pass


async def test_many_at_once_within_little_memory(bucket: Bucket, tmp_path: Path) -> None:
    body = content(3 * PIECE_BYTES)
    await bucket.put("k", body)
    buffers = Buffers(2 * PIECE_BYTES)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            target = tmp_path / str(number)
            nursery.start_soon(partial(bucket.download_file, "k", target, buffers=buffers))
    assert {(tmp_path / str(number)).read_bytes() == body for number in range(5)} == {True}


async def test_two_versions_are_never_mixed(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("k", content(3 * PIECE_BYTES))

    async def read_and_replace() -> None:
        async with bucket.stream("k", buffers=Buffers(PIECE_BYTES)) as stream:
            async for _ in stream:
                await bucket.put("k", b"x" * 3 * PIECE_BYTES)

    with pytest.raises(PreconditionFailed):
        await read_and_replace()


async def test_an_old_version(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.set_versioning(is_enabled=True)
    await bucket.put("k", b"old")
    version = (await bucket.head("k")).version_id
    await bucket.put("k", b"new")
    info = await bucket.download_file("k", tmp_path / "f", version_id=version)
    assert ((tmp_path / "f").read_bytes(), info.version_id) == (b"old", version)


async def test_under_a_customers_key(bucket: Bucket, tmp_path: Path) -> None:
    key = CustomerKey(os.urandom(32))
    await bucket.put("k", content(PIECE_BYTES + 1), customer_key=key)
    await bucket.download_file("k", tmp_path / "f", customer_key=key)
    assert (tmp_path / "f").read_bytes() == content(PIECE_BYTES + 1)
    with pytest.raises(EncryptedObject):
        await bucket.download_file("k", tmp_path / "g")
    assert os.listdir(tmp_path) == ["f"]


async def test_existing_targets(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("dir/name", b"new")
    (tmp_path / "name").write_bytes(b"before")
    with pytest.raises(FileExistsError):
        await bucket.download_file("dir/name", tmp_path)
    assert (tmp_path / "name").read_bytes() == b"before"
    await bucket.download_file("dir/name", tmp_path, overwrite=True)
    assert (tmp_path / "name").read_bytes() == b"new"


async def test_an_interrupted_download_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("k", content(3 * PIECE_BYTES))
    with trio.CancelScope() as scope:
        await bucket.download_file("k", tmp_path / "f", on_bytes=lambda _: scope.cancel())
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


async def test_bytes_that_are_not_those_promised(tmp_path: Path) -> None:
    headers = {
        "etag": '"900150983cd24fb0d6963f7d28e17f72"',  # of b"abc"
        "last-modified": "Thu, 01 Dec 2026 16:00:00 GMT",
        "content-range": "bytes 0-2/3",
    }
    async with scripted(Answer(status=206, body=b"abd", headers=headers)) as (client, _):
        bucket = client.bucket("bucket")
        with pytest.raises(IntegrityError, match="900150983cd24fb0d6963f7d28e17f72"):
            await bucket.download_file("k", tmp_path / "f")
        with pytest.raises(IntegrityError):
            await bucket.get("k")
    assert os.listdir(tmp_path) == []


async def test_a_multipart_object_has_no_md5_to_compare(bucket: Bucket) -> None:
    upload = await bucket.create_upload("k", ObjectProperties(content_type="text/plain"))
    await bucket.complete_upload("k", upload, [await bucket.upload_part("k", upload, 1, b"abc")])
    info, body = await bucket.get("k")
    assert (info.md5, body) == (None, b"abc")


async def test_a_server_that_fails_in_the_middle(tmp_path: Path) -> None:
    headers = {
        "etag": '"0123-4"',
        "last-modified": "Thu, 01 Dec 2026 16:00:00 GMT",
        "content-range": f"bytes 0-{PIECE_BYTES - 1}/{3 * PIECE_BYTES}",
    }
    denied = Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
    async with scripted(Answer(206, bytes(PIECE_BYTES), headers), denied) as (client, _):
        with pytest.raises(SpacesError, match="AccessDenied"):
            await client.bucket("bucket").download_file("k", tmp_path / "f")
    assert os.listdir(tmp_path) == []
