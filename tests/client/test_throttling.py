"""A Space that throttles: the client slows down, loses nothing, and is fast again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.call import RequestRecord
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import Throttled
from spacesfs.client.transport import ClientOptions
from tests.client.scripted import Answer, scripted
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

UPLOADS = 500
CALLERS = 100
OPTIONS = ClientOptions(timeout_seconds=30, deadline_seconds=30)
SLOW_DOWN = Answer(503, b"<Error><Code>SlowDown</Code></Error>")
STORED = Answer(headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})


async def put_many(bucket: Bucket, count: int, body: bytes) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(partial(bucket.put, f"k{number:03}", body))


async def test_500_uploads_through_a_storm_of_503(
    make_edge: Callable[..., Edge], rgw: RadosGateway, bucket: Bucket
) -> None:
    edge = make_edge(fail_percent=20)
    windows: list[int] = []
    statuses: list[int | None] = []

    def observe(record: RequestRecord) -> None:
        windows.append(client.statistics().lanes["write"].window)
        statuses.append(record.status)

    endpoint, credentials = resolve_endpoint(None, edge.http_url), Credentials(rgw.access_key, rgw.secret_key)
    async with SpacesClient(endpoint, credentials, on_request=observe) as client:
        await put_many(client.bucket(bucket.name), UPLOADS, b"some bytes")
    assert statuses.count(200) == UPLOADS
    assert statuses.count(503) > UPLOADS // 10
    assert windows[0] == ClientOptions().max_connections
    assert sorted(windows)[len(windows) // 2] <= ClientOptions().max_connections // 2, "it stays slow while it storms"
    assert any(later > earlier for earlier, later in pairwise(windows)), "it tries to go faster"
    assert [entry.key async for page in bucket.list("") for entry in page.objects] == [
        f"k{number:03}" for number in range(UPLOADS)
    ]


async def test_after_the_storm_it_is_as_fast_as_before() -> None:
    windows: list[int] = []
    async with scripted(
        *[SLOW_DOWN] * 40, STORED, on_request=lambda _: windows.append(client.statistics().lanes["write"].window)
    ) as (client, server):
        await put_many(client.bucket("bucket"), 400, b"")
        lanes = client.statistics().lanes
    assert len(server.requests) == 440
    assert min(windows) == 1
    assert not lanes["write"].is_slowed
    assert lanes["write"].cuts > 0
    assert not lanes["read"].cuts


async def test_never_more_than_ten_writes_of_one_key() -> None:
    under_way: list[int] = []
    async with scripted(STORED, on_request=lambda _: under_way.append(lane())) as (client, _):

        def lane() -> int:
            return client.statistics().lanes["write"].in_flight

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(client.bucket("bucket").put, "same", b"")
    assert max(under_way) == 10


async def test_a_long_retry_after_does_not_fail_a_call(jumping_clock: MockClock) -> None:
    """Twice 20 seconds are more than the 30 that the call may take when nobody throttles it."""
    told = Answer(503, headers={"Retry-After": "20"})
    async with scripted(told, told, STORED, options=OPTIONS) as (client, server):
        began = trio.current_time()
        await client.bucket("bucket").put("k", b"")
        assert 40 <= trio.current_time() - began < 60
    assert len(server.requests) == 3


async def test_throttling_does_not_take_the_time_that_faults_may_take(jumping_clock: MockClock) -> None:
    fault = Answer(500)
    async with scripted(fault, *[Answer(429, headers={"Retry-After": "60"})] * 4, fault, STORED, options=OPTIONS) as (
        client,
        server,
    ):
        await client.bucket("bucket").put("k", b"")
    assert len(server.requests) == 7


async def test_a_space_that_takes_nothing_for_ever_ends_every_call_in_time(jumping_clock: MockClock) -> None:
    options = ClientOptions(deadline_seconds=10, patience_seconds=40)
    ended: list[float] = []

    async def call(number: int) -> None:
        with pytest.raises(Throttled):
            await client.bucket("bucket").put(f"k{number}", b"")
        ended.append(trio.current_time())

    async with scripted(SLOW_DOWN, options=options) as (client, _):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(CALLERS):
                nursery.start_soon(call, number)
        lane = client.statistics().lanes["write"]
    assert len(ended) == CALLERS
    assert lane.rate == 1
    assert (lane.in_flight, lane.waiting) == (0, 0)
    assert max(ended) - began <= options.patience_seconds + 1
