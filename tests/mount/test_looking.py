"""What looking at names costs in requests, counted at the edge, 20 ms far and with empty caches unless said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, run, shell

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

FAR_MS = 20
REPOSITORY = Path(__file__).parents[2]
Counts = Callable[[], dict[str, int]]
Maker = Callable[..., Mount]


@pytest.fixture(scope="module")
def counted(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge of this module's own, far away."""
    from tests.servers.edge import Edge

    rgw: RadosGateway = request.getfixturevalue("rgw")
    with Edge(rgw.endpoint, latency_ms=FAR_MS) as edge:
        yield edge


@pytest.fixture
def far_mount(new_mount: MountMaker, counted: Edge, rgw: RadosGateway, tmp_path: Path) -> Maker:
    """Make mounts that share a cache folder and see the Space through the counting edge."""
    account = Account(counted.https_url, rgw.access_key, rgw.secret_key, counted.ca_bundle)

    def make(bucket: str, *options: str) -> Mount:
        cache = ["--cache-dir", str(tmp_path / "cache")]
        mount = new_mount(bucket, account=account, options=["--metadata-ttl", "60", *cache, *options])
        counted.zero()
        return mount

    return make


@pytest.fixture
def counts(counted: Edge) -> Counts:
    """A function that returns the requests since the last call, none left out."""

    def count() -> dict[str, int]:
        found = {name: number for name, number in counted.counts().items() if number}
        counted.zero()
        return found

    return count


def put_all(s3: S3Client, bucket: str, keys: list[str]) -> None:
    """Store objects as another client does: without a word about attributes."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), keys))


def test_ls_l_of_foreign_files(far_mount: Maker, counts: Counts, new_bucket: BucketMaker, s3: S3Client) -> None:
    bucket = new_bucket()
    put_all(s3, bucket, [f"d/f{number:04}" for number in range(2000)])
    mount = far_mount(bucket)
    first = run("ls", "-l", mount.path / "d")
    assert len(first.splitlines()) == 2001
    found = counts()
    assert found.pop("list") <= 3
    assert found.pop("head") + found.pop("get", 0) == 2000  # the first small files come with their bytes
    assert not found
    mount.stop()
    again = far_mount(bucket)
    assert run("ls", "-l", again.path / "d") == first
    assert counts() in ({"list": 2}, {"list": 3})


@pytest.mark.deadline(200)
def test_ls_l_of_our_own_files(far_mount: Maker, counts: Counts, new_bucket: BucketMaker) -> None:
    bucket = new_bucket()
    mount = far_mount(bucket)
    (mount.path / "d").mkdir()
    for number in range(2000):
        path = mount.path / "d" / f"f{number:04}"
        path.write_bytes(b"x")
        path.chmod(0o600 + number % 8)
    mount.sync()
    first = run("ls", "-l", mount.path / "d")
    counts()
    assert run("ls", "-l", mount.path / "d") == first
    assert counts() == {}
    mount.stop()
    again = far_mount(bucket)
    assert run("ls", "-l", again.path / "d") == first
    found = counts()
    assert found.pop("list") <= 3
    assert not found


@pytest.mark.deadline(120)
def test_ls_l_of_foreign_directories(far_mount: Maker, counts: Counts, new_bucket: BucketMaker, s3: S3Client) -> None:
    """Their markers are asked for several at a time: 500, 20 ms far, would take ten seconds else."""
    bucket = new_bucket()
    put_all(s3, bucket, [f"d/{number:03}/" for number in range(500)])
    mount = far_mount(bucket)
    first = run("ls", "-l", mount.path / "d")
    assert len(first.splitlines()) == 501
    found = counts()
    assert found.pop("list") <= 3
    assert found == {"head": 500}
    mount.stop()
    again = far_mount(bucket)
    assert run("ls", "-l", again.path / "d") == first
    found = counts()
    assert found.pop("list") <= 3
    assert not found


@pytest.fixture(scope="module")
def tree(new_bucket: BucketMaker, s3: S3Client) -> str:
    """A bucket with 5,000 files in 300 directories, some below others, made by another client."""
    bucket = new_bucket()
    folders = [f"t/d{number % 60:02}/" + f"s{number // 60}/" * (number >= 60) for number in range(300)]
    put_all(s3, bucket, [f"{folders[number % 300]}f{number:04}" for number in range(5000)])
    return bucket


def test_find(far_mount: Maker, counts: Counts, tree: str) -> None:
    mount = far_mount(tree)
    assert len(run("find", mount.path, "-type", "f").splitlines()) == 5000
    found = counts()
    assert found.pop("list") <= 8
    assert not found


def test_a_listed_tree_is_walked_again_for_nothing(far_mount: Maker, counts: Counts, tree: str) -> None:
    mount = far_mount(tree)
    run("find", mount.path, "-type", "d")
    found = counts()
    assert found.pop("list") <= 8
    assert not found
    run("find", mount.path, "-type", "d")
    assert counts() == {}


@pytest.mark.deadline(200)
def test_git_status(far_mount: Maker, counts: Counts, new_bucket: BucketMaker) -> None:
    """In a clone of this repository, once git has seen it."""
    mount = far_mount(new_bucket())
    clone = mount.path / "clone"
    run("git", "-c", "safe.directory=*", "clone", "--no-local", "--quiet", REPOSITORY, clone, seconds=150)
    tracked = run("git", "ls-files", cwd=clone).splitlines()
    assert len(tracked) > 100
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    mount.sync()
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    counts()
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    assert counts() == {}
    (clone / tracked[-1]).write_bytes(b"changed")  # and it truly looks
    assert run("git", "status", "--porcelain", cwd=clone).split() == ["M", tracked[-1]]


@pytest.mark.deadline(300)
def test_rsync_of_an_unchanged_tree(far_mount: Maker, counts: Counts, new_bucket: BucketMaker, tmp_path: Path) -> None:
    bucket, source = new_bucket(), tmp_path / "source"
    for number in range(5000):
        folder = source / f"d{number % 60:02}" / (f"s{number % 5}" if number % 5 else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:04}").write_bytes(b"%d" % number)
        os.utime(folder / f"f{number:04}", (number, number))
    mount = far_mount(bucket)
    run("rsync", "-a", f"{source}/", mount.path / "copy", seconds=200)
    mount.stop()
    again = far_mount(bucket)
    assert run("rsync", "-a", "-i", f"{source}/", again.path / "copy") == ""
    found = counts()
    assert found.pop("list") <= 8
    assert not found


def test_stat_of_a_deep_path(far_mount: Maker, counts: Counts, new_bucket: BucketMaker, s3: S3Client) -> None:
    """Whether or not anything is known of the root."""
    bucket = new_bucket()
    put_all(s3, bucket, ["a/b/c/d/e/file", "a/b/c/other", "z"])
    mount = far_mount(bucket)
    assert mount.spacesfs("refresh", mount.path).returncode == 0
    counts()
    (mount.path / "a/b/c/d/e/file").stat()
    found = counts()
    assert found.pop("list") == 1
    assert found in ({"head": 1}, {"get": 1})  # a small file's bytes come with its description
    (mount.path / "a/b/c/other").stat()
    assert sum(counts().values()) <= 1


def test_attributes_of_the_server(far_mount: Maker, counts: Counts, new_bucket: BucketMaker, s3: S3Client) -> None:
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="d/f", Body=b"x", Metadata={"mode": "33152", "mtime": "1"})
    mount = far_mount(bucket, "--attributes", "server", "--file-mode", "640")
    seen = (mount.path / "d" / "f").stat()
    assert seen.st_mode == 0o100640
    assert seen.st_mtime == pytest.approx(s3.head_object(Bucket=bucket, Key="d/f")["LastModified"].timestamp(), abs=1)
    assert shell("cat d/f", mount.path) == "x"
    assert "head" not in counts()


@pytest.mark.deadline(400)
def test_a_huge_directory_comes_by_and_by(
    far_mount: Maker, counts: Counts, new_bucket: BucketMaker, s3: S3Client
) -> None:
    bucket = new_bucket()
    names = [f"{number:05}" for number in range(5500)]
    put_all(s3, bucket, [f"d/{name}" for name in names])
    mount = far_mount(bucket)
    seen: list[str] = []
    with os.scandir(mount.path / "d") as entries:
        seen.append(next(entries).name)
        assert counts()["list"] <= 4  # and not all six pages
        (mount.path / "d" / "00000x").write_bytes(b"")  # in a part that was read
        (mount.path / "d" / "05400x").write_bytes(b"")  # in one that was not
        (mount.path / "d" / "05401").unlink()
        seen += [entry.name for entry in entries]
    assert len(seen) == len(set(seen))
    assert set(names) - {"05401"} <= set(seen)
    assert set(seen) - set(names) <= {"00000x", "05400x"}
    assert sorted(os.listdir(mount.path / "d")) == sorted({*names, "00000x", "05400x"} - {"05401"})
    folder = os.open(mount.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sorted(os.listdir(folder)) == sorted(os.listdir(folder))  # from the start again: rewinddir
    finally:
        os.close(folder)
