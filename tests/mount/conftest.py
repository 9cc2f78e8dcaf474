"""Fixtures of the tests through a real mount: accounts, buckets, mounts that end with their test, and a watchdog."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Account, BucketMaker, Mount, MountMaker

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

    from tests.servers.edge import Edge
    from tests.servers.rgw import RadosGateway

TEST_SECONDS = 240.0
"""A test with no ``deadline`` mark of its own is stuck after this long."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "deadline(seconds): after this long the test's mounts are killed, which frees the test"
    )
    config.addinivalue_line("markers", "holds(key, body, count): objects in the test's bucket before it is mounted")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.mount)


@pytest.fixture(scope="session")
def account(rgw: RadosGateway, edge: Edge, fuse_device: Path) -> Account:
    """The owner of every bucket here, over TLS."""
    return Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)


@pytest.fixture(scope="session")
def new_bucket(s3: S3Client) -> Iterator[BucketMaker]:
    """Make empty buckets; they and what is in them go at the end."""
    made: list[str] = []

    def make() -> str:
        made.append(f"mount-{uuid.uuid4().hex[:12]}")
        s3.create_bucket(Bucket=made[-1])
        return made[-1]

    yield make
    for name in made:
        empty(s3, name)
        s3.delete_bucket(Bucket=name)


def empty(s3: S3Client, bucket: str) -> None:
    """Delete every object and every unfinished upload of a bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys: list[ObjectIdentifierTypeDef] = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


@pytest.fixture(scope="session")
def mounts() -> list[Mount]:
    """Every mount of this run that is not closed yet."""
    return []


def _open(mounts: list[Mount], mount: Mount, stack: ExitStack) -> Mount:
    """Start a mount that drains and ends with the stack; how it ends and what it logged are part of the test."""

    def end() -> None:
        try:
            if mount.process is not None and mount.process.poll() is None:
                mount.stop()
            mount.check_log()
        finally:
            mounts.remove(mount)
            mount.close()

    mounts.append(mount)
    stack.callback(end)
    mount.start()
    return mount


@pytest.fixture(scope="module")
def bucket(new_bucket: BucketMaker) -> str:
    """A bucket of this module."""
    return new_bucket()


@pytest.fixture(scope="module")
def mount(
    request: pytest.FixtureRequest,
    mounts: list[Mount],
    account: Account,
    bucket: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mount]:
    """The module's bucket, mounted; a module may name further options in ``MOUNT_OPTIONS``."""
    options = getattr(request.module, "MOUNT_OPTIONS", ())
    with ExitStack() as stack:
        yield _open(mounts, Mount(account, bucket, tmp_path_factory.mktemp("m"), options), stack)


@pytest.fixture
def new_mount(
    mounts: list[Mount], account: Account, new_bucket: BucketMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MountMaker]:
    """Make mounts that end with the test, of a new bucket unless told which."""
    with ExitStack() as stack:

        def make(
            source: str | None = None,
            *,
            options: Sequence[str] = (),
            account: Account = account,
            home: Path | None = None,
        ) -> Mount:
            home = home or tmp_path_factory.mktemp("m")
            return _open(mounts, Mount(account, source or new_bucket(), home, options), stack)

        yield make


@pytest.fixture
def folder(mount: Mount) -> Path:
    """A new directory in the module's mount."""
    path = mount.path / f"t-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest, mounts: list[Mount]) -> Iterator[None]:
    """Free a test that hangs in a mount, and hold every mount's log against the test that caused it."""
    mark = request.node.get_closest_marker("deadline")

    def kill() -> None:
        for mount in list(mounts):
            mount.close()

    timer = Timer(mark.args[0] if mark else TEST_SECONDS, kill)
    timer.start()
    yield
    timer.cancel()
    for mount in mounts:
        mount.check_log()
