"""Directories: with markers and without, empty and huge, and their removal."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount, MountMaker, fails_with, run

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MANY = 3_000


@pytest.mark.deadline(240)
def test_many_entries_made_by_another_client(s3: S3Client, bucket: str, mount: Mount) -> None:
    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"theirs/f{number:05d}", Body=b"%d" % number)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(put, range(MANY)))
    mount.remount()
    directory = mount.path / "theirs"
    names = [f"f{number:05d}" for number in range(MANY)]
    assert sorted(os.listdir(directory)) == names
    with os.scandir(directory) as entries:
        assert {entry.name: entry.stat().st_size for entry in entries} == {
            f"f{n:05d}": len(str(n)) for n in range(MANY)
        }
    assert (directory / "f02999").read_bytes() == b"2999"

    run("rm", "-r", directory)
    assert not directory.exists()
    mount.sync()
    assert _keys(s3, bucket, "theirs") == []


@pytest.mark.deadline(240)
def test_many_entries_made_by_us(s3: S3Client, bucket: str, mount: Mount) -> None:
    directory = mount.path / "ours"
    directory.mkdir()

    def create(number: int) -> None:
        (directory / f"f{number:05d}").write_bytes(b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(MANY)))
    names = [f"f{number:05d}" for number in range(MANY)]
    assert sorted(os.listdir(directory)) == names
    mount.remount()
    assert sorted(os.listdir(directory)) == names
    assert {name: (directory / name).read_bytes() for name in names[::100]} == {
        f"f{number:05d}": b"%d" % number for number in range(0, MANY, 100)
    }
    run("rm", "-r", directory)
    mount.remount()
    assert not directory.exists()
    assert _keys(s3, bucket, "ours") == []


def test_listing_survives_removal_while_it_is_read(folder: Path) -> None:
    for number in range(300):
        (folder / f"f{number}").touch()
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == sorted(f"f{number}" for number in range(300))
    assert os.listdir(folder) == []


def test_empty_directories_survive_a_remount(folder: Path, mount: Mount) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    mount.remount()
    assert [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] == ["a", "a/b", "a/b/c"]
    assert all(path.is_dir() for path in folder.rglob("*"))


def test_directory_stays_when_its_last_file_goes(folder: Path, mount: Mount) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "only").touch()
    (folder / "d" / "only").unlink()
    assert os.listdir(folder / "d") == []
    mount.remount()
    assert os.listdir(folder / "d") == []


def test_implicit_directory_is_visible_and_stays(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    """A directory that only keys under it make: seen, entered, and still there when its last file goes."""
    s3.put_object(Bucket=bucket, Key=f"{folder.name}/implied/deep/file", Body=b"content")
    mount.remount()
    assert os.listdir(folder) == ["implied"]
    assert (folder / "implied").is_dir()
    assert (folder / "implied" / "deep" / "file").read_bytes() == b"content"
    (folder / "implied" / "deep" / "file").unlink()
    assert os.listdir(folder / "implied" / "deep") == []
    mount.remount()
    assert os.listdir(folder / "implied") == ["deep"]
    assert os.listdir(folder / "implied" / "deep") == []


def test_rmdir_of_a_full_directory(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"kept")
    with fails_with(errno.ENOTEMPTY):
        (folder / "d").rmdir()
    assert (folder / "d" / "f").read_bytes() == b"kept"


def test_rmdir_never_deletes_what_another_client_just_put(
    s3: S3Client, bucket: str, folder: Path, mount: Mount
) -> None:
    (folder / "d").mkdir()
    assert os.listdir(folder / "d") == []
    s3.put_object(Bucket=bucket, Key=f"{folder.name}/d/theirs", Body=b"theirs")
    with suppress(OSError):  # ENOTEMPTY, if it looked
        (folder / "d").rmdir()
    mount.sync()
    assert s3.get_object(Bucket=bucket, Key=f"{folder.name}/d/theirs")["Body"].read() == b"theirs"


def test_mkdir_over_something(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").touch()
    for name in ("d", "f"):
        with pytest.raises(FileExistsError):
            (folder / name).mkdir()


def test_wrong_kind(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").touch()
    with pytest.raises(IsADirectoryError):
        (folder / "d").unlink()
    with pytest.raises(NotADirectoryError):
        (folder / "f").rmdir()
    with pytest.raises(NotADirectoryError):
        (folder / "f" / "child").touch()
    with pytest.raises(FileNotFoundError):
        (folder / "nothing" / "child").touch()


def test_removed_and_made_again(folder: Path, mount: Mount) -> None:
    for content in (b"one", b"two", b"three"):
        (folder / "d").mkdir()
        (folder / "d" / "f").write_bytes(content)
        assert (folder / "d" / "f").read_bytes() == content
        shutil.rmtree(folder / "d")
        assert os.listdir(folder) == []
    mount.remount()
    assert os.listdir(folder) == []


def test_prefix_mount(s3: S3Client, bucket: str, new_mount: MountMaker) -> None:
    """A prefix is the root; it needs no marker, and nothing outside it is seen or touched."""
    s3.put_object(Bucket=bucket, Key="some/prefix/there", Body=b"there")
    s3.put_object(Bucket=bucket, Key="some/prefixed-otherwise", Body=b"not ours")
    mount = new_mount(f"{bucket}:some/prefix")
    assert os.listdir(mount.path) == ["there"]
    assert (mount.path / "there").read_bytes() == b"there"
    (mount.path / "d").mkdir()
    (mount.path / "d" / "new").write_bytes(b"new")
    os.rename(mount.path / "there", mount.path / "moved")
    mount.sync()
    assert _keys(s3, bucket, "some/") == [
        "some/prefix/d/",
        "some/prefix/d/new",
        "some/prefix/moved",
        "some/prefixed-otherwise",
    ]
    mount.remount()
    assert sorted(os.listdir(mount.path)) == ["d", "moved"]


def test_prefix_that_holds_nothing_yet(new_mount: MountMaker, bucket: str) -> None:
    mount = new_mount(f"{bucket}:not/there/yet")
    assert os.listdir(mount.path) == []
    (mount.path / "first").write_bytes(b"first")
    mount.remount()
    assert (mount.path / "first").read_bytes() == b"first"


def _keys(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
