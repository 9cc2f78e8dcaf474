"""How long a call may take: slow servers, silent ones, and ones that ask to wait."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from spacesfs.client.errors import DeadlineExceeded, Throttled
from spacesfs.client.transport import ClientOptions
from tests.client.replies import BODY, HTML, error, ranged, read
from tests.client.scripted import Answer, Late, Silence, Step, Trickle, scripted


@pytest.mark.parametrize("fault", [error(503, "SlowDown"), Answer(429), Answer(503, HTML)], ids=repr)
async def test_a_throttled_call_gives_up_when_its_patience_ends_alone(jumping_clock: MockClock, fault: Step) -> None:
    options = ClientOptions(max_attempts=1, deadline_seconds=1, patience_seconds=20)
    async with scripted(fault, fault, ranged(), options=options) as (client, server):
        assert await read(client.bucket("bucket")) == BODY
        assert len(server.requests) == 3
    async with scripted(fault, options=options) as (client, server):
        with pytest.raises(Throttled):
            await read(client.bucket("bucket"))
        assert len(server.requests) > 2


async def test_a_slow_first_byte_is_waited_for_within_the_timeout(jumping_clock: MockClock) -> None:
    options = ClientOptions(timeout_seconds=30, deadline_seconds=100)
    async with scripted(Late(ranged(), 29), options=options) as (client, server):
        assert await read(client.bucket("bucket")) == BODY
        assert len(server.requests) == 1
    async with scripted(Late(ranged(), 31), ranged(), options=options) as (client, server):
        assert await read(client.bucket("bucket")) == BODY
        assert [request.method for request in server.requests].count("GET") == 2  # and a probe: is it there at all?


async def test_a_body_that_trickles_is_no_silence(jumping_clock: MockClock) -> None:
    options = ClientOptions(timeout_seconds=5, deadline_seconds=100)
    async with scripted(Trickle(ranged(), 4), options=options) as (client, server):
        assert await read(client.bucket("bucket")) == BODY
        assert len(server.requests) == 1


async def test_silence_ends_in_a_timeout() -> None:
    options = ClientOptions(timeout_seconds=0.2, max_attempts=2)
    async with scripted(Silence(), options=options) as (client, server):
        with pytest.raises(DeadlineExceeded, match=r"no byte moved for 0\.2 seconds"):
            await client.bucket("bucket").head("k")
        assert len(server.requests) == 2


async def test_the_whole_call_has_a_deadline() -> None:
    options = ClientOptions(timeout_seconds=60, deadline_seconds=0.2)
    async with scripted(Silence(), options=options) as (client, server):
        with pytest.raises(DeadlineExceeded, match="no complete answer in time"):
            await client.bucket("bucket").head("k")
        assert len(server.requests) == 1


async def test_retry_after_is_read() -> None:
    options = ClientOptions(patience_seconds=6)
    async with scripted(Answer(503, headers={"Retry-After": "7"}), options=options) as (client, server):
        with pytest.raises(Throttled) as failure:
            await client.bucket("bucket").head("k")
        assert failure.value.retry_after_seconds == 7
        assert len(server.requests) == 1  # what it asks for does not fit into what is left
