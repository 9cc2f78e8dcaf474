"""Files larger than memory and caches: content, memory, and no more traffic than asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, shell

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

MIB = 1 << 20
MEMORY_LIMIT_BYTES = 256 * MIB

# The same pseudo-random bytes each time, at memory speed, stored nowhere: AES in counter mode over zeros.
STREAM = "openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv 00 -in /dev/zero 2>/dev/null"


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.deadline(420)
def test_two_gib_in_and_out(new_mount: MountMaker) -> None:
    """The mount's memory stays below 256 MiB in both directions, with the default --memory."""
    mount: Mount = new_mount()
    shell(f"({STREAM} || true) | dd of=large bs=1M count=2048 iflag=fullblock status=none", mount.path, seconds=240)
    assert (mount.path / "large").stat().st_size == 2048 * MIB
    mount.sync()
    assert mount.peak_rss_bytes() < MEMORY_LIMIT_BYTES
    mount.remount()
    shell(f"({STREAM} || true) | head -c 2G | cmp - large", mount.path, seconds=240)
    assert mount.peak_rss_bytes() < MEMORY_LIMIT_BYTES
    (mount.path / "large").unlink()


def test_one_byte_of_a_large_object(
    s3: S3Client, rgw: RadosGateway, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    """Reading a byte in the middle fetches its surroundings, not the object."""
    bucket = new_bucket()
    block = os.urandom(MIB)
    s3.put_object(Bucket=bucket, Key="large", Body=block * 200)
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key))
        with (mount.path / "large").open("rb", buffering=0) as handle:
            before = gate.received_bytes
            handle.seek(100 * MIB + 12_345)
            assert handle.read(1) == block[12_345:12_346]
            assert 0 < gate.received_bytes - before < 20 * MIB
        mount.stop()


def test_random_reads_of_a_large_object(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    """Reads here and there, across page and part borders and past the end, give the right bytes."""
    content = os.urandom(MIB) * 40 + b"the last bytes"
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="large", Body=content)
    path = new_mount(bucket).path / "large"
    handle = os.open(path, os.O_RDONLY)
    try:
        for index in range(60):
            offset = (index * 7_654_321) % len(content)
            length = (1, 4096, 131_072, 1_500_000)[index % 4]
            assert os.pread(handle, length, offset) == content[offset : offset + length]
        assert os.pread(handle, 100, len(content) - 5) == b"bytes"
        assert os.pread(handle, 100, len(content)) == b""
        assert os.pread(handle, 100, len(content) + MIB) == b""
    finally:
        os.close(handle)
