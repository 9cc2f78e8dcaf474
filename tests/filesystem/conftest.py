"""Fixtures: mounts without the kernel, and another client of their bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from types_boto3_s3 import S3Client

from tests.filesystem.assembled import Host, Space, assemble
from tests.servers.rgw import RadosGateway


@pytest.fixture
async def host(rgw: RadosGateway, bucket_name: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with assemble(rgw, bucket_name, tmp_path / "host") as host:
        yield host


@pytest.fixture
async def forgetful(rgw: RadosGateway, bucket_name: str, tmp_path: Path) -> AsyncIterator[Host]:
    """A host that remembers nothing of the Space: its listings are never kept."""
    async with assemble(rgw, bucket_name, tmp_path / "forgetful", ttl_seconds=0) as host:
        yield host


@pytest.fixture
def space(s3: S3Client, bucket_name: str) -> Space:
    return Space(s3, bucket_name)
