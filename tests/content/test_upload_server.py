"""Uploads in parts to a real server: what it lists, copies, completes and forgets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.models import ObjectVersion
from spacesfs.content.extents import Extent
from tests.content.uploading import CELL, MIB, PROPERTIES, Bench
from tests.servers.rgw import RadosGateway

BODY = random.Random(5).randbytes(4 * CELL + 77)
OLD = random.Random(6).randbytes(8 * CELL + 5)


@pytest.fixture
async def bucket(rgw: RadosGateway, bucket_name: str) -> AsyncIterator[Bucket]:
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials) as client:
        yield client.bucket(bucket_name)


async def existing(bucket: Bucket, directory: Path) -> Bench:
    return Bench(bucket, directory, ObjectVersion("k", await bucket.put("k", OLD), len(OLD)))


async def holds(bucket: Bucket, body: bytes) -> None:
    """Assert that the object has these bytes and that no upload was left open."""
    info = await bucket.head("k")
    found = bytearray(info.size)
    if found:
        await bucket.get_range("k", 0, memoryview(found))
    assert found == body
    assert info.properties.metadata == PROPERTIES.metadata
    assert await bucket.list_uploads() == []


async def test_streaming_with_patches_of_sent_parts(bucket: Bucket, tmp_path: Path) -> None:
    bench = Bench(bucket, tmp_path, None)
    for offset in range(0, len(BODY), MIB):
        bench.write(offset, BODY[offset : offset + MIB])
        await bench.pump()
    (upload,) = await bucket.list_uploads()
    assert len(await bucket.list_parts("k", upload.upload_id)) == 4
    bench.write(0, b"header")
    bench.write(3 * CELL - 3, b"over an edge")
    made = await bench.finish()
    await holds(bucket, bench.body())
    assert (await bucket.head("k")).etag == made.etag


@pytest.mark.parametrize("size", [len(OLD), len(OLD) + MIB, 5 * CELL + 9, 3 * CELL, 1, 0])
async def test_an_edit_of_any_size(bucket: Bucket, tmp_path: Path, size: int) -> None:
    bench = await existing(bucket, tmp_path)
    if size > 2 * CELL:
        bench.write(2 * CELL - 2, b"patch")
    bench.staged.truncate(size)
    await bench.finish()
    await holds(bucket, bench.body(OLD))


async def test_a_copy_split_after_it_was_made(bucket: Bucket, tmp_path: Path) -> None:
    bench = await existing(bucket, tmp_path)
    bench.write(0, b"first")

    async def write_once() -> None:
        if bench.checks == 1:
            bench.write(4 * CELL, b"second")

    bench.when_checked = write_once
    await bench.finish()
    await holds(bucket, bench.body(OLD))


async def test_cut_below_what_was_sent(bucket: Bucket, tmp_path: Path) -> None:
    bench = Bench(bucket, tmp_path, None)
    bench.write(0, BODY)
    await bench.pump()
    bench.staged.truncate(CELL + 1)
    await bench.finish()
    await holds(bucket, BODY[: CELL + 1])


async def test_a_resumed_upload(bucket: Bucket, tmp_path: Path) -> None:
    bench = Bench(bucket, tmp_path, None)
    bench.write(0, BODY)
    await bench.pump()
    record = await bench.staged.make_durable()
    bench.write(CELL, b"after the record, before the crash" * MIB)
    bench.restart(record)
    upload = bench.journal.records[record.number]
    await bench.upload.resume(upload, await bucket.list_parts("k", upload.upload_id), bench.source, None)
    assert bench.has_all(Extent(0, CELL))
    assert not bench.has_all(Extent(CELL, 2 * CELL))
    before = len(bench.source.reads)
    await bench.finish()
    assert bench.source.reads[before:] != []
    await holds(bucket, bench.body())


async def test_an_aborted_upload_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    bench = await existing(bucket, tmp_path)
    bench.write(0, bytes(CELL))
    await bench.pump()
    assert len(await bucket.list_uploads()) == 1
    assert await bench.upload.abort()
    assert await bucket.list_uploads() == []
    assert (await bucket.head("k")).size == len(OLD)
    assert bench.journal.records == {}


async def test_an_upload_that_another_aborted_begins_anew(bucket: Bucket, tmp_path: Path) -> None:
    bench = Bench(bucket, tmp_path, None)
    bench.write(0, BODY)
    await bench.pump()
    (upload,) = await bucket.list_uploads()
    await bucket.abort_upload("k", upload.upload_id)
    await bench.finish()
    await holds(bucket, BODY)


async def test_a_part_that_we_do_not_know_of(bucket: Bucket, tmp_path: Path) -> None:
    bench = Bench(bucket, tmp_path, None)
    bench.write(0, BODY)
    await bench.pump()
    (upload,) = await bucket.list_uploads()
    await bucket.upload_part("k", upload.upload_id, 100, b"sent before a crash, and late")
    await bench.finish()
    await holds(bucket, BODY)
