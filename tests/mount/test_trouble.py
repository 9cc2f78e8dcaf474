"""What a Space refuses, and a full disk: the caller learns, and what was acknowledged stays and can be saved."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.conftest import empty
from tests.mount.gate import Gate
from tests.mount.mounting import Account, Mount, MountMaker, attempt, fails_with, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

QUICKLY = ["--grace", "0s"]
MIB = 1 << 20


def failed(mount: Mount, path: str) -> str:
    """Wait until an attempt at a path has failed; return what ``status`` says of it."""

    def errors() -> list[str]:
        return [change["error"] for change in mount.status()["pending"] if change["path"] == path and change["error"]]

    wait_until(errors, f"no attempt at {path} has failed", mount=mount)
    return errors()[0]


def check_failed(mount: Mount, path: str, code: int, tmp_path: Path) -> None:
    """A change that was acknowledged can't be sent: who asks learns it, once for each attempt, and nothing is lost."""
    error = failed(mount, path)
    assert os.getxattr(mount.path / path, "user.spaces.error").decode() == error
    descriptor = os.open(mount.path / path, os.O_WRONLY)
    with fails_with(code):
        os.fsync(descriptor)
    os.close(descriptor)
    target = tmp_path / uuid.uuid4().hex
    done = mount.spacesfs("pending", "export", mount.path, target)
    assert done.returncode == 0, done.stderr
    assert (target / path).read_bytes() == b"acknowledged"


def test_quota(s3: S3Client, rgw: RadosGateway, new_mount: MountMaker, tmp_path: Path) -> None:
    mount: Mount = new_mount(options=QUICKLY)
    rgw.limit_bucket(mount.source, 4096)
    mount.expect_log("QuotaExceeded|quota")
    (mount.path / "much").write_bytes(b"acknowledged")
    # The quota counts in blocks of 4 KiB, so the second object is one too many.
    mount.sync()
    (mount.path / "more").write_bytes(b"acknowledged")
    check_failed(mount, "more", errno.EDQUOT, tmp_path)
    mount.expect_log("QuotaExceeded|quota")
    rgw.limit_bucket(mount.source, None)
    mount.sync()
    assert s3.get_object(Bucket=mount.source, Key="more")["Body"].read() == b"acknowledged"
    assert mount.status()["pending"] == []
    with fails_with(errno.ENODATA):
        os.getxattr(mount.path / "more", "user.spaces.error")


def test_a_key_that_is_revoked(s3: S3Client, rgw: RadosGateway, new_mount: MountMaker, tmp_path: Path) -> None:
    access_key = f"AK{uuid.uuid4().hex[:12]}"
    rgw.add_key(access_key, "secret-of-the-revoked-key")
    account = Account(rgw.endpoint, access_key, "secret-of-the-revoked-key")
    mount: Mount = new_mount(account=account, options=[*QUICKLY, "--metadata-ttl", "1h"])
    (mount.path / "before").write_bytes(b"before")
    mount.sync()
    os.listdir(mount.path)
    rgw.remove_key(access_key)
    mount.expect_log("InvalidAccessKeyId|denied|refuse|403|access key")
    (mount.path / "after").write_bytes(b"acknowledged")
    check_failed(mount, "after", errno.EACCES, tmp_path)
    refused = mount.spacesfs("umount", mount.path)
    assert refused.returncode == 1
    assert "EACCES" in refused.stderr
    rgw.add_key(access_key, "secret-of-the-revoked-key")
    mount.expect_log("InvalidAccessKeyId|denied|refuse|403|access key")
    mount.sync()
    assert s3.get_object(Bucket=mount.source, Key="after")["Body"].read() == b"acknowledged"


def test_a_bucket_that_is_deleted_underneath(s3: S3Client, new_mount: MountMaker, tmp_path: Path) -> None:
    bucket = f"deleted-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    mount: Mount = new_mount(bucket, options=[*QUICKLY, "--metadata-ttl", "1h"])
    (mount.path / "before").write_bytes(b"before")
    mount.sync()
    os.listdir(mount.path)
    empty(s3, bucket)
    s3.delete_bucket(Bucket=bucket)
    mount.expect_log("NoSuchBucket|bucket")
    (mount.path / "after").write_bytes(b"acknowledged")
    check_failed(mount, "after", errno.EIO, tmp_path)
    listed = json.loads(mount.spacesfs("pending", "list", mount.path, "--json").stdout)
    assert [change["path"] for change in listed[0]["pending"]] == ["after"]
    dropped = mount.spacesfs("pending", "drop", mount.path, "--all", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    mount.expect_log("NoSuchBucket|bucket")
    mount.close()


def test_more_than_an_object_may_hold(new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    descriptor = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    with fails_with(errno.EFBIG):
        os.pwrite(descriptor, b"x", 5 << 40)
    with fails_with(errno.EFBIG):
        os.truncate(descriptor, (5 << 40) + 1)
    os.close(descriptor)
    assert (mount.path / "f").stat().st_size == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    mountpoint = tmp_path / "disk"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={24 * MIB}", "tmpfs", str(mountpoint)], check=True)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=True)


@pytest.fixture
def gate(rgw: RadosGateway) -> Iterator[Gate]:
    with Gate(rgw.endpoint) as gate:
        yield gate


def full_of(kind: str, disk: Path) -> list[str]:
    """Return the options of a mount whose room for changes is small."""
    if kind == "disk":
        return ["--state-dir", str(disk), "--durability", "journal"]
    return ["--cache-size", "16M"]


def fill(mount: Mount) -> int:
    """Write files of 1 MiB until there is no room; return how many were acknowledged."""
    for number in range(100):
        target = f"of={mount.path}/full{number}"
        done = attempt("dd", "if=/dev/urandom", target, "bs=1M", "count=1", "conv=fsync")
        if done.returncode:
            assert "No space left on device" in done.stderr
            return number
    raise AssertionError("it never was full")


@pytest.fixture(params=["disk", "cache-size"])
def small(request: pytest.FixtureRequest, rgw: RadosGateway, gate: Gate, new_mount: MountMaker, disk: Path) -> Mount:
    """A mount with little room for changes."""
    account = Account(gate.url, rgw.access_key, rgw.secret_key)
    options = [*full_of(request.param, disk), "--timeout", "8s", "--metadata-ttl", "1h"]
    mount: Mount = new_mount(account=account, options=options)
    return mount


def test_no_room(s3: S3Client, gate: Gate, small: Mount) -> None:
    """Writers wait for room and then get ENOSPC; removing, renaming and sending work on."""
    mount = small
    mount.expect_log("")
    os.listdir(mount.path)
    gate.shut()
    begun = time.monotonic()
    acknowledged = fill(mount)
    assert acknowledged >= 5
    assert time.monotonic() - begun > 1, "nobody waited"  # a busy machine only takes longer
    (mount.path / "full0").unlink()
    (mount.path / "full1").rename(mount.path / "renamed")
    gate.reopen()
    mount.expect_log("")
    mount.sync()
    (mount.path / "room again").write_bytes(bytes(MIB))
    mount.sync()
    keys = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket=mount.source)["Contents"]}
    whole = {f"full{number}" for number in range(2, acknowledged)} | {"renamed", "room again"}
    assert {keys.get(key) for key in whole} == {MIB}
    assert "full0" not in keys
    assert "full1" not in keys


def test_writers_wait_for_the_room_that_sending_makes(new_mount: MountMaker) -> None:
    mount: Mount = new_mount(options=["--cache-size", "16M", "--grace", "0s"])
    for number in range(40):
        (mount.path / f"f{number}").write_bytes(os.urandom(MIB))
    mount.sync()
