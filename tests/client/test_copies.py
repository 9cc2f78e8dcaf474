"""Copies on a real server that keep everything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spacesfs.client import copies
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import InvalidRequest, NoSuchKey, NotSupported, PreconditionFailed
from tests.client.test_downloads import content
from tests.client.test_objects import EVERYTHING

MIB = 1 << 20
CARRIED = replace(EVERYTHING, acl="public-read", tags="a=b%20c")


@pytest.fixture(params=["one request", "parts"])
def in_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether objects count as too large for one copy; a real one of over 5 GB takes more memory than there is."""
    if request.param == "parts":
        monkeypatch.setattr(copies, "MAX_COPY_BYTES", MIB)
        monkeypatch.setattr(copies, "PART_BYTES", 5 * MIB)
    return bool(request.param == "parts")


async def test_everything_is_carried_over(bucket: Bucket, in_parts: bool) -> None:
    body = content(12 * MIB)
    await bucket.put("a +é", body, CARRIED)
    copied = await bucket.copy_object("a +é", "b")
    info, got = await bucket.get("b")
    assert got == body
    assert (info.etag, info.size) == (copied.etag, copied.size)
    assert ("-3" in info.etag) == in_parts
    assert info.properties == EVERYTHING
    assert (await bucket.get_acl("b"), await bucket.get_tags("b")) == ("public-read", "a=b%20c")
    assert await bucket.list_uploads() == []


async def test_from_another_bucket(bucket: Bucket, client: SpacesClient, in_parts: bool) -> None:
    other = client.bucket(f"{bucket.name}-other")
    await client.create_bucket(other.name)
    try:
        await bucket.put("a", content(6 * MIB), CARRIED)
        await other.copy_object("a", "b", source_bucket=bucket.name)
        assert (await other.get("b"))[1] == content(6 * MIB)
        assert (await other.get_acl("b"), await other.get_tags("b")) == ("public-read", "a=b%20c")
    finally:
        await other.delete("b")
        await client.delete_bucket(other.name)


async def test_existing_targets(bucket: Bucket, in_parts: bool) -> None:
    await bucket.put("a", content(2 * MIB))
    await bucket.put("b", b"theirs")
    with pytest.raises(PreconditionFailed):
        await bucket.copy_object("a", "b", overwrite=False)
    assert (await bucket.get("b"))[1] == b"theirs"
    await bucket.copy_object("a", "b")
    assert (await bucket.head("b")).size == 2 * MIB
    assert await bucket.list_uploads() == []


async def test_copies_that_can_not_be(bucket: Bucket, in_parts: bool) -> None:
    with pytest.raises(NoSuchKey):
        await bucket.copy_object("missing", "b")
    await bucket.put("a", b"x")
    for source_bucket in (None, bucket.name):
        with pytest.raises(InvalidRequest, match="onto itself"):
            await bucket.copy_object("a", "a", source_bucket=source_bucket)
    assert (await bucket.get("a"))[1] == b"x"
    await bucket.put("secret", b"x", customer_key=CustomerKey(b"k" * 32))
    with pytest.raises(NotSupported):
        await bucket.copy("secret", "b")


async def test_a_source_that_is_replaced_meanwhile(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MAX_COPY_BYTES", 0)
    await bucket.put("a", content(2 * MIB))
    copy_part = Bucket.copy_part

    async def copy_and_replace(self: Bucket, *arguments: object, **named: object) -> object:
        part = await copy_part(self, *arguments, **named)  # type: ignore[arg-type]
        await self.put("a", b"another")
        return part

    monkeypatch.setattr(Bucket, "copy_part", copy_and_replace)
    with pytest.raises(PreconditionFailed):
        await bucket.copy_object("a", "b")
    with pytest.raises(NoSuchKey):
        await bucket.head("b")
    assert await bucket.list_uploads() == []
