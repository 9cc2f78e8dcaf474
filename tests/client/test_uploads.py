"""Files and streams into a real Space."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from spacesfs.client import uploads
from spacesfs.client.buffers import PIECE_BYTES, Buffers
from spacesfs.client.client import Bucket
from spacesfs.client.encryption import CustomerKey
from spacesfs.client.errors import IntegrityError, InvalidRequest, NoSuchKey, PreconditionFailed, TooLarge
from spacesfs.client.models import ObjectProperties
from spacesfs.client.uploads import guess_type
from tests.client.test_downloads import SIZES, content

PROPERTIES = ObjectProperties(
    content_type="text/x-own", cache_control="no-cache", metadata={"note": "x"}, acl="public-read", tags="a=b"
)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("size", SIZES)
async def test_files_of_any_size(bucket: Bucket, tmp_path: Path, size: int) -> None:
    path = tmp_path / "f.html"
    path.write_bytes(content(size))
    moved: list[int] = []
    stored = await bucket.upload_file("k", path, PROPERTIES, on_bytes=moved.append)
    info, body = await bucket.get("k")
    assert body == content(size)
    assert (info.etag, info.size, sum(moved)) == (stored.etag, stored.size, size)
    assert (info.properties.content_type, info.properties.cache_control) == ("text/x-own", "no-cache")
    assert info.properties.metadata == {"note": "x"}
    assert (await bucket.get_acl("k"), await bucket.get_tags("k")) == ("public-read", "a=b")
    assert await bucket.list_uploads() == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [999_983, 2 * PIECE_BYTES])
async def test_streams_of_any_size(bucket: Bucket, size: int, piece: int) -> None:
    stored = await bucket.upload_stream("k.html", pieces(content(size), piece), PROPERTIES)
    info, body = await bucket.get("k.html")
    assert body == content(size)
    assert (info.etag, info.size) == (stored.etag, stored.size)
    assert (await bucket.get_acl("k.html"), await bucket.get_tags("k.html")) == ("public-read", "a=b")


async def test_types_are_guessed(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"x")
    await bucket.upload_file("k", path)
    await bucket.upload_stream("style.css", pieces(b"x", 1))
    assert (await bucket.head("k")).properties.content_type == "text/html"
    assert (await bucket.head("style.css")).properties.content_type == "text/css"
    assert [guess_type(name) for name in ("a.tar.gz", "b", "c.JPG")] == ["application/gzip", None, "image/jpeg"]


@pytest.mark.parametrize("size", [3, PIECE_BYTES + 1])
async def test_existing_targets(bucket: Bucket, tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(size))
    await bucket.upload_file("new", path, overwrite=False)
    await bucket.put("k", b"theirs")
    with pytest.raises(PreconditionFailed):
        await bucket.upload_file("k", path, overwrite=False)
    with pytest.raises(PreconditionFailed):
        await bucket.upload_stream("k", pieces(content(size), 1 << 20), overwrite=False)
    assert (await bucket.get("k"))[1] == b"theirs"
    assert await bucket.list_uploads() == []
    assert (await bucket.head("new")).size == size


async def test_existing_targets_where_conditions_do_not_count(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.set_versioning(is_enabled=True)
    await bucket.put("k", b"theirs")
    (tmp_path / "f").write_bytes(b"ours")
    with pytest.raises(PreconditionFailed):
        await bucket.upload_file("k", tmp_path / "f", overwrite=False)
    assert (await bucket.get("k"))[1] == b"theirs"


async def test_a_target_that_appears_meanwhile(bucket: Bucket) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield content(2 * PIECE_BYTES)
        await bucket.put("k", b"theirs")

    with pytest.raises(PreconditionFailed):
        await bucket.upload_stream("k", stream(), overwrite=False)
    assert (await bucket.get("k"))[1] == b"theirs"
    assert await bucket.list_uploads() == []


async def test_a_stream_that_breaks_makes_no_object(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield content(3 * PIECE_BYTES)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bucket.upload_stream("k", broken())
    with pytest.raises(NoSuchKey):
        await bucket.head("k")
    assert await bucket.list_uploads() == []


async def test_an_interrupted_upload_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(3 * PIECE_BYTES))
    with trio.CancelScope() as scope:
        await bucket.upload_file("k", path, on_bytes=lambda _: scope.cancel())
    assert scope.cancelled_caught
    with pytest.raises(NoSuchKey):
        await bucket.head("k")
    assert await bucket.list_uploads() == []


async def test_little_memory_is_enough(bucket: Bucket) -> None:
    lent = 0

    class Watched(Buffers):
        def _fits(self, charge: int) -> bool:
            nonlocal lent
            lent = max(lent, self._lent_bytes)
            return super()._fits(charge)

    await bucket.upload_stream("k", pieces(content(6 * PIECE_BYTES), 1 << 20), buffers=Watched(2 * PIECE_BYTES))
    assert lent == 2 * PIECE_BYTES
    assert (await bucket.head("k")).size == 6 * PIECE_BYTES


@pytest.mark.parametrize("size", [3, 2 * PIECE_BYTES])
async def test_a_file_that_changes_meanwhile(bucket: Bucket, tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(size))
    source = uploads._LocalSource(path)  # noqa: SLF001 - the moment between opening and reading is inside
    with source:
        path.write_bytes(content(size + 1))
        buffer = memoryview(bytearray(size))
        assert await source.fill(buffer) == size
        with pytest.raises(IntegrityError, match="changed"):
            source.check()


async def test_too_many_parts(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PARTS", 2)
    with pytest.raises(TooLarge):
        await bucket.upload_stream("k", pieces(content(2 * PIECE_BYTES + 1), 1 << 20))
    await bucket.upload_stream("k", pieces(content(2 * PIECE_BYTES), 1 << 20))
    assert (await bucket.head("k")).size == 2 * PIECE_BYTES
    assert await bucket.list_uploads() == []


async def test_under_a_customers_key(bucket: Bucket, tmp_path: Path) -> None:
    key = CustomerKey(os.urandom(32))
    path = tmp_path / "f"
    path.write_bytes(content(PIECE_BYTES + 1))
    await bucket.upload_file("k", path, customer_key=key)
    assert (await bucket.get("k", customer_key=key))[1] == content(PIECE_BYTES + 1)
    await bucket.upload_stream("s", pieces(b"secret", 2), customer_key=key)
    assert (await bucket.get("s", customer_key=key))[1] == b"secret"


async def test_what_can_not_be_sent(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await bucket.upload_file("k", tmp_path / "missing")
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(InvalidRequest):
        await bucket.upload_file("k", tmp_path / "f", ObjectProperties(metadata={"A": "b"}))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            await bucket.upload_file("k", path)


async def test_old_uploads_are_aborted_and_live_ones_not(bucket: Bucket) -> None:
    live = await bucket.create_upload("a/live")
    await bucket.upload_part("a/live", live, 1, b"x")
    await bucket.create_upload("a/dead")
    await bucket.create_upload("b/dead")
    assert await bucket.abort_uploads() == []
    assert len(await bucket.list_uploads()) == 3

    await trio.sleep(1.5)
    await bucket.upload_part("a/live", live, 2, b"x")
    gone = await bucket.abort_uploads("a/", older_than_seconds=1)
    assert [upload.key for upload in gone] == ["a/dead"]
    assert [upload.key for upload in await bucket.list_uploads()] == ["a/live", "b/dead"]
    assert len(await bucket.abort_uploads(older_than_seconds=0)) == 2
    assert await bucket.list_uploads() == []
