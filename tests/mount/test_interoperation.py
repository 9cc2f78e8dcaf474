"""One object is one file: what another S3 client puts is seen, and what we write it reads."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import BucketMaker, Mount, MountMaker, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TTL_SECONDS = 0.5
MOUNT_OPTIONS = ("--metadata-ttl", f"{TTL_SECONDS}s")


def test_theirs_are_seen(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    contents = {"top": b"top", "a/b/c": b"deep", "a/empty": b"", "a/large": os.urandom(20_000_000)}
    for key, body in contents.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    mount: Mount = new_mount(bucket)
    found = {str(path.relative_to(mount.path)): path.read_bytes() for path in mount.path.rglob("*") if path.is_file()}
    assert found == contents


def test_theirs_have_the_defaults(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="d/f", Body=b"content")
    modified = s3.head_object(Bucket=bucket, Key="d/f")["LastModified"].timestamp()
    mount: Mount = new_mount(
        bucket, options=["--uid", "1111", "--gid", "2222", "--file-mode", "0640", "--dir-mode", "0750"]
    )
    file, directory = (mount.path / "d" / "f").stat(), (mount.path / "d").stat()
    assert (file.st_mode, file.st_uid, file.st_gid) == (0o100640, 1111, 2222)
    assert (directory.st_mode, directory.st_uid, directory.st_gid) == (0o040750, 1111, 2222)
    assert int(file.st_mtime) == int(modified)


def test_their_new_and_removed_objects_appear_and_go(s3: S3Client, bucket: str, folder: Path) -> None:
    assert os.listdir(folder) == []
    s3.put_object(Bucket=bucket, Key=f"{folder.name}/new", Body=b"new")
    _eventually(lambda: os.listdir(folder) == ["new"])
    assert (folder / "new").read_bytes() == b"new"
    s3.delete_object(Bucket=bucket, Key=f"{folder.name}/new")
    _eventually(lambda: not (folder / "new").exists())
    _eventually(lambda: os.listdir(folder) == [])


def test_their_replacement_is_seen_whole(s3: S3Client, bucket: str, folder: Path) -> None:
    """After the TTL an open finds the new version, of another length; no read ever mixes two versions."""
    file, key = folder / "f", f"{folder.name}/f"
    versions = [bytes([ord("a") + number]) * (3_000_000 + 700_000 * (-1) ** number) for number in range(4)]
    s3.put_object(Bucket=bucket, Key=key, Body=versions[0])
    _eventually(file.exists)
    assert file.read_bytes() == versions[0]
    for version in versions[1:]:
        s3.put_object(Bucket=bucket, Key=key, Body=version)
        _eventually(partial(_holds, file, version))
        assert file.stat().st_size == len(version)


def _outcome_of_reading(handle: int) -> bytes | int | None:
    try:
        return os.pread(handle, 100_000, 40_000_000)
    except OSError as error:
        return error.errno


def _holds(file: Path, version: bytes) -> bool:
    """Tell whether a new open reads this version. Within the TTL it may still find the old one, or fail to read it."""
    try:
        return _one_version(file) == version
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return False


def _one_version(file: Path) -> bytes:
    content = file.read_bytes()
    assert len(set(content)) == 1, "bytes of two versions"
    return content


def test_reader_of_a_replaced_object(s3: S3Client, bucket: str, folder: Path) -> None:
    """A handle on the old version ends in ESTALE, or in old bytes; a new open has the new ones."""
    file, key = folder / "f", f"{folder.name}/f"
    s3.put_object(Bucket=bucket, Key=key, Body=b"o" * 50_000_000)
    _eventually(file.exists)
    handle = os.open(file, os.O_RDONLY)
    try:
        assert os.pread(handle, 1000, 0) == b"o" * 1000
        s3.put_object(Bucket=bucket, Key=key, Body=b"n" * 50_000_000)
        _eventually(partial(_holds, file, b"n" * 50_000_000))
        assert _outcome_of_reading(handle) in (b"o" * 100_000, errno.ESTALE)
    finally:
        os.close(handle)
    assert _one_version(file) == b"n" * 50_000_000


def test_ours_are_read_by_them(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    """Bytes, Content-Type, and attributes in the encoding of s3fs."""
    body = os.urandom(100_000)
    (folder / "page.html").write_bytes(body)
    (folder / "page.html").chmod(0o640)
    os.utime(folder / "page.html", ns=(1, 1_500_000_000_000_000_001))
    (folder / "whole").write_bytes(b"")
    os.utime(folder / "whole", (1_600_000_000, 1_600_000_000))
    (folder / "data.bin").write_bytes(b"\0" * 10)
    mount.sync()

    page = s3.get_object(Bucket=bucket, Key=f"{folder.name}/page.html")
    assert page["Body"].read() == body
    assert page["ContentType"] == "text/html"
    assert page["Metadata"]["mode"] == str(0o100640)
    assert page["Metadata"]["uid"] == str(os.geteuid())
    assert page["Metadata"]["gid"] == str(os.getegid())
    assert page["Metadata"]["mtime"] == "1500000000.000000001"
    whole = s3.head_object(Bucket=bucket, Key=f"{folder.name}/whole")
    assert whole["ContentLength"] == 0
    assert whole["Metadata"]["mtime"] in ("1600000000", "1600000000.000000000")


def test_our_directories_and_links_are_those_of_s3fs(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    (folder / "d").mkdir(mode=0o755)
    (folder / "d").chmod(0o711)
    (folder / "link").symlink_to("d/target ünïcode")
    mount.sync()
    marker = s3.get_object(Bucket=bucket, Key=f"{folder.name}/d/")
    assert marker["Body"].read() == b""
    assert marker["ContentType"] == "application/x-directory"
    assert marker["Metadata"]["mode"] == str(0o040711)
    link = s3.get_object(Bucket=bucket, Key=f"{folder.name}/link")
    assert link["Body"].read() == "d/target ünïcode".encode()
    assert int(link["Metadata"]["mode"]) & 0o170000 == 0o120000


def test_attributes_written_by_s3fs_and_rclone(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    s3fs = {
        "mode": str(0o100604),
        "uid": "77",
        "gid": "88",
        "mtime": "1400000000.500000000",
        "ctime": "1",
        "atime": "2",
    }
    s3.put_object(Bucket=bucket, Key="s3fs", Body=b"x", Metadata=s3fs)
    s3.put_object(Bucket=bucket, Key="rclone", Body=b"x", Metadata={"mtime": "1400000000.25"})
    s3.put_object(Bucket=bucket, Key="link", Body=b"s3fs", Metadata={"mode": str(0o120777)})
    s3.put_object(Bucket=bucket, Key="broken", Body=b"x", Metadata={"mode": "rw-r--r--", "uid": "root", "mtime": "now"})
    mount: Mount = new_mount(bucket)
    found = (mount.path / "s3fs").stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (0o100604, 77, 88)
    assert found.st_mtime_ns == 1_400_000_000_500_000_000
    assert (mount.path / "rclone").stat().st_mtime_ns == 1_400_000_000_250_000_000
    assert os.readlink(mount.path / "link") == "s3fs"
    assert (mount.path / "link").read_bytes() == b"x"
    assert (mount.path / "broken").stat().st_mode == 0o100644
    assert sorted(os.listdir(mount.path)) == ["broken", "link", "rclone", "s3fs"]


def test_keys_that_are_no_paths_do_no_harm(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    """They hide no neighbour, and are still there when everything that shows was removed."""
    bucket = new_bucket()
    odd = {"a//b", "/leading", "dots/../x", "dots/./y", "data-marker/", "both", "long/" + "x" * 300}
    plain = {"a/b", "dots/x", "both/child", "long/y", "ok"}
    for key in odd | plain:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    mount: Mount = new_mount(bucket)
    shown = {str(path.relative_to(mount.path)): path for path in mount.path.rglob("*") if path.is_file()}
    assert plain <= set(shown)
    for name in plain:
        assert shown[name].read_bytes() == name.encode()
        shown[name].unlink()
    for path in mount.path.iterdir():
        with suppress(OSError):  # ENOTEMPTY, where something is left in it
            path.rmdir()
    mount.sync()
    assert odd <= {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}


def test_object_that_goes_between_listing_and_open(s3: S3Client, bucket: str, folder: Path) -> None:
    """An object that goes away between a listing and its open is a missing file, nothing worse."""
    s3.put_object(Bucket=bucket, Key=f"{folder.name}/f", Body=b"x")
    _eventually(lambda: os.listdir(folder) == ["f"])
    s3.delete_object(Bucket=bucket, Key=f"{folder.name}/f")
    time.sleep(2 * TTL_SECONDS)
    with pytest.raises(FileNotFoundError):
        (folder / "f").read_bytes()


def _eventually(condition: Callable[[], bool]) -> None:
    """Wait until another client's change is seen; the staleness allowed is the TTL, the rest is for a slow machine."""
    wait_until(condition, "the change of another client was never seen")
