"""Two mounts of one bucket: each sees the other's changes when its time is over, and at once after a refresh."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import BucketMaker, Mount, MountMaker, fails_with, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

LONG = ("--metadata-ttl", "600")
SHORT = ("--metadata-ttl", "1")


def refresh(mount: Mount, path: Path | None = None) -> None:
    done = mount.spacesfs("refresh", path or mount.path)
    assert (done.returncode, done.stderr) == (0, "")


def eventually(is_so: Callable[[], bool]) -> None:
    wait_until(is_so, "the other mount's change was not seen")


def test_a_refresh_shows_everything_at_once(new_mount: MountMaker, new_bucket: BucketMaker) -> None:
    bucket = new_bucket()
    ours, theirs = new_mount(bucket, options=LONG), new_mount(bucket, options=LONG)
    (theirs.path / "d").mkdir()
    for name in ("changed", "removed", "chmodded"):
        (theirs.path / "d" / name).write_bytes(b"old")
    theirs.sync()
    refresh(ours)
    here = ours.path / "d"
    assert sorted(os.listdir(here)) == ["changed", "chmodded", "removed"]
    assert [(here / name).read_bytes() for name in os.listdir(here)] == [b"old"] * 3
    assert not (here / "new").exists()  # which is remembered, too
    (theirs.path / "d" / "changed").write_bytes(b"newer")
    (theirs.path / "d" / "new").write_bytes(b"new")
    (theirs.path / "d" / "removed").unlink()
    (theirs.path / "d" / "chmodded").chmod(0o600)
    theirs.sync()
    assert (here / "changed").read_bytes() == b"old"  # believed for long
    refresh(ours)
    assert (here / "changed").read_bytes() == b"newer"
    assert (here / "new").read_bytes() == b"new"
    assert (here / "chmodded").stat().st_mode == 0o100600
    with fails_with(2):
        (here / "removed").stat()
    assert sorted(os.listdir(here)) == ["changed", "chmodded", "new"]


def test_a_refresh_of_one_file(new_mount: MountMaker, s3: S3Client, new_bucket: BucketMaker) -> None:
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="d/f", Body=b"old")
    mount = new_mount(bucket, options=LONG)
    assert (mount.path / "d" / "f").read_bytes() == b"old"
    s3.put_object(Bucket=bucket, Key="d/f", Body=b"new content")
    refresh(mount, mount.path / "d" / "f")
    assert (mount.path / "d" / "f").read_bytes() == b"new content"


def test_a_refresh_outside_of_a_mount(new_mount: MountMaker, tmp_path: Path) -> None:
    mount = new_mount()
    done = mount.spacesfs("refresh", tmp_path)
    assert done.returncode == 1
    assert "mount" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("turn", range(2))
def test_changes_are_seen_when_their_time_is_over(new_mount: MountMaker, new_bucket: BucketMaker, turn: int) -> None:
    bucket = new_bucket()
    mounts = new_mount(bucket, options=SHORT), new_mount(bucket, options=SHORT)
    one, other = mounts if turn else reversed(mounts)
    path = one.path / "d" / "f"
    (one.path / "d").mkdir()
    path.write_bytes(b"first")
    one.sync()
    seen = other.path / "d" / "f"
    eventually(seen.exists)
    assert seen.read_bytes() == b"first"
    path.write_bytes(b"second, longer")
    path.chmod(0o640)
    one.sync()
    eventually(lambda: seen.stat().st_size == len(b"second, longer"))
    assert seen.read_bytes() == b"second, longer"
    assert seen.stat().st_mode == 0o100640
    path.chmod(0o604)  # the same bytes, so the same ETag
    one.sync()
    eventually(lambda: seen.stat().st_mode == 0o100604)
    seen.chmod(0o600)  # and back
    other.sync()
    eventually(lambda: path.stat().st_mode == 0o100600)
    assert path.read_bytes() == b"second, longer"
    path.unlink()
    one.sync()
    eventually(lambda: not seen.exists())


def test_directories_made_and_removed_on_both_sides(new_mount: MountMaker, new_bucket: BucketMaker) -> None:
    bucket = new_bucket()
    one, other = new_mount(bucket, options=SHORT), new_mount(bucket, options=SHORT)
    (one.path / "d").mkdir()
    one.sync()
    eventually((other.path / "d").exists)
    (other.path / "d" / "kept").write_bytes(b"x")
    (one.path / "d").rmdir()  # does not know of it
    other.sync()
    one.sync()
    eventually((one.path / "d" / "kept").exists)
    assert (one.path / "d" / "kept").read_bytes() == b"x"
    (other.path / "e").mkdir()
    (one.path / "e").mkdir() if not (one.path / "e").exists() else None
    (one.path / "e" / "a").write_bytes(b"a")
    (other.path / "e" / "b").write_bytes(b"b")
    one.sync()
    other.sync()
    for mount in (one, other):
        eventually(lambda mount=mount: sorted(os.listdir(mount.path / "e")) == ["a", "b"])  # type: ignore[misc]
