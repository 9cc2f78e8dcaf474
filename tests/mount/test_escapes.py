"""Keys that are no paths, under names that lead to them."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import BucketMaker, Mount, MountMaker, fails_with, run

if TYPE_CHECKING:
    from pathlib import Path

    from types_boto3_s3 import S3Client

LONG = "x" * 300
LONGER = "x" * 240 + "é" * 121
END = "~end=of many words "
PART = f"~more={'x' * 240}"
NAMES = {
    "a//b": "a/~key=/b",
    "/leading": "~key=/leading",
    "//": "~key=/~key=",
    "dots/../x": "dots/~key=%2E%2E/x",
    "dots/./y": "dots/~key=%2E/y",
    "dots/..": "dots/~key=%2E%2E",
    "both": "~file=both",
    "both/child": "both/child",
    "deep/both": "deep/~file=both",
    "deep/both/": "deep/both",
    "looks/~key=": "looks/~key=~key=",
    "looks/~file=x": "looks/~key=~file=x",
    "looks/~key=plain": "looks/~key=plain",
    f"long/{LONG}": f"long/{PART}/~end={'x' * 60}",
    f"long/{LONG}y": f"long/{PART}/~end={'x' * 60}y",
    f"long/{LONG}y/child": f"long/{PART}/~end={'x' * 60}y/child",
    f"long/{LONGER}/{LONGER}": f"long/{PART}/~more={'é' * 120}/~end=é/{PART}/~more={'é' * 120}/~end=é",
    f"long/~more={'x' * 240}": f"long/~key=~more={'x' * 240}",
    f"long/{'x' * 250}": f"long/{'x' * 250}",
    "é" * 200: f"~more={'é' * 120}/~end={'é' * 80}",
}
NAMES[f"long/{LONG}y"] = f"long/{PART}/~file={'x' * 60}y"
del NAMES["dots/.."]  # beside the directory of that segment: tried by itself below


@pytest.fixture
def odd(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> Mount:
    bucket = new_bucket()
    for key in NAMES:
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else key.encode())
    return new_mount(bucket, options=["--grace", "0.1s"])


def _keys(s3: S3Client, mount: Mount) -> set[str]:
    mount.sync()
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket=mount.source).get("Contents", [])}


@pytest.mark.parametrize("key", ["a//b", "dots/../x", "deep/both", "deep/both/", f"long/{LONG}y/child", "both/child"])
def test_commands_find_them(odd: Mount, key: str) -> None:
    done = odd.spacesfs("stat", f"--ca-bundle={odd.account.ca_bundle}", "--json", odd.path / NAMES[key])
    assert json.loads(done.stdout)["key"] == key


def test_changes_of_them_are_synced_by_their_path(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    s3.put_object(Bucket=bucket, Key="a//b", Body=b"before")
    mount = new_mount(bucket, options=["--grace", "1h"])
    (mount.path / "a/~key=/b").write_bytes(b"after")
    assert mount.spacesfs("sync", mount.path / "a/~key=").returncode == 0
    assert s3.get_object(Bucket=bucket, Key="a//b")["Body"].read() == b"after"


def test_found_read_and_listed(odd: Mount) -> None:
    for key, name in NAMES.items():
        path = odd.path / name
        assert path.exists(), name
        assert path.is_dir() == key.endswith("/")
        if not key.endswith("/"):
            assert path.read_bytes() == key.encode()
            assert os.getxattr(path, "user.spaces.key") == key.encode()
    listed = {str(path.relative_to(odd.path)) for path in odd.path.rglob("*")}
    assert set(NAMES.values()) <= listed
    found = run("find", odd.path, "-type", "f", "-printf", "%P\\n").splitlines()
    assert set(found) == {name for key, name in NAMES.items() if not key.endswith("/")}


def test_each_found_from_cold(odd: Mount) -> None:
    """Without a listing, each by one look-up."""
    for name in NAMES.values():
        assert stat.S_IFMT(os.stat(odd.path / name).st_mode)
    for name in ("a/~key=%2E", "~key=%2E", "a/~file=b", "dots/~key=", "~file=nothing", "a/~key=/~key="):
        with pytest.raises(FileNotFoundError):
            os.stat(odd.path / name)


def test_renamed_to_names_of_their_own(s3: S3Client, odd: Mount) -> None:
    moved = {name: f"moved{number}" for number, (key, name) in enumerate(NAMES.items()) if not key.endswith("/")}
    for name, new in moved.items():
        os.rename(odd.path / name, odd.path / new)
    contents = {key: moved[name] for key, name in NAMES.items() if name in moved}
    odd.remount()
    for key, new in contents.items():
        assert (odd.path / new).read_bytes() == key.encode()
    held = _keys(s3, odd)
    assert set(moved.values()) <= held
    assert not {key for key in NAMES if not key.endswith("/")} & held


def test_removed(s3: S3Client, odd: Mount) -> None:
    run("rm", "-r", *(odd.path / name for name in os.listdir(odd.path)))
    assert os.listdir(odd.path) == []
    assert _keys(s3, odd) == set()


def test_written_and_made(s3: S3Client, odd: Mount) -> None:
    (odd.path / "a/~key=/b").write_bytes(b"changed")
    (odd.path / "a/~key=/b").chmod(0o600)
    (odd.path / "dots/~key=%2E%2E/new").write_bytes(b"new")
    (odd.path / "a/~key=/~key=").mkdir()
    (odd.path / "a/~key=/~key=/~key=%2E").write_bytes(b"dot")
    odd.sync()
    for key, body in {"a//b": b"changed", "dots/../new": b"new", "a////": None, "a///.": b"dot"}.items():
        if body is not None:
            assert s3.get_object(Bucket=odd.source, Key=key)["Body"].read() == body
    odd.remount()
    assert (odd.path / "a/~key=/b").read_bytes() == b"changed"
    assert stat.S_IMODE((odd.path / "a/~key=/b").stat().st_mode) == 0o600
    assert os.listdir(odd.path / "a/~key=/~key=") == ["~key=%2E"]


def test_a_directory_of_them_is_renamed(s3: S3Client, odd: Mount) -> None:
    os.rename(odd.path / "a", odd.path / "z")
    os.rename(odd.path / "dots/~key=%2E%2E", odd.path / "dots/up")
    os.rename(odd.path / "~key=", odd.path / "root")
    assert (odd.path / "z/~key=/b").read_bytes() == b"a//b"
    held = _keys(s3, odd)
    assert {"z//b", "dots/up/x", "root/leading"} <= held
    assert not any(key.startswith(("a/", "dots/../", "/")) for key in held)


def test_a_file_beside_a_directory(s3: S3Client, odd: Mount) -> None:
    """It can be read, renamed and removed; changed or made it can't be, for what has no directory yet may get one."""
    path = odd.path / "~file=both"
    for change in (
        lambda: path.write_bytes(b"x"),
        lambda: path.chmod(0o600),
        lambda: os.truncate(path, 0),
        lambda: os.setxattr(path, "user.x", b"1"),
        (odd.path / "~file=new").touch,
        (odd.path / "~file=new").mkdir,
        lambda: os.rename(odd.path / "both/child", path),
    ):
        with fails_with(errno.ENOTSUP):
            change()
    path.unlink()
    assert not path.exists()
    assert (odd.path / "both/child").read_bytes() == b"both/child"
    held = _keys(s3, odd)
    assert "both" not in held
    assert "both/child" in held


def test_a_file_gets_its_name_when_the_directory_goes(odd: Mount) -> None:
    (odd.path / "both/child").unlink()
    (odd.path / "both").rmdir()
    odd.remount()
    assert (odd.path / "both").read_bytes() == b"both"
    assert not _has(odd.path, "~file=both")


def test_long_names_are_made(s3: S3Client, odd: Mount) -> None:
    part = odd.path / "long" / PART
    (part / f"{END}file").write_bytes(b"file")
    (part / f"{END}dir").mkdir()
    (part / f"{END}dir" / "child").write_bytes(b"child")
    (part / f"{END}link").symlink_to("target")
    (odd.path / "new").mkdir()
    os.rename(part / f"{END}file", odd.path / "new" / PART / f"{END}moved")
    os.rename(odd.path / "both" / "child", part / f"{END}renamed.txt")
    (part / f"{END}renamed.txt").chmod(0o600)
    os.setxattr(part / f"{END}renamed.txt", "user.x", b"1")
    assert {f"{END}dir", f"{END}link", f"{END}renamed.txt"} < set(os.listdir(part))
    held = _keys(s3, odd)
    start = "x" * 240 + "of many words "
    assert {f"long/{start}{end}" for end in ("dir/", "dir/child", "link", "renamed.txt")} <= held
    assert s3.get_object(Bucket=odd.source, Key=f"new/{start}moved")["Body"].read() == b"file"
    assert f"long/{start}file" not in held
    odd.remount()
    assert (part / f"{END}renamed.txt").read_bytes() == b"both/child"
    assert stat.S_IMODE((part / f"{END}renamed.txt").stat().st_mode) == 0o600
    assert (part / f"{END}link").readlink().name == "target"
    assert (part / f"{END}dir" / "child").read_bytes() == b"child"
    os.rename(odd.path / "new", odd.path / "newer")
    assert (odd.path / "newer" / PART / f"{END}moved").read_bytes() == b"file"


def test_parts_of_long_names(odd: Mount) -> None:
    """They are always there and nothing of their own: what can't be done with them is refused."""
    part = odd.path / "long" / PART
    for change, error in (
        (lambda: (part / "plain").write_bytes(b""), errno.ENOTSUP),
        ((part / "plain").mkdir, errno.ENOTSUP),
        (lambda: os.rename(odd.path / "both" / "child", part / "plain"), errno.ENOTSUP),
        (lambda: os.rename(part, odd.path / "long" / "other"), errno.ENOTSUP),
        (lambda: os.rename(odd.path / "both", part), errno.ENOTSUP),
        (lambda: part.chmod(0o700), errno.ENOTSUP),
        (lambda: os.setxattr(part, "user.x", b"1"), errno.ENOTSUP),
        (part.mkdir, errno.EEXIST),
        (part.rmdir, errno.ENOTEMPTY),
        ((part / "~end=none").stat, errno.ENOENT),
        ((part / "plain").stat, errno.ENOENT),
        ((part / "~end=none").unlink, errno.ENOENT),
    ):
        with fails_with(error):
            change()
    assert os.listxattr(part) == []
    empty = odd.path / "both" / PART
    assert (os.listdir(empty), os.listdir(empty.parent)) == ([], ["child"])
    assert stat.S_IMODE(empty.stat().st_mode) == stat.S_IMODE(empty.parent.stat().st_mode)
    empty.rmdir()
    run("rm", "-r", part)
    assert not _has(part.parent, PART)


def test_the_bytes_of_a_directorys_own_object(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    bucket = new_bucket()
    for key in ("read/", "removed/", "renamed/", "renamed/other", "tree/d/", "tree/d//x"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.put_object(Bucket=bucket, Key="plain/", Body=b"")
    mount = new_mount(bucket, options=["--grace", "0.1s"])
    assert (mount.path / "read" / "~file=").read_bytes() == b"read/"  # by one look-up
    assert os.listdir(mount.path / "read") == ["~file="]
    assert sorted(os.listdir(mount.path / "tree" / "d")) == ["~file=", "~key="]
    assert os.getxattr(mount.path / "read" / "~file=", "user.spaces.key") == b"read/"
    assert not _has(mount.path / "plain", "~file=")
    with fails_with(errno.ENOENT):
        (mount.path / "plain" / "~file=").stat()
    for change, error in (
        (lambda: (mount.path / "read" / "~file=").write_bytes(b"x"), errno.ENOTSUP),
        (lambda: (mount.path / "read" / "~file=").chmod(0o600), errno.ENOTSUP),
        ((mount.path / "read").rmdir, errno.ENOTEMPTY),
    ):
        with fails_with(error):
            change()
    (mount.path / "removed" / "~file=").unlink()
    os.rename(mount.path / "renamed" / "~file=", mount.path / "bytes")
    os.rename(mount.path / "tree", mount.path / "moved")
    assert os.listdir(mount.path / "removed") == []
    assert os.listdir(mount.path / "renamed") == ["other"]
    assert (mount.path / "moved" / "d" / "~file=").read_bytes() == b"tree/d/"
    mount.sync()
    sizes = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert sizes["removed/"] == sizes["renamed/"] == 0
    assert s3.get_object(Bucket=bucket, Key="bytes")["Body"].read() == b"renamed/"
    assert s3.get_object(Bucket=bucket, Key="moved/d/")["Body"].read() == b"tree/d/"
    mount.remount()
    assert (mount.path / "bytes").read_bytes() == b"renamed/"
    run("rm", "-r", *(mount.path / name for name in os.listdir(mount.path)))
    assert _keys(s3, mount) == set()


def _has(directory: Path, name: str) -> bool:
    return name in os.listdir(directory)


def test_what_resembles_them_is_a_name(s3: S3Client, mount: Mount, folder: Path) -> None:
    names = ["~", "~key", "~key=a", "~file", "~file=%", "~key=%", "%2E%2E", "~key=%2e"]
    for name in names:
        (folder / name).write_bytes(name.encode())
    mount.remount()
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        body = s3.get_object(Bucket=mount.source, Key=f"{folder.name}/{name}")["Body"].read()
        assert body == (folder / name).read_bytes() == name.encode()
