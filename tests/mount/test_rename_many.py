"""A large directory renamed: seen at once, changed meanwhile, killed in the middle, and right in the end.

``SPACESFS_RENAME_KEYS`` sets how many keys the directory has; the default suits a test run. ``-rP`` prints the figures.
"""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import BucketMaker, Mount, MountMaker, fails_with, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

KEYS = int(os.environ.get("SPACESFS_RENAME_KEYS", "5000"))
FOLDERS = 40
SETTLED_SECONDS = 120 + KEYS / 50


def _path(number: int) -> str:
    return f"s{number % FOLDERS:02d}/f{number:06d}"


@pytest.mark.deadline(200 + KEYS / 20)
@pytest.mark.timeout(300 + KEYS / 10)
def test_writers_inside_and_a_crash_in_the_middle(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"old/{_path(number)}", Body=b"%d" % number, Metadata={"n": str(number)})

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(put, range(KEYS)))
    mount: Mount = new_mount(bucket)
    old, new = mount.path / "old", mount.path / "new"
    new.mkdir()  # an empty directory is replaced
    begun = time.monotonic()
    os.rename(old, new)
    acknowledged = time.monotonic() - begun

    assert os.listdir(mount.path) == ["new"]
    assert sorted(os.listdir(new)) == [f"s{number:02d}" for number in range(FOLDERS)]
    expected = {f"new/{_path(number)}": b"%d" % number for number in range(KEYS)}
    _change(mount, expected, range(0, KEYS, 100))
    assert mount.status()["pending"]
    _wait_until_copied(s3, bucket, KEYS // 10)
    [work] = mount.status()["work"]
    assert (work["path"], work["new_path"], work["total"]) == ("old", "new", KEYS)
    assert KEYS // 20 <= work["done"] <= KEYS
    _change(mount, expected, range(1, KEYS, 100))
    s3.put_object(Bucket=bucket, Key="old/s00/foreign", Body=b"theirs")

    copied = _count(s3, bucket, "new/")
    mount.kill()
    mount.start()
    mount.expect_log("recover|crash|last time")
    assert copied < KEYS, "the crash came too late to be in the middle"
    _change(mount, expected, range(2, KEYS, 100))
    done = mount.spacesfs("sync", mount.path, seconds=SETTLED_SECONDS)
    assert done.returncode == 0, done.stderr
    settled = time.monotonic() - begun
    print(
        f"{KEYS} keys: acknowledged in {acknowledged:.2f} s, settled in {settled:.1f} s with a crash at {copied} keys,"
    )
    print(f"peak RSS after the crash {mount.peak_rss_bytes() >> 20} MiB")

    held = _held(s3, bucket)
    markers = {key for key in held if key.endswith("/")}
    assert held.keys() - markers == expected.keys() | {"old/s00/foreign"}
    assert not any(key.startswith("old/") for key in markers)
    sample = [key for number in range(0, KEYS, 100) for key in _near(number) if key in expected]
    for key in sample:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == expected[key], key
    untouched = f"new/{_path(50)}"
    assert s3.head_object(Bucket=bucket, Key=untouched)["Metadata"]["n"] == "50"
    assert (new / _path(51)).read_bytes() == b"51"


def _near(number: int) -> list[str]:
    keys = [f"new/{_path(number + more)}" for more in range(4)]
    return [*keys, *(f"{key}-renamed" for key in keys), *(f"{key}-made" for key in keys)]


def _change(mount: Mount, expected: dict[str, bytes], numbers: range) -> None:
    """Write, remove, rename and make files under the new name, in turn."""
    for turn, number in enumerate(numbers):
        key = f"new/{_path(number)}"
        path = mount.path / key
        if turn % 4 == 0:
            path.write_bytes(b"written anew %d" % number)
            expected[key] = b"written anew %d" % number
        elif turn % 4 == 1:
            path.unlink()
            del expected[key]
        elif turn % 4 == 2:
            path.rename(f"{path}-renamed")
            expected[f"{key}-renamed"] = expected.pop(key)
        else:
            path.with_name(f"{path.name}-made").write_bytes(b"made %d" % number)
            expected[f"{key}-made"] = b"made %d" % number


def _held(s3: S3Client, bucket: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def _count(s3: S3Client, bucket: str, prefix: str) -> int:
    return sum(key.startswith(prefix) for key in _held(s3, bucket))


def _wait_until_copied(s3: S3Client, bucket: str, count: int) -> None:
    wait_until(lambda: _count(s3, bucket, "new/") >= count, "nothing is copied", seconds=SETTLED_SECONDS)


def test_a_key_that_would_be_too_long(s3: S3Client, bucket: str, mount: Mount) -> None:
    """The deepest new key is what counts, and nothing is moved if it does not fit."""
    deep = "/".join(["d" * 200] * 4)
    s3.put_object(Bucket=bucket, Key=f"a/{deep}/f", Body=b"x")
    s3.put_object(Bucket=bucket, Key=f"a/{deep}/{'g' * 100}", Body=b"x")
    room = 1024 - len(f"/{deep}/{'g' * 100}")
    mount.remount()  # or the name is not seen yet
    with fails_with(errno.ENAMETOOLONG):
        os.rename(mount.path / "a", mount.path / ("b" * (room + 1)))
    assert (mount.path / "a" / deep / "f").read_bytes() == b"x"
    os.rename(mount.path / "a", mount.path / ("b" * room))
    mount.sync()
    pages = s3.list_objects_v2(Bucket=bucket, Prefix="b")
    assert [entry["Key"] for entry in pages["Contents"]] == [
        f"{'b' * room}/{deep}/f",
        f"{'b' * room}/{deep}/{'g' * 100}",
    ]
