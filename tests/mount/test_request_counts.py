"""What everyday work costs in requests, counted at the edge; as docs/performance.md states."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker, run, shell

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

MIB = 1 << 20
FILES = 100


@pytest.fixture(scope="module")
def counted(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge of this module's own, whose counts are of one mount."""
    from tests.servers.edge import Edge

    rgw: RadosGateway = request.getfixturevalue("rgw")
    with Edge(rgw.endpoint) as edge:
        yield edge


@pytest.fixture
def bucket(new_bucket: BucketMaker, s3: S3Client, request: pytest.FixtureRequest) -> str:
    """A new bucket, with the objects in it that a test's ``holds`` mark names: key, bytes, how many of it."""
    name = new_bucket()
    for mark in request.node.iter_markers("holds"):
        key, body, count = mark.args
        for number in range(count):
            s3.put_object(Bucket=name, Key=key.format(number), Body=body)
    return name


@pytest.fixture
def mount(new_mount: MountMaker, counted: Edge, rgw: RadosGateway, bucket: str) -> Mount:
    """A mount that knows what its bucket makes of conditions: its first file teaches that."""
    account = Account(counted.https_url, rgw.access_key, rgw.secret_key, counted.ca_bundle)
    mount = new_mount(bucket, account=account, options=["--metadata-ttl", "60"])
    (mount.path / "lesson").write_bytes(b"first")
    mount.sync()
    (mount.path / "lesson").unlink()
    return mount


@pytest.fixture
def counts(mount: Mount, counted: Edge) -> Callable[[], dict[str, int]]:
    """A function that brings everything to the Space and returns the requests since the last call, none left out."""

    def count() -> dict[str, int]:
        mount.sync()
        found = {name: number for name, number in counted.counts().items() if number}
        counted.zero()
        return found

    return count


def keys_of(s3: S3Client, bucket: str) -> list[str]:
    return [e["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for e in page["Contents"]]


def test_a_new_small_file_in_a_known_directory(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    (mount.path / "d").mkdir()
    os.listdir(mount.path / "d")
    counts()
    (mount.path / "d" / "new").write_bytes(b"x" * 4096)
    assert counts() == {"put": 1}


def test_a_file_of_ours_written_again(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    path = mount.path / "file"
    path.write_bytes(b"first")
    counts()
    path.write_bytes(b"second")
    assert counts() == {"put": 1}


def test_many_writes_and_changes_at_once(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    (mount.path / "d").mkdir()
    counts()
    path = mount.path / "d" / "file"
    for number in range(10):
        path.write_bytes(b"%d" % number)
    path.chmod(0o600)
    os.utime(path, (1, 1))
    path.rename(mount.path / "d" / "final")
    assert counts() == {"put": 1}


def test_an_editor_saves(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    path = mount.path / "text"
    path.write_bytes(b"first")
    counts()
    temporary = mount.path / "text.tmp"
    with temporary.open("wb") as file:
        file.write(b"third")
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o640)
    temporary.rename(path)
    assert counts() == {"put": 1}
    assert path.read_bytes() == b"third"


def test_rsync_of_new_files(
    mount: Mount, counts: Callable[[], dict[str, int]], s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    for number in range(FILES):
        folder = tmp_path / f"d{number % 5}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(2000))
    counts()
    run("rsync", "-a", f"{tmp_path}/", mount.path / "copy")
    found = counts()
    markers = found.pop("put") - FILES
    assert 6 <= markers <= 12  # of six directories; again where rsync sets their times after the grace
    assert "copy" not in found
    assert sum(found.values()) <= 12, found
    assert not [key for key in keys_of(s3, bucket) if "/." in key]
    changed = run("rsync", "-a", "-i", f"{tmp_path}/", mount.path / "copy")
    assert changed == ""


@pytest.mark.holds("big", b"a" * 1024 * MIB, 1)
def test_an_append_to_a_large_object(
    mount: Mount, counts: Callable[[], dict[str, int]], s3: S3Client, bucket: str
) -> None:
    (mount.path / "big").stat()
    counts()
    with (mount.path / "big").open("ab") as file:
        file.write(b"z" * MIB)
    found = counts()
    assert found.pop("post") == 2  # create, complete
    assert found.pop("part") <= 2
    assert found.pop("partcopy") <= 5  # of 256 MiB
    assert found.pop("head") <= 2
    assert found.pop("get", 0) <= 2  # the ACL, and the boundary if it is no part's
    assert not found
    assert s3.head_object(Bucket=bucket, Key="big")["ContentLength"] == 1025 * MIB


def test_removing_a_tree(mount: Mount, counts: Callable[[], dict[str, int]], s3: S3Client, bucket: str) -> None:
    tree = mount.path / "tree"
    tree.mkdir()
    for number in range(2000):
        (tree / f"f{number:04}").write_bytes(b"x")
    counts()
    shutil.rmtree(tree)
    found = counts()
    assert found.pop("mdelete") == 2  # a thousand keys with each
    assert found.pop("delete") == 1  # the directory's marker, when all else is gone
    assert found.pop("list") <= 10  # what is there, and just before the end whether it is still the same
    assert sum(found.values()) <= 2, found
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_what_is_made_and_removed_costs_nothing(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    (mount.path / "d").mkdir()
    counts()
    name = uuid.uuid4().hex
    shell(f"echo x > d/{name}; mv d/{name} d/other; rm d/other; mkdir d/sub; rmdir d/sub", mount.path)
    assert counts() == {}


def test_a_rename_of_what_is_not_sent(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    (mount.path / "d").mkdir()
    counts()
    (mount.path / "d" / "a").write_bytes(b"x")
    (mount.path / "d" / "a").rename(mount.path / "d" / "b")
    assert counts() == {"put": 1}


TREE = 500


@pytest.mark.holds("from/d{:03}/f", b"x", TREE)
def test_a_rename_of_a_directory_of_others(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    """A copy for each key, and its ACL, which a copy would reset; all else is asked of many keys at once."""
    assert (mount.path / "from").is_dir()
    counts()
    os.rename(mount.path / "from", mount.path / "to")
    found = counts()
    assert found.pop("copy") == TREE
    assert found.pop("get") == TREE  # the ACLs
    assert found.pop("mdelete") <= 2
    # Just before they are copied, as many together as are about to be, which is for the machine to say; all of them
    # before they are deleted.
    assert found.pop("list") + found.pop("head", 0) <= TREE / 4
    assert not found


def test_a_rename_of_a_directory_of_ours(mount: Mount, counts: Callable[[], dict[str, int]]) -> None:
    """What was stored here is known, so there is nothing to be asked of it."""
    (mount.path / "from").mkdir()
    for number in range(TREE):
        (mount.path / "from" / f"f{number:04}").write_bytes(b"x")
    counts()
    os.rename(mount.path / "from", mount.path / "to")
    found = counts()
    assert found.pop("copy") == TREE + 1  # and the marker
    assert "get" not in found
    assert found.pop("mdelete") + found.pop("delete", 0) <= 2
    assert found.pop("list") + found.pop("head", 0) <= TREE / 4
    assert not found
