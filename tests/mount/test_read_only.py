"""``--read-only``: everything is read, every change is refused here, and no request that changes anything is sent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount, fails_with

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge

MOUNT_OPTIONS = ("--read-only",)
WRITES = ("put", "part", "copy", "partcopy", "post", "mdelete", "delete")

CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda root: (root / "new").touch(),
    "overwrite": lambda root: (root / "f").write_bytes(b"x"),
    "append": lambda root: os.close(os.open(root / "f", os.O_WRONLY | os.O_APPEND)),
    "truncate": lambda root: os.truncate(root / "f", 0),
    "unlink": lambda root: (root / "f").unlink(),
    "rename": lambda root: (root / "f").rename(root / "g"),
    "mkdir": lambda root: (root / "new").mkdir(),
    "rmdir": lambda root: (root / "d").rmdir(),
    "chmod": lambda root: (root / "f").chmod(0o600),
    "utime": lambda root: os.utime(root / "f", (1, 1)),
    "symlink": lambda root: (root / "link").symlink_to("f"),
    "mkfifo": lambda root: os.mkfifo(root / "fifo"),
    "setxattr": lambda root: os.setxattr(root / "f", "user.a", b"1"),
}


@pytest.fixture(scope="module")
def bucket(bucket: str, s3: S3Client) -> str:
    """The module's bucket, with something in it."""
    s3.put_object(Bucket=bucket, Key="f", Body=b"content")
    s3.put_object(Bucket=bucket, Key="d/", Body=b"")
    return bucket


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_refused(mount: Mount, edge: Edge, change: str) -> None:
    edge.zero()
    with fails_with(errno.EROFS):
        CHANGES[change](mount.path)
    assert (mount.path / "f").read_bytes() == b"content"
    assert sorted(os.listdir(mount.path)) == ["d", "f"]
    counts = edge.counts()
    assert {name: counts[name] for name in WRITES} == dict.fromkeys(WRITES, 0)


def test_mounting_and_reading_write_nothing(mount: Mount, edge: Edge) -> None:
    edge.zero()
    mount.remount()
    assert (mount.path / "f").read_bytes() == b"content"
    assert not os.access(mount.path / "f", os.W_OK)
    counts = edge.counts()
    assert {name: counts[name] for name in WRITES} == dict.fromkeys(WRITES, 0)
    assert counts["get"] + counts["head"] + counts["list"] > 0
