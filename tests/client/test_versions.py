"""Versions of objects, on a real server."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from spacesfs.client.client import Bucket
from spacesfs.client.errors import BadReply, NoSuchKey
from spacesfs.client.models import ListedVersion
from tests.client.scripted import Answer, scripted


async def versions(bucket: Bucket, prefix: str = "") -> list[ListedVersion]:
    return [version async for page in bucket.list_versions(prefix) for version in page]


async def test_versions_are_listed_read_and_deleted(bucket: Bucket) -> None:
    await bucket.put("a +é", b"before")
    await bucket.set_versioning(is_enabled=True)
    first = await bucket.put("a +é", b"first")
    second = await bucket.put("a +é", b"second!")
    await bucket.delete("a +é")
    await bucket.put("b", b"")

    listed = await versions(bucket, "a")
    assert [(v.key, v.is_latest, v.is_delete_marker, v.size) for v in listed] == [
        ("a +é", True, True, 0),
        ("a +é", False, False, 7),
        ("a +é", False, False, 5),
        ("a +é", False, False, 6),
    ]
    assert [v.etag for v in listed[:3]] == ["", second, first]
    assert listed[3].version_id == "null"
    with pytest.raises(NoSuchKey):
        await bucket.head("a +é")
    info = await bucket.head("a +é", version_id=listed[2].version_id)
    assert (info.etag, info.size, info.version_id) == (first, 5, listed[2].version_id)
    with pytest.raises(NoSuchKey):
        await bucket.head("a +é", version_id="no-such-version")

    for version in await versions(bucket):
        await bucket.delete(version.key, version_id=version.version_id)
    assert await versions(bucket) == []


async def test_many_pages(bucket: Bucket) -> None:
    await bucket.set_versioning(is_enabled=True)
    for _ in range(1001):
        await bucket.put("k", b"")
    listed = await versions(bucket)
    assert len({version.version_id for version in listed}) == len(listed) == 1001
    assert [version.is_latest for version in listed] == [True] + [False] * 1000
    async with trio.open_nursery() as nursery:
        for version in listed:
            nursery.start_soon(partial(bucket.delete, version.key, version_id=version.version_id))


async def test_a_listing_that_goes_in_circles_ends() -> None:
    page = (
        b"<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
        b"<NextVersionIdMarker>v</NextVersionIdMarker></ListVersionsResult>"
    )
    async with scripted(Answer(body=page)) as (client, _):
        with pytest.raises(BadReply, match="'k'"):
            await versions(client.bucket("bucket"))
