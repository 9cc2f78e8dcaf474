"""The whole client through an edge that refuses and drops, and under cancellation: nothing is lost, nothing is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import NoSuchKey
from spacesfs.client.models import ObjectProperties
from spacesfs.client.transport import ClientOptions
from tests.client.cancelling import cancelling
from tests.client.replies import BODY, ETAG, STORED
from tests.client.scripted import Answer, Reset, scripted_server
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

PATIENT = ClientOptions(max_attempts=15, max_connections=8)  # 15 failures in a row do not happen at 25 %


def version(number: int, length: int = 40_000) -> bytes:
    return number.to_bytes(4, "big") * (length // 4)


async def live(bucket: Bucket, number: int) -> None:
    """Walk one object through every kind of change, checking what is there."""
    key, moved, body = f"dir/{number}", f"moved/{number}", version(number)
    properties = ObjectProperties(metadata={"mtime": str(number)})
    first = await bucket.put(key, body, properties, if_none_match=True)
    second = await bucket.put(key, body + b"more", properties, if_match=first)
    await bucket.copy(key, moved, source_etag=second)
    await bucket.delete(key)
    with pytest.raises(NoSuchKey):
        await bucket.head(key)
    upload = await bucket.create_upload(key)
    parts = [await bucket.upload_part(key, upload, 2, body)]
    await bucket.complete_upload(key, upload, parts)
    for name, expected in ((moved, body + b"more"), (key, body)):
        buffer = bytearray(len(expected))
        await bucket.get_range(name, 0, memoryview(buffer))
        assert bytes(buffer) == expected


async def test_a_storm_of_faults_changes_nothing(
    make_edge: Callable[..., Edge], rgw: RadosGateway, bucket: Bucket
) -> None:
    edge = make_edge(fail_percent=15, reset_percent=10)
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    attempts: list[int] = []
    async with SpacesClient(
        resolve_endpoint(None, edge.http_url),
        credentials,
        options=PATIENT,
        on_request=lambda record: attempts.append(record.attempt),
    ) as client:
        shaken = client.bucket(bucket.name)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(live, shaken, number)
        keys = [entry.key async for page in shaken.list("") for entry in page.objects]
        assert keys == sorted(f"{folder}/{number}" for folder in ("dir", "moved") for number in range(12))
        assert await shaken.delete_many(keys) == []
    assert max(attempts) > 1
    assert (await bucket.list_page("")).objects == ()


async def test_cancellation_at_any_moment_leaves_the_client_whole(rgw: RadosGateway, bucket: Bucket) -> None:
    credentials = Credentials(rgw.access_key, rgw.secret_key)
    options = ClientOptions(max_connections=2)
    body = version(1, 1 << 20)
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), credentials, options=options) as client:
        ours = client.bucket(bucket.name)
        etag = await ours.put("k", body)
        buffer = bytearray(len(body))
        for step in range(40):
            async with trio.open_nursery() as nursery:
                for _ in range(3):  # one more than there are connections
                    nursery.start_soon(ours.put, f"other-{step}", body)
                    nursery.start_soon(lambda: ours.get_range("k", 0, memoryview(bytearray(len(body)))))
                await trio.sleep(step * 0.0005)
                nursery.cancel_scope.cancel()
        info = await ours.get_range("k", 0, memoryview(buffer), if_match=etag)
        assert (bytes(buffer), info.etag) == (body, etag)
        assert [
            entry.size async for page in ours.list("other") for entry in page.objects if entry.size != 1 << 20
        ] == []


async def test_cancellation_at_every_await_of_a_call_that_has_all_troubles(jumping_clock: MockClock) -> None:
    """Throttled, broken off, refused for its key, failed, and taken in the end."""
    troubles = (
        Answer(503, headers={"Retry-After": "3"}),
        Reset(),
        Answer(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>"),
        Answer(500),
    )
    step, is_done = 0, False
    while not is_done:
        step += 1
        async with scripted_server(*troubles, STORED) as server:
            endpoint = resolve_endpoint("nyc3", server.url)
            options = ClientOptions(max_connections=1)
            async with SpacesClient(endpoint, Credentials("OLD", "s"), options=options, find_again=find_key) as client:
                with trio.CancelScope() as scope:
                    with cancelling(scope, step):
                        await client.bucket("bucket").put("k", BODY)
                    is_done = not scope.cancel_called
                lanes = client.statistics().lanes.values()
                assert all(lane.in_flight == lane.waiting == 0 for lane in lanes), "a turn is lost"
                assert await client.bucket("bucket").put("k", BODY) == ETAG, "and with it the only connection"
    assert step > 30


async def find_key() -> Credentials:
    await trio.sleep(1)
    return Credentials("NEW", "s")
