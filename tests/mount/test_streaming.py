"""Large files go to the Space while they are written, and may be larger than what is kept here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from types_boto3_s3 import S3Client

from tests.mount.mounting import BucketMaker, Mount, MountMaker, wait_until

MIB = 1 << 20
FILES_AT_ONCE, FILE_MIB = 32, 40
BESIDE_BYTES = 96 * MIB
"""What a mount may take beside ``--memory``."""
BLOCK = os.urandom(MIB)


def block(number: int) -> bytes:
    """Return one MiB that differs from the others."""
    return number.to_bytes(8, "big") + BLOCK[8:]


@pytest.fixture
def bucket(new_bucket: BucketMaker) -> str:
    return new_bucket()


def parts_of(s3: S3Client, bucket: str, key: str) -> int:
    """Return how many parts the open upload of a key has."""
    uploads = s3.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
    return sum(len(s3.list_parts(Bucket=bucket, Key=key, UploadId=u["UploadId"]).get("Parts", ())) for u in uploads)


def body_of(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_parts_are_there_before_the_file_is_closed(new_mount: MountMaker, bucket: str, s3: S3Client) -> None:
    mount: Mount = new_mount(bucket)
    with (mount.path / "big").open("wb", buffering=0) as file:
        for number in range(64):
            file.write(block(number))
        wait_until(lambda: parts_of(s3, bucket, "big") >= 7, "the parts do not come while the file is open")
        file.seek(0)
        file.write(b"a header that is written last")
    mount.sync()
    expected = bytearray(b"".join(map(block, range(64))))
    expected[:29] = b"a header that is written last"
    assert body_of(s3, bucket, "big") == expected
    assert parts_of(s3, bucket, "big") == 0


def test_a_file_larger_than_the_disk_share_is_written_and_read_back(
    new_mount: MountMaker, bucket: str, s3: S3Client
) -> None:
    mount: Mount = new_mount(bucket, options=["--cache-size", "96M"])
    with (mount.path / "big").open("w+b", buffering=0) as file:
        for number in range(256):
            file.write(block(number))
        assert mount.status()["staging"]["bytes_used"] <= 96 * MIB
        assert os.pread(file.fileno(), MIB, 100 * MIB) == block(100)  # let go meanwhile
        os.pwrite(file.fileno(), b"patched", 50 * MIB)
        file.seek(0, os.SEEK_END)
        file.write(block(256))
    mount.sync()
    expected = bytearray(b"".join(map(block, range(257))))
    expected[50 * MIB : 50 * MIB + 7] = b"patched"
    assert body_of(s3, bucket, "big") == expected
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_a_streamed_file_that_is_renamed_is_copied_not_sent_again(
    new_mount: MountMaker, bucket: str, s3: S3Client
) -> None:
    mount: Mount = new_mount(bucket)
    body = b"".join(map(block, range(40)))
    (mount.path / ".big.tmp").write_bytes(body)
    os.utime(mount.path / ".big.tmp", (1_000_000_000, 1_000_000_000))
    (mount.path / ".big.tmp").rename(mount.path / "big")
    mount.sync()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["big"]
    assert body_of(s3, bucket, "big") == body
    assert s3.head_object(Bucket=bucket, Key="big")["Metadata"]["mtime"] == "1000000000.000000000"
    assert mount.status()["requests"]["write"]["bytes_sent"] < len(body) + MIB


def test_a_streamed_file_is_there_once_it_is_closed_whatever_the_grace(
    new_mount: MountMaker, bucket: str, s3: S3Client
) -> None:
    mount: Mount = new_mount(bucket, options=["--grace", "3600"])
    body = b"".join(map(block, range(40)))
    (mount.path / "big").write_bytes(body)
    (mount.path / "small").write_bytes(b"waits")
    wait_until(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"), "the large file is not sent")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["big"]
    assert body_of(s3, bucket, "big") == body


def test_many_large_files_at_once_stay_within_the_memory(new_mount: MountMaker, bucket: str, s3: S3Client) -> None:
    mount: Mount = new_mount(bucket)

    def write(number: int) -> None:
        with (mount.path / f"f{number}").open("wb", buffering=0) as file:
            for index in range(FILE_MIB):
                file.write(block(number << 16 | index))

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        list(pool.map(write, range(FILES_AT_ONCE)))
    mount.sync()
    assert mount.peak_rss_bytes() < 128 * MIB + BESIDE_BYTES  # the default of --memory
    for number in (0, FILES_AT_ONCE - 1):
        assert body_of(s3, bucket, f"f{number}") == b"".join(block(number << 16 | index) for index in range(FILE_MIB))
    sizes = [entry["Size"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sizes == [FILE_MIB * MIB] * FILES_AT_ONCE


def test_an_unlinked_file_leaves_no_upload(new_mount: MountMaker, bucket: str, s3: S3Client) -> None:
    mount: Mount = new_mount(bucket)
    with (mount.path / "big").open("wb", buffering=0) as file:
        for number in range(40):
            file.write(block(number))
        (mount.path / "big").unlink()
    mount.sync()
    wait_until(
        lambda: not s3.list_multipart_uploads(Bucket=bucket).get("Uploads"),
        "the upload of a file that is gone stays",
    )
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_an_interrupted_stream_goes_on_where_it_was(new_mount: MountMaker, bucket: str, s3: S3Client) -> None:
    mount: Mount = new_mount(bucket)
    mount.expect_log("not in the Space|recovered|stale")
    file = os.open(mount.path / "big", os.O_WRONLY | os.O_CREAT)
    for number in range(64):
        os.write(file, block(number))
    os.fsync(file)
    wait_until(lambda: parts_of(s3, bucket, "big") >= 7, "the parts do not come while the file is open")
    mount.kill()
    with pytest.raises(OSError, match=r"."):
        os.close(file)
    mount.start()
    mount.sync()
    assert body_of(s3, bucket, "big") == b"".join(map(block, range(64)))
    assert mount.status()["requests"]["write"]["bytes_sent"] < 20 * MIB
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
