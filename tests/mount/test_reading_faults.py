"""Reading while the world changes underneath: whatever happens, no byte is wrong, and none is of another version."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, python, run, shell

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

KIB, MIB = 1 << 10, 1 << 20

RANDOM_READS = """
import os, random, sys, threading
ours, local, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
names = sorted(os.listdir(local))
wrong = []

def read(number):
    rng = random.Random(seed * 100 + number)
    pairs = [(os.open(f"{ours}/{name}", 0), os.open(f"{local}/{name}", 0)) for name in names]
    for _ in range(150):
        mine, its = rng.choice(pairs)
        size = os.fstat(its).st_size
        length = rng.choice([1, 7, 4096, 65_536, 131_072, 500_000, 1_200_000])
        offset = rng.choice([rng.randrange(size + 10), rng.randrange(size // 4096 + 1) * 4096, 0])
        for step in range(rng.choice([1, 1, 4])):
            at = offset + step * length
            if os.pread(mine, length, at) != os.pread(its, length, at):
                wrong.append((at, length))
            if rng.random() < 0.2:
                os.posix_fadvise(mine, 0, 0, os.POSIX_FADV_DONTNEED)

threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong[:5]
"""


def blocks(size: int, seed: object = 0) -> bytes:
    rng = random.Random(str(seed))
    return b"".join(rng.randbytes(min(MIB, size - start)) for start in range(0, size, MIB))


@pytest.fixture
def tree(s3: S3Client, new_bucket: BucketMaker, tmp_path: Path) -> tuple[str, Path]:
    """Return a bucket of files of many sizes, and a folder with their copies."""
    bucket, local = new_bucket(), tmp_path / "local"
    local.mkdir()
    for number, size in enumerate((1, 4095, 131_073, MIB, MIB + 1, 5 * MIB, 8 * MIB + 1, 23 * MIB + 5)):
        body = blocks(size, number)
        (local / f"f{number}").write_bytes(body)
        s3.put_object(Bucket=bucket, Key=f"f{number}", Body=body)
    return bucket, local


@pytest.mark.slow
@pytest.mark.deadline(280)
@pytest.mark.parametrize("options", [[], ["--memory", "16M", "--cache-size", "16M"]], ids=["default", "thrashing"])
def test_random_reads_by_many_threads(tree: tuple[str, Path], new_mount: MountMaker, options: list[str]) -> None:
    bucket, local = tree
    mount: Mount = new_mount(bucket, options=options)
    python(RANDOM_READS, mount.path, local, "1", seconds=240)


@contextmanager
def stuttering(gate: Gate) -> Iterator[None]:
    """Let nothing pass for a while, again and again."""
    ended = threading.Event()

    def stutter() -> None:
        while not ended.wait(0.4):
            gate.shut()
            ended.wait(0.6)
            gate.reopen()

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        gate.reopen()


@contextmanager
def cutting(gate: Gate) -> Iterator[None]:
    """Break every connection in the middle of what it carries, again and again."""
    ended = threading.Event()

    def cut() -> None:
        while not ended.wait(0.15):
            gate.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def checksums(local: Path, target: Path) -> None:
    names = sorted(local.iterdir())
    target.write_text("".join(f"{hashlib.sha256(name.read_bytes()).hexdigest()}  {name.name}\n" for name in names))


@pytest.mark.slow
@pytest.mark.deadline(200)
@pytest.mark.parametrize("trouble", [stuttering, cutting], ids=["stalls", "cut bodies"])
def test_checksums_over_a_line_in_trouble(
    rgw: RadosGateway,
    tree: tuple[str, Path],
    new_mount: MountMaker,
    tmp_path: Path,
    trouble: Callable[[Gate], object],
) -> None:
    bucket, local = tree
    checksums(local, tmp_path / "sums")
    with Gate(rgw.endpoint, bytes_per_second=12 * MIB) as gate:
        mount: Mount = new_mount(bucket, account=Account(gate.url, rgw.access_key, rgw.secret_key))
        mount.expect_log("can't be reached|offline|broke|answer")
        with trouble(gate):  # type: ignore[attr-defined]  # a context manager
            shell(f"sha256sum -c --quiet {tmp_path}/sums", mount.path, seconds=180)
        mount.stop()


@pytest.mark.slow
@pytest.mark.deadline(200)
@pytest.mark.parametrize(
    "faults",
    [{"reset_percent": 10}, {"fail_percent": 10}, {"fail_percent": 10, "fail_status": 500}],
    ids=["resets", "503", "500"],
)
def test_checksums_over_an_unreliable_edge(  # noqa: PLR0917 - fixtures
    make_edge: Callable[..., Edge],
    rgw: RadosGateway,
    tree: tuple[str, Path],
    new_mount: MountMaker,
    tmp_path: Path,
    faults: dict[str, float],
) -> None:
    bucket, local = tree
    checksums(local, tmp_path / "sums")
    edge = make_edge(**faults)
    mount: Mount = new_mount(
        bucket,
        account=Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle),
        options=["--memory", "32M"],
    )
    for _ in range(3):
        shell(f"sha256sum -c --quiet {tmp_path}/sums", mount.path, seconds=60)
        shell("for f in f*; do dd of=$f oflag=nocache conv=notrunc,fdatasync count=0 status=none || true; done", local)


def unless_stale(read: Callable[[], bytes]) -> bytes | None:
    """Return what was read, or None for ESTALE."""
    try:
        return read()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


@pytest.mark.parametrize("handles", [1, 2])
def test_an_object_replaced_in_the_middle_of_a_read(
    s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker, handles: int
) -> None:
    """Its readers get the old bytes or ESTALE, a new open the new ones; bytes of both never meet."""
    bucket = new_bucket()
    size = 48 * MIB
    s3.put_object(Bucket=bucket, Key="f", Body=b"a" * size)
    mount: Mount = new_mount(bucket, options=["--memory", "16M", "--metadata-ttl", "1s"])
    path = mount.path / "f"
    old = [os.open(path, os.O_RDONLY) for _ in range(handles)]
    try:
        assert {os.pread(handle, MIB, 0) for handle in old} == {b"a" * MIB}
        s3.put_object(Bucket=bucket, Key="f", Body=b"b" * size)
        time.sleep(2.5)  # past the time to live, twice: the kernel's and the mount's
        assert path.read_bytes() == b"b" * size
        stale = 0
        for handle in old:
            for offset in range(0, size, MIB):
                found = unless_stale(lambda at=offset, of=handle: os.pread(of, MIB, at))  # type: ignore[misc]
                assert found in (None, b"a" * MIB)
                stale += found is None
        assert stale > 0
        assert path.read_bytes() == b"b" * size
    finally:
        for handle in old:
            os.close(handle)


def test_an_object_that_is_replaced_all_the_time(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    size = 20 * MIB
    letters = b"abcdefgh"
    s3.put_object(Bucket=bucket, Key="f", Body=letters[:1] * size)
    mount: Mount = new_mount(bucket, options=["--memory", "16M", "--metadata-ttl", "0"])
    path = mount.path / "f"
    ended = threading.Event()

    def replace() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            s3.put_object(Bucket=bucket, Key="f", Body=letters[number % 8 : number % 8 + 1] * size)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(25):
            found = unless_stale(path.read_bytes)
            if found is not None:
                assert len(found) == size
                assert len(set(found)) == 1
    finally:
        ended.set()
        thread.join()
    assert len(set(path.read_bytes())) == 1


def test_a_flipped_bit_on_the_disk(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket, body = new_bucket(), blocks(20 * MIB + 3)
    s3.put_object(Bucket=bucket, Key="f", Body=body)
    mount: Mount = new_mount(bucket)
    assert (mount.path / "f").read_bytes() == body
    mount.stop()
    pages = [path for path in (mount.home / "cache" / "pages").rglob("*") if path.is_file()]
    for page in pages:
        content = bytearray(page.read_bytes())
        content[random.Random(page.name).randrange(4096, len(content))] ^= 1 << 3
        page.write_bytes(content)
    mount.start()
    mount.expect_log("is damaged")
    assert (mount.path / "f").read_bytes() == body
    told = mount.status()["reading"]
    assert told["disk_bad_pages"] == len(pages) > 0


def test_mapped_reads(tree: tuple[str, Path], new_mount: MountMaker) -> None:
    bucket, local = tree
    mount: Mount = new_mount(bucket)
    python(
        """
import mmap, os, random, sys
for name in sorted(os.listdir(sys.argv[2])):
    with open(f"{sys.argv[1]}/{name}", "rb") as mine, open(f"{sys.argv[2]}/{name}", "rb") as its:
        body = its.read()
        view = mmap.mmap(mine.fileno(), 0, prot=mmap.PROT_READ)
        for _ in range(50):
            at = random.randrange(len(body))
            assert view[at : at + 5000] == body[at : at + 5000], (name, at)
        assert view[:] == body
""",
        mount.path,
        local,
    )


def test_direct_reads(tree: tuple[str, Path], new_mount: MountMaker) -> None:
    bucket, local = tree
    mount: Mount = new_mount(bucket)
    for size in ("512", "64K", "1M", "3M"):
        shell(f"for f in f*; do dd if=$f iflag=direct bs={size} status=none | cmp - {local}/$f; done", mount.path)


def test_reading_past_a_truncate(new_mount: MountMaker) -> None:
    """While a file is cut and grown, a reader gets its bytes, zeros where it grew, or its end; nothing else."""
    mount: Mount = new_mount()
    run("dd", "if=/dev/zero", f"of={mount.path}/f", "bs=1M", "count=20", "status=none")
    python(
        """
import os, sys, threading
path = sys.argv[1]
with open(path, "wb") as file:
    file.write(b"x" * (20 << 20))
ended = threading.Event()

def change():
    for number in range(60):
        os.truncate(path, (number * 7919 * 1000) % (20 << 20))
        os.truncate(path, 20 << 20)
    ended.set()

thread = threading.Thread(target=change)
thread.start()
reader = os.open(path, os.O_RDONLY)
count = 0
while not ended.is_set():
    for at in range(0, 20 << 20, 1 << 20):
        assert set(os.pread(reader, 1 << 20, at)) <= {0, ord("x")}
        count += 1
thread.join()
assert count
""",
        mount.path / "f",
        seconds=100,
    )
