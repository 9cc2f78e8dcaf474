"""The commands for Spaces on paths inside a mount: a path stands for the place that it shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from types_boto3_s3 import S3Client

from tests.mount.mounting import BucketMaker, Mount, MountMaker, run


def command(mount: Mount, *words: str | Path, status: int = 0) -> str:
    done = mount.spacesfs(words[0], f"--ca-bundle={mount.account.ca_bundle}", *words[1:])
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_a_path_inside_a_mount_is_a_place(mount: Mount, bucket: str, s3: S3Client, tmp_path: Path) -> None:
    folder = mount.path / "photos"
    folder.mkdir()
    (folder / "a b.txt").write_bytes(b"content")
    assert command(mount, "ls", folder) == command(mount, "ls", f"{mount.path}/photos/") == "a b.txt\n"
    assert command(mount, "ls", "-r", mount.path).splitlines() == ["photos/", "photos/a b.txt"]
    assert command(mount, "cat", folder / "a b.txt") == "content"
    facts: dict[str, Any] = json.loads(command(mount, "stat", "--json", folder / "a b.txt"))
    assert (facts["bucket"], facts["key"], facts["size"]) == (bucket, "photos/a b.txt", 7)
    assert command(mount, "acl", folder / "a b.txt") == "private\n"
    assert "/photos/a%20b.txt?" in command(mount, "share", folder / "a b.txt")
    assert json.loads(command(mount, "du", "--json", folder))[0]["bytes"] == 7

    command(mount, "cp", folder / "a b.txt", f"{bucket}:copy")
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"content"
    command(mount, "get", folder / "a b.txt", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"content"
    command(mount, "put", tmp_path / "down", f"{mount.path}/new/")
    assert s3.get_object(Bucket=bucket, Key="new/down")["Body"].read() == b"content"
    command(mount, "mv", f"{bucket}:copy", mount.path / "moved")
    assert s3.get_object(Bucket=bucket, Key="moved")["Body"].read() == b"content"
    command(mount, "rm", "-r", folder)
    assert "NoSuchKey" in command(mount, "acl", folder / "a b.txt", status=1)


def test_a_mount_shows_what_commands_did(mount: Mount, bucket: str, s3: S3Client, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"from outside")
    folder = mount.path / "shown"
    folder.mkdir()
    (folder / "f").write_bytes(b"from inside, not sent yet")
    command(mount, "put", tmp_path / "f", folder)
    assert (folder / "f").read_bytes() == b"from outside"
    assert s3.get_object(Bucket=bucket, Key="shown/f")["Body"].read() == b"from outside"
    assert [path.name for path in folder.iterdir()] == ["f"], "no conflict, and nothing beside the folder"
    command(mount, "mv", folder / "f", folder / "g")
    assert [path.name for path in folder.iterdir()] == ["g"]
    command(mount, "rm", folder / "g")
    assert list(folder.iterdir()) == []


def test_bare_words_in_a_mount_are_paths(mount: Mount, bucket: str) -> None:
    (mount.path / "bare").mkdir()
    (mount.path / "bare" / "f").write_bytes(b"x")
    words = [sys.executable, "-m", "spacesfs", "ls", f"--ca-bundle={mount.account.ca_bundle}"]
    assert run(*words, "bare", cwd=mount.path, env=mount.environment) == "f\n"
    assert "bare/" in run(*words, ".", cwd=mount.path, env=mount.environment).splitlines()


def test_what_an_open_file_holds_counts(mount: Mount) -> None:
    with (mount.path / "open").open("wb") as file:
        file.write(b"written")
        file.flush()
        assert command(mount, "cat", mount.path / "open") == "written"


def test_a_mounted_prefix(new_mount: MountMaker, new_bucket: BucketMaker, s3: S3Client) -> None:
    bucket = new_bucket()
    mount = new_mount(f"{bucket}:some/prefix")
    (mount.path / "f").write_bytes(b"x")
    assert command(mount, "ls", mount.path) == "f\n"
    assert json.loads(command(mount, "stat", "--json", mount.path / "f"))["key"] == "some/prefix/f"
    command(mount, "cp", mount.path / "f", mount.path / "g")
    assert s3.get_object(Bucket=bucket, Key="some/prefix/g")["Body"].read() == b"x"


def test_doctor_looks_at_mounts(mount: Mount, bucket: str) -> None:
    found = json.loads(mount.spacesfs("doctor", "--json").stdout)
    assert [finding for finding in found if finding["name"] == "read-ahead" and str(mount.path) in finding["text"]]
