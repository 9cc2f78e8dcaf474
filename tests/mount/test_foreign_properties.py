"""What another client set on an object outlives everything that we do to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MOUNT_OPTIONS = ("--metadata-ttl", "0s")


def _chmod(file: Path) -> Path:
    file.chmod(0o600)
    return file


def _touch(file: Path) -> Path:
    os.utime(file, (5, 5))
    return file


def _rename(file: Path) -> Path:
    return file.rename(file.with_name("renamed"))


def _rename_directory(file: Path) -> Path:
    file.parent.rename(file.parent.with_name("moved"))
    return file.parent.with_name("moved") / file.name


def _overwrite(file: Path) -> Path:
    file.write_bytes(b"ours now")
    return file


def _append(file: Path) -> Path:
    with file.open("ab") as handle:
        handle.write(b" and more")
    return file


def _truncate(file: Path) -> Path:
    os.truncate(file, 3)
    return file


@pytest.mark.parametrize("change", [_chmod, _touch, _rename, _rename_directory, _overwrite, _append, _truncate])
def test_foreign_properties_survive(
    s3: S3Client, bucket: str, folder: Path, mount: Mount, change: Callable[[Path], Path]
) -> None:
    """Headers, metadata, tags and ACL that another client set outlive everything that rewrites the object."""
    s3.put_object(
        Bucket=bucket,
        Key=f"{folder.name}/d/theirs",
        Body=b"their content",
        ContentType="text/x-special; charset=utf-8",
        CacheControl="max-age=77",
        ContentDisposition='attachment; filename="a.txt"',
        ContentLanguage="de",
        Metadata={"colour": "green", "owner-of": "things"},
        Tagging="team=a%20b&x=1",
        ACL="public-read",
    )
    changed = change(folder / "d" / "theirs")
    mount.sync()
    key = str(changed.relative_to(mount.path))
    head = s3.head_object(Bucket=bucket, Key=key)
    assert head["ContentType"] == "text/x-special; charset=utf-8"
    assert head["CacheControl"] == "max-age=77"
    assert head["ContentDisposition"] == 'attachment; filename="a.txt"'
    assert head["ContentLanguage"] == "de"
    assert {"colour": "green", "owner-of": "things"}.items() <= head["Metadata"].items()
    tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "a b", "x": "1"}
    grants = s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]
    everyone = [grant["Permission"] for grant in grants if grant["Grantee"].get("URI", "").endswith("/AllUsers")]
    assert everyone == ["READ"]


def test_chmod_of_a_foreign_file_keeps_its_bytes(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    s3.put_object(Bucket=bucket, Key=f"{folder.name}/theirs", Body=b"their content")
    (folder / "theirs").chmod(0o604)
    mount.remount()
    assert stat.S_IMODE((folder / "theirs").stat().st_mode) == 0o604
    assert (folder / "theirs").read_bytes() == b"their content"
