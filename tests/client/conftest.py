"""Fixtures of the client's tests: our client on a real server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from trio.testing import MockClock

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from tests.servers.rgw import RadosGateway


@pytest.fixture
def jumping_clock() -> MockClock:
    """A clock that jumps to the next deadline, but leaves a server in the same task tree the time to answer.

    It does not wait for threads: no names to look up, no large bodies to hash.
    """
    return MockClock(autojump_threshold=0.005)


@pytest.fixture
async def client(rgw: RadosGateway) -> AsyncIterator[SpacesClient]:
    """A client of the account that owns the test buckets."""
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials) as client:
        yield client


@pytest.fixture
async def stranger(rgw: RadosGateway) -> AsyncIterator[SpacesClient]:
    """A client of another account."""
    credentials = Credentials(rgw.other_access_key, rgw.other_secret_key)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials) as client:
        yield client


@pytest.fixture
async def bucket(client: SpacesClient, bucket_name: str) -> Bucket:
    """A new empty bucket."""
    return client.bucket(bucket_name)


@pytest.fixture(scope="session")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS settings of a server, and of a client that trusts it."""
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    return theirs, ours
