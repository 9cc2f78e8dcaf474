"""Modes, owners, times, links, special files and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.mount.mounting import Mount, fails_with, run

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SECOND = 1_000_000_000


def test_mode_owner_and_times_of_files_persist(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"content")
    file.chmod(0o4751)
    if os.geteuid() == 0:
        os.chown(file, 1234, 5678)
        file.chmod(0o4751)
    os.utime(file, ns=(1_600_000_000 * SECOND + 987_654_321, 1_500_000_000 * SECOND + 123_456_789))
    before = file.stat()
    assert stat.S_IMODE(before.st_mode) == 0o4751
    assert before.st_mtime_ns == 1_500_000_000 * SECOND + 123_456_789
    mount.remount()
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_uid == (1234 if os.geteuid() == 0 else os.geteuid())
    assert file.read_bytes() == b"content"


def test_mode_and_time_of_directories_persist(folder: Path, mount: Mount) -> None:
    (folder / "d").mkdir(mode=0o700)
    (folder / "d" / "f").touch()
    (folder / "d").chmod(0o1775)
    os.utime(folder / "d", ns=(0, 1_234_567_890 * SECOND + 1))
    mount.remount()
    found = (folder / "d").stat()
    assert stat.S_IMODE(found.st_mode) == 0o1775
    assert found.st_mtime_ns == 1_234_567_890 * SECOND + 1


def test_times_before_1970_and_far_ahead(folder: Path, mount: Mount) -> None:
    times = {"before": -5 * SECOND - 5, "zero": 0, "ahead": 4_102_444_800 * SECOND + 999_999_999}
    for name, moment in times.items():
        (folder / name).touch()
        os.utime(folder / name, ns=(moment, moment))
    mount.remount()
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times


def test_writing_moves_the_time_and_reading_does_not(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"one")
    os.utime(file, (1, 1))
    assert file.read_bytes() == b"one"
    assert file.stat().st_mtime == 1
    with file.open("ab") as handle:
        handle.write(b"two")
    changed = file.stat().st_mtime_ns
    assert changed > SECOND
    mount.remount()
    assert file.stat().st_mtime_ns == changed


def test_time_set_through_an_open_handle_stays(folder: Path, mount: Mount) -> None:
    """As cp -p, tar and rsync do: the time is set before the close that publishes the bytes."""
    file = folder / "f"
    with file.open("wb", buffering=0) as handle:
        handle.write(b"content")
        os.utime(handle.fileno(), ns=(42 * SECOND, 42 * SECOND + 7))
        os.fchmod(handle.fileno(), 0o640)
    assert file.stat().st_mtime_ns == 42 * SECOND + 7
    mount.remount()
    assert file.stat().st_mtime_ns == 42 * SECOND + 7
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.read_bytes() == b"content"


@pytest.mark.parametrize(
    "target", ["f", "../elsewhere", "/absolute/path", "dangling nowhere", "ünïcode 🚀", "x" * 3000]
)
def test_symlink(folder: Path, mount: Mount, target: str) -> None:
    (folder / "f").write_bytes(b"pointed at")
    (folder / "link").symlink_to(target)
    mount.remount()
    assert os.readlink(folder / "link") == target
    assert stat.S_ISLNK((folder / "link").lstat().st_mode)
    assert (folder / "link").lstat().st_size == len(target.encode())
    with os.scandir(folder) as entries:
        assert {entry.name: entry.is_symlink() for entry in entries} == {"f": False, "link": True}
    if target == "f":
        assert (folder / "link").read_bytes() == b"pointed at"
    (folder / "link").unlink()
    assert (folder / "f").read_bytes() == b"pointed at"


def test_symlink_to_a_directory_and_renamed(folder: Path, mount: Mount) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "f").write_bytes(b"inside")
    (folder / "link").symlink_to("d")
    os.rename(folder / "link", folder / "other")
    mount.remount()
    assert os.readlink(folder / "other") == "d"
    assert (folder / "other" / "f").read_bytes() == b"inside"
    with pytest.raises(FileExistsError):
        (folder / "other").symlink_to("x")


def test_special_files_persist(folder: Path, mount: Mount) -> None:
    os.mkfifo(folder / "fifo", 0o620)
    (folder / "fifo").chmod(0o620)
    run("python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('socket')", cwd=folder)
    mount.remount()
    found = (folder / "fifo").lstat()
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o620
    assert stat.S_ISSOCK((folder / "socket").lstat().st_mode)


def test_fifo_carries_bytes(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    assert run("bash", "-c", "(echo through > fifo) & cat fifo; wait", cwd=folder) == "through\n"


def test_hard_link(folder: Path) -> None:
    (folder / "f").touch()
    with pytest.raises(PermissionError) as caught:
        os.link(folder / "f", folder / "g")
    assert caught.value.errno == errno.EPERM
    assert os.listdir(folder) == ["f"]


def test_extended_attributes_persist(folder: Path, mount: Mount) -> None:
    values = {
        "user.colour": b"green",
        "user.Mixed_Case": b"\x00\xff binary",
        "user.empty": b"",
        "user.ünï": "täg".encode(),
    }
    (folder / "d").mkdir()
    (folder / "f").write_bytes(b"content")
    for path in (folder / "f", folder / "d"):
        for name, value in values.items():
            os.setxattr(path, name, value)
    mount.remount()
    for path in (folder / "f", folder / "d"):
        assert {name: os.getxattr(path, name) for name in values} == values
        assert set(values) <= set(os.listxattr(path))
    assert (folder / "f").read_bytes() == b"content"

    os.removexattr(folder / "f", "user.colour")
    os.setxattr(folder / "f", "user.empty", b"no more")
    mount.remount()
    assert "user.colour" not in os.listxattr(folder / "f")
    assert os.getxattr(folder / "f", "user.empty") == b"no more"
    with fails_with(errno.ENODATA):
        os.getxattr(folder / "f", "user.colour")
    with fails_with(errno.ENODATA):
        os.removexattr(folder / "f", "user.colour")


def test_extended_attribute_flags_and_limit(folder: Path) -> None:
    file = folder / "f"
    file.touch()
    with fails_with(errno.ENODATA):
        os.setxattr(file, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(file, "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(file, "user.a", b"2", os.XATTR_CREATE)
    with fails_with(errno.ENOSPC):
        os.setxattr(file, "user.big", b"x" * 3000)
    assert os.getxattr(file, "user.a") == b"1"


def test_live_attributes(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    file = folder / "a file"
    file.write_bytes(b"content")
    mount.sync()
    key = f"{folder.name}/a file"
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
    assert os.getxattr(file, "user.spaces.key") == key.encode()
    assert os.getxattr(file, "user.spaces.etag") == etag.encode()


def test_who_may_read_a_file(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    file, key = folder / "page.html", f"{folder.name}/page.html"
    file.write_bytes(b"content")
    assert os.getxattr(file, "user.spaces.acl") == b"private"
    os.setxattr(file, "user.spaces.acl", b"public-read")
    assert os.getxattr(file, "user.spaces.acl") == b"public-read"
    mount.sync()
    with urlopen(os.getxattr(file, "user.spaces.url").decode(), context=mount.account.trust()) as reply:
        assert reply.read() == b"content"
    file.write_bytes(b"changed")  # it stays as it is
    mount.sync()
    readers = {grant["Grantee"].get("URI") for grant in s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]}
    assert "http://acs.amazonaws.com/groups/global/AllUsers" in readers
    os.removexattr(file, "user.spaces.acl")
    mount.sync()
    assert os.getxattr(file, "user.spaces.acl") == b"private"
    with pytest.raises(HTTPError, match="403"):
        urlopen(os.getxattr(file, "user.spaces.url").decode(), context=mount.account.trust())
    with fails_with(errno.EINVAL):
        os.setxattr(file, "user.spaces.acl", b"everybody")


def test_a_signed_url(folder: Path, mount: Mount) -> None:
    file = folder / "a file"
    file.write_bytes(b"content")
    mount.sync()
    with urlopen(os.getxattr(file, "user.spaces.signed-url").decode(), context=mount.account.trust()) as reply:
        assert reply.read() == b"content"
    with fails_with(errno.ENODATA):
        os.getxattr(file, "user.spaces.cdn-url")  # Spaces alone have one
    with fails_with(errno.ENODATA):
        os.getxattr(folder, "user.spaces.signed-url")
    assert not [name for name in os.listxattr(file) if name.startswith("user.spaces.")]


def test_statfs(mount: Mount) -> None:
    size, available = run("df", "--block-size=1", "--output=size,avail", mount.path).splitlines()[1].split()
    assert int(size) >= int(available) > 1 << 40
    assert os.statvfs(mount.path).f_namemax == 255
