"""A Space that can't be reached: what is not here fails at once, what is here stays readable, and it mends itself."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, attempt, fails_with, python, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

MISSES = 60
TIMEOUT_SECONDS = 10  # a busy machine needs seconds for a request, and for a program to start
OPTIONS = ("--timeout", f"{TIMEOUT_SECONDS}s", "--metadata-ttl", "600s")

COUNT_MISSES = """
import errno, os, sys
failed = 0
for number in range(int(sys.argv[2])):
    try:
        os.stat(os.path.join(sys.argv[1], "far", str(number)))
    except OSError as error:
        failed += error.errno == errno.EIO
print(failed)
"""

READ = "import sys; print(len(open(sys.argv[1], 'rb').read()))"


@pytest.mark.deadline(240)
def test_the_server_dies_and_returns(
    s3: S3Client, rgw: RadosGateway, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="far/5", Body=b"foreign")
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key), options=OPTIONS)
        content = b"kept here" * 50_000
        (mount.path / "known").write_bytes(content)
        mount.sync()  # else it may go, and with it the bytes here, just before the Space is away
        assert (mount.path / "known").read_bytes() == content
        assert mount.status()["offline_since"] is None
        mount.expect_log("")  # every failed operation is logged
        gate.shut()

        def is_noticed() -> bool:
            attempt("stat", mount.path / "far" / "first")
            return mount.status()["offline_since"] is not None

        wait_until(is_noticed, "misses do not make the mount notice that the Space is away")
        # One timeout each would take several times as long as the command may.
        assert python(COUNT_MISSES, mount.path, str(MISSES), seconds=MISSES * TIMEOUT_SECONDS / 6) == f"{MISSES}\n"
        assert (mount.path / "known").read_bytes() == content
        assert "offline     the Space can't be reached" in mount.spacesfs("status", mount.path).stdout
        with suppress(OSError):  # what can't be sent is kept and tried again
            (mount.path / "known").write_bytes(b"written meanwhile")
        assert (mount.path / "known").read_bytes() == b"written meanwhile"

        gate.reopen()
        wait_until(lambda: mount.status()["offline_since"] is None, "it does not notice that the Space is back")
        assert (mount.path / "far" / "5").read_bytes() == b"foreign"
        wait_until(lambda: not mount.status()["pending"], "what was written meanwhile is not sent")
        assert s3.get_object(Bucket=bucket, Key="known")["Body"].read() == b"written meanwhile"
        mount.expect_log("")
        mount.check_log()


@pytest.mark.deadline(240)
def test_what_is_known_can_be_opened_however_old_it_is(
    s3: S3Client, rgw: RadosGateway, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    bucket = new_bucket()
    content = b"kept here" * 50_000
    s3.put_object(Bucket=bucket, Key="folder/known", Body=content)
    s3.put_object(Bucket=bucket, Key="folder/unread", Body=content * 4)  # too large to come unasked
    options = ("--timeout", f"{TIMEOUT_SECONDS}s", "--metadata-ttl", "100ms")
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key), options=options)
        known, unread = mount.path / "folder" / "known", mount.path / "folder" / "unread"
        assert known.read_bytes() == content
        before = known.stat()
        assert unread.stat().st_size == len(content * 4)
        mount.expect_log("")  # every failed operation is logged
        gate.shut()

        def is_noticed() -> bool:
            attempt("stat", mount.path / "folder" / "missing")
            return mount.status()["offline_since"] is not None

        wait_until(is_noticed, "misses do not make the mount notice that the Space is away")
        for _ in range(3):
            time.sleep(0.3)  # past the TTL, every time
            assert python(READ, known, seconds=TIMEOUT_SECONDS) == f"{len(content)}\n"
            assert (known.stat().st_ino, known.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            assert attempt("cat", unread, seconds=TIMEOUT_SECONDS).returncode != 0, "bytes that are not here"
        assert attempt("cat", mount.path / "folder" / "other", seconds=TIMEOUT_SECONDS).returncode != 0

        s3.put_object(Bucket=bucket, Key="folder/known", Body=b"newer")
        gate.reopen()
        wait_until(lambda: mount.status()["offline_since"] is None, "it does not notice that the Space is back")
        time.sleep(0.3)
        assert known.read_bytes() == b"newer"
        assert unread.read_bytes() == content * 4
        mount.expect_log("")
        mount.check_log()


@pytest.mark.deadline(240)
def test_a_new_name_is_made_where_it_is_known_that_there_is_none(
    s3: S3Client, rgw: RadosGateway, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    """In a directory that was listed; elsewhere the Space may have it, so that "there is none" would be a guess."""
    bucket = new_bucket()
    for key in ("listed/known", "far/5"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"foreign")
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key), options=OPTIONS)
        mount.expect_log("")  # every failed operation is logged
        assert os.listdir(mount.path / "listed") == ["known"]
        gate.shut()

        def is_noticed() -> bool:
            attempt("stat", mount.path / "far" / "first")
            return mount.status()["offline_since"] is not None

        wait_until(is_noticed, "misses do not make the mount notice that the Space is away")
        (mount.path / "listed" / "new").write_bytes(b"made meanwhile")
        assert (mount.path / "listed" / "new").read_bytes() == b"made meanwhile"
        assert sorted(os.listdir(mount.path / "listed")) == ["known", "new"]
        with fails_with(errno.EIO):
            (mount.path / "far" / "new").write_bytes(b"it may be there")

        gate.reopen()
        wait_until(lambda: not mount.status()["pending"], "what was made meanwhile is not sent", mount=mount)
        assert s3.get_object(Bucket=bucket, Key="listed/new")["Body"].read() == b"made meanwhile"
        mount.expect_log("")
        mount.check_log()
