"""What fsync means at each level of durability."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount, MountMaker

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def keys(s3: S3Client, mount: Mount) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket=mount.source).get("Contents", ())}


@pytest.mark.parametrize(("durability", "is_sent"), [("journal", False), ("fsync", True), ("space", True)])
def test_fsync_of_a_file_and_of_a_directory(
    s3: S3Client, new_mount: MountMaker, durability: str, is_sent: bool
) -> None:
    mount: Mount = new_mount(options=["--durability", durability, "--grace", "1h"])
    assert mount.status()["durability"] == durability
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"content")
    os.fsync(file)
    assert ("f" in keys(s3, mount)) is is_sent
    os.close(file)
    (mount.path / "d").mkdir()
    (mount.path / "d" / "below").mkdir()
    assert ("d/" in keys(s3, mount)) is (durability == "space")
    directory = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    assert ("d/" in keys(s3, mount)) is is_sent
    assert ("d/below/" in keys(s3, mount)) is (durability == "space")
