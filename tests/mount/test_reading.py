"""What reading costs: requests, memory, and the patience of others while the Space stalls."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, environment, python, run, shell

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

KIB, MIB = 1 << 10, 1 << 20
REQUEST_BYTES = 4 * MIB
BESIDE_BYTES = 96 * MIB
"""What the mount may have resident beside ``--memory``: the interpreter, libraries, metadata."""


class Counted:
    """A bucket behind an edge of its own, which counts requests."""

    def __init__(self, edge: Edge, rgw: RadosGateway, s3: S3Client, bucket: str) -> None:
        self.edge = edge
        self.bucket = bucket
        self.account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
        self._s3 = s3

    def put(self, key: str, size: int) -> bytes:
        rng = random.Random(key)
        body = b"".join(rng.randbytes(min(MIB, size - start)) for start in range(0, size, MIB))
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return body

    def counts(self) -> tuple[int, int]:
        counts = self.edge.counts()
        return counts["get"], counts["head"]


@pytest.fixture
def counted(
    make_edge: Callable[..., Edge], rgw: RadosGateway, s3: S3Client, new_bucket: BucketMaker, fuse_device: Path
) -> Counted:
    return Counted(make_edge(), rgw, s3, new_bucket())


def test_a_listed_file_up_to_8_mib_takes_one_request(counted: Counted, new_mount: MountMaker) -> None:
    sizes = [1, 5000, MIB, 3 * MIB + 1, 8 * MIB]
    bodies = [counted.put(f"d{size}/f", size) for size in sizes]  # alone, or its neighbours are fetched ahead
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    for size, body in zip(sizes, bodies, strict=True):
        os.listdir(mount.path / f"d{size}")
        counted.edge.zero()
        assert (mount.path / f"d{size}" / "f").read_bytes() == body
        assert counted.counts()[0] == 1, size


def test_small_files_one_after_another_take_one_request_each(counted: Counted, new_mount: MountMaker) -> None:
    bodies = {f"{number:03}": counted.put(f"d/{number:03}", 3000 + number) for number in range(60)}
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    names = sorted(os.listdir(mount.path / "d"))
    counted.edge.zero()
    for name in names:
        assert (mount.path / "d" / name).read_bytes() == bodies[name]
    gets, heads = counted.counts()
    assert gets == 60
    assert heads <= 3  # the directory itself, and what was not foreseen yet


@pytest.mark.parametrize("block", [4 * KIB, 100_000, 3 * MIB])
def test_reading_in_order_fetches_nothing_twice(counted: Counted, new_mount: MountMaker, block: int) -> None:
    size = 64 * MIB + 12_345
    body = counted.put("large", size)
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    with (mount.path / "large").open("rb", buffering=0) as handle:
        counted.edge.zero()
        position = 0
        while piece := handle.read(block):
            assert piece == body[position : position + len(piece)]
            position += len(piece)
    assert position == size
    assert counted.counts()[0] <= size // REQUEST_BYTES + 2
    assert mount.status()["reading"]["fetched_bytes"] == size


@pytest.mark.slow
@pytest.mark.deadline(240)
def test_one_gib_in_order(counted: Counted, s3: S3Client, new_mount: MountMaker) -> None:
    part = counted.put("part", 128 * MIB)
    upload = s3.create_multipart_upload(Bucket=counted.bucket, Key="large")["UploadId"]
    etags = [
        s3.upload_part(Bucket=counted.bucket, Key="large", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number in range(1, 9)
    ]
    s3.complete_multipart_upload(
        Bucket=counted.bucket,
        Key="large",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]},
    )
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    counted.edge.zero()
    shell("cat large > /dev/null", mount.path, seconds=200)
    assert counted.counts()[0] <= (1 << 30) // REQUEST_BYTES + 2
    reading = mount.status()["reading"]
    assert reading["fetched_bytes"] == 1 << 30, reading
    assert mount.peak_rss_bytes() < 128 * MIB + BESIDE_BYTES


def test_random_reads_take_a_request_each_at_most(counted: Counted, new_mount: MountMaker) -> None:
    body = counted.put("large", 256 * MIB)
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    handle = os.open(mount.path / "large", os.O_RDONLY)
    try:
        counted.edge.zero()
        rng = random.Random(1)
        for _ in range(300):
            offset = rng.randrange(len(body) // 4096) * 4096
            assert os.pread(handle, 4096, offset) == body[offset : offset + 4096]
    finally:
        os.close(handle)
    assert counted.counts()[0] <= 300
    assert mount.status()["reading"]["fetched_bytes"] <= 256 * MIB


def test_what_was_read_is_there_after_a_restart_and_after_a_crash(counted: Counted, new_mount: MountMaker) -> None:
    bodies = {name: counted.put(name, size) for name, size in (("a", 20 * MIB + 3), ("b", 5000), ("c", MIB))}
    mount: Mount = new_mount(counted.bucket, account=counted.account)
    for name, body in bodies.items():
        assert (mount.path / name).read_bytes() == body
    mount.stop()
    mount.start()
    counted.edge.zero()
    for name, body in bodies.items():
        assert (mount.path / name).read_bytes() == body
    assert counted.counts()[0] == 0
    mount.kill()
    mount.expect_log("did not end|left|stale|dead|recover|crash")
    mount.start()
    counted.edge.zero()
    for name, body in bodies.items():
        assert (mount.path / name).read_bytes() == body
    assert counted.counts()[0] == 0
    assert mount.status()["reading"]["disk_read_bytes"] == sum(map(len, bodies.values()))


def test_two_mounts_share_what_they_read(counted: Counted, new_mount: MountMaker, tmp_path: Path) -> None:
    body = counted.put("a", 10 * MIB)
    options = ["--cache-dir", str(tmp_path)]
    one: Mount = new_mount(counted.bucket, account=counted.account, options=options)
    assert (one.path / "a").read_bytes() == body
    two: Mount = new_mount(counted.bucket, account=counted.account, options=options)
    counted.edge.zero()
    assert (two.path / "a").read_bytes() == body
    assert counted.counts()[0] == 0
    shutil.rmtree(tmp_path / "pages")
    for mount in (one, two):
        mount.expect_log("goes on without the cache")  # its folders are gone, too
        run(
            sys.executable, "-c", "import os, sys; os.posix_fadvise(os.open(sys.argv[1], 0), 0, 0, 4)", mount.path / "a"
        )
        assert (mount.path / "a").read_bytes() == body


def test_a_cache_that_can_not_be_used_is_said(counted: Counted, new_mount: MountMaker, tmp_path: Path) -> None:
    body = counted.put("a", 10 * MIB)
    (tmp_path / "pages").write_text("in the way")
    mount: Mount = new_mount(counted.bucket, account=counted.account, options=["--cache-dir", str(tmp_path)])
    mount.expect_log("goes on without the cache")
    assert (mount.path / "a").read_bytes() == body
    assert any("goes on without the cache" in notice for notice in mount.status()["notices"])


@pytest.mark.parametrize("memory", ["16M", "64M"])
@pytest.mark.deadline(200)
def test_64_files_at_once_stay_within_the_memory(
    counted: Counted, s3: S3Client, new_mount: MountMaker, memory: str
) -> None:
    body = counted.put("f00", 8 * MIB + 77)
    for number in range(1, 64):
        s3.copy_object(Bucket=counted.bucket, Key=f"f{number:02}", CopySource=f"{counted.bucket}/f00")
    mount: Mount = new_mount(counted.bucket, account=counted.account, options=["--memory", memory])
    (mount.home / "local").write_bytes(body)
    shell('for f in f*; do cmp "$f" ../local & p+=" $!"; done; for i in $p; do wait $i; done', mount.path, seconds=180)
    assert mount.peak_rss_bytes() < int(memory[:-1]) * MIB + BESIDE_BYTES
    told = mount.status()["reading"]
    assert told["fetched_bytes"] <= 64 * len(body) * 5 // 4


def test_others_are_served_while_forty_readers_wait(
    s3: S3Client, rgw: RadosGateway, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    bucket = new_bucket()
    body = os.urandom(3 * MIB)
    for number in range(41):
        s3.put_object(Bucket=bucket, Key=f"f{number:02}", Body=body)
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key))
        os.listdir(mount.path)
        for number in range(41):
            (mount.path / f"f{number:02}").stat()
        assert (mount.path / "f40").read_bytes() == body
        gate.shut()
        readers = [
            subprocess.Popen(["cmp", mount.path / f"f{number:02}", mount.path / "f40"], env=environment(mount.home))
            for number in range(40)
        ]
        try:
            # The kernel has the cached file and would not ask: drop it there, and each answer below is the mount's.
            python(
                "import os, sys; h = os.open(sys.argv[1], 0); os.posix_fadvise(h, 0, 0, 4);"
                "assert len(os.pread(h, 3 << 20, 0)) == 3 << 20; os.statvfs(sys.argv[2])",
                mount.path / "f40",
                mount.path,
                seconds=15,
            )
            assert all(reader.poll() is None for reader in readers)
        finally:
            gate.reopen()
        assert [reader.wait(60) for reader in readers] == [0] * 40
        mount.stop()
