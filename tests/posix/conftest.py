"""One mount for the whole suite, used by several users of this host, and a local directory beside it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest

from tests.conftest import remove_bucket
from tests.mount.mounting import Account, Mount

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

pytest.register_assert_rewrite("tests.posix.comparing")  # so that a failure shows the difference

TEST_SECONDS = 120.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.mount)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="becomes other users, which only root can"))


@pytest.fixture(scope="session")
def posix_mount(
    rgw: RadosGateway, edge: Edge, fuse_device: Path, s3: S3Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """A bucket mounted for all users of this host."""
    bucket = f"posix-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
    mount = Mount(account, bucket, tmp_path_factory.mktemp("posix"), ["--allow-other"])
    try:
        mount.start()
        yield mount
        mount.stop()
        mount.check_log()
    finally:
        mount.close()
    remove_bucket(s3, bucket)


@pytest.fixture
def mounted(posix_mount: Mount) -> Iterator[Path]:
    """A new directory in the mount; the mount is killed if its test hangs, which frees the test."""
    timer = Timer(TEST_SECONDS, posix_mount.close)
    timer.start()
    path = posix_mount.path / uuid.uuid4().hex[:8]
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    yield path
    timer.cancel()
    posix_mount.check_log()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A new directory on a local disk."""
    path = tmp_path / "local"
    path.mkdir()
    path.chmod(0o777)
    return path
