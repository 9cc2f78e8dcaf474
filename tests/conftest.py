"""Fixtures for all tests: a real S3 server, the edge in front of it, a client that is not ours, a way to mount.

All are lazy: a test that asks for none of them starts no server. A missing program fails the test with the command that
installs it; nothing is skipped.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import boto3
import hypothesis
import pytest
import pytest_timeout
from botocore.config import Config
from types_boto3_s3 import S3Client
from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

from tests.servers.edge import Edge
from tests.servers.mounts import abort_mounts
from tests.servers.process import ServerError
from tests.servers.rgw import RadosGateway

hypothesis.settings.register_profile("spacesfs", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("spacesfs")

Server = TypeVar("Server", RadosGateway, Edge)

TIMER = pytest.StashKey[threading.Timer]()
FUSE_DEVICE = Path("/dev/fuse")
REGION = "us-east-1"


@pytest.fixture(scope="session")
def rgw(request: pytest.FixtureRequest) -> Iterator[RadosGateway]:
    """A Ceph cluster with a RADOS gateway; its logs stay in .test-logs/ if any test failed."""
    with ExitStack() as stack:
        server = start(stack, RadosGateway())
        yield server
        server.keep_logs = request.session.testsfailed > 0


@pytest.fixture(scope="session")
def edge(rgw: RadosGateway) -> Iterator[Edge]:
    """The gateway over TLS, without delay or faults."""
    with ExitStack() as stack:
        yield start(stack, Edge(rgw.endpoint))


@pytest.fixture
def make_edge(rgw: RadosGateway) -> Iterator[Callable[..., Edge]]:
    """A function that starts one more edge in front of the gateway; takes the keyword arguments of `Edge`."""
    with ExitStack() as stack:
        yield lambda **settings: start(stack, Edge(rgw.endpoint, **settings))


@pytest.fixture(scope="session")
def s3(rgw: RadosGateway) -> S3Client:
    """Amazon's own client, straight to the gateway: an independent witness of what the Space holds."""
    return boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name=REGION,
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",  # the server knows no trailing checksums
            response_checksum_validation="when_required",
        ),
    )


@pytest.fixture
def bucket_name(s3: S3Client) -> Iterator[str]:
    """A new empty bucket, removed with all it holds after the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    remove_bucket(s3, name)


@pytest.fixture(scope="session")
def fuse_device() -> Path:
    """The kernel's side of FUSE, which every mount needs."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR))
    except OSError as error:
        pytest.fail(
            f"mounting needs {FUSE_DEVICE}: {error.strerror}. Load the module (modprobe fuse), or run the container "
            f"with --device {FUSE_DEVICE} --cap-add SYS_ADMIN.",
            pytrace=False,
        )
    return FUSE_DEVICE


def start(stack: ExitStack, server: Server) -> Server:
    """Start a server for as long as the stack lasts, or fail the test with one sentence."""
    try:
        stack.enter_context(server)
    except ServerError as error:
        pytest.fail(str(error), pytrace=False)
    return server


def remove_bucket(s3: S3Client, name: str) -> None:
    """Delete a bucket with its objects, versions and unfinished uploads."""
    for uploads in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in uploads.get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        entries = [
            (entry["Key"], entry["VersionId"]) for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        many: list[ObjectIdentifierTypeDef] = [
            {"Key": key, "VersionId": version} for key, version in entries if key.isprintable()
        ]
        if many:  # a page holds no more than one request may name
            s3.delete_objects(Bucket=name, Delete={"Objects": many, "Quiet": True})
        for key, version in entries:
            if not key.isprintable():  # XML can't carry a control character
                s3.delete_object(Bucket=name, Key=key, VersionId=version)
    s3.delete_bucket(Bucket=name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that need no server first: they fail within seconds."""
    items.sort(key=lambda item: "rgw" in getattr(item, "fixturenames", ()))


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """Let a test that exceeds its time end the whole process, with the stacks of all threads; a new worker goes on.

    A thread that waits for a mount cannot be killed before the mount answers, so the mounts go first.
    """
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]  # noqa: SLF001 - the hook gets no fixture
    mounts_below = factory.getbasetemp()  # of this worker alone

    def expire() -> None:
        abort_mounts(mounts_below)  # never one that a person or another run works in
        if hasattr(item.config, "workerinput"):  # the standard output of a worker of xdist leads nowhere
            item.config.get_terminal_writer()._file = sys.__stderr__ or sys.stderr  # noqa: SLF001 - it has no other way
        pytest_timeout.timeout_timer(item, settings)

    timer = threading.Timer(settings.timeout, expire)
    item.stash[TIMER] = timer
    timer.start()
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """The test ended in time."""
    if timer := item.stash.get(TIMER, None):
        timer.cancel()
    return True
