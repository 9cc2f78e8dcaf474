"""A server that goes and comes back: calls fail at once meanwhile, and nothing else is taken for its absence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.call import RequestRecord
from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import DeadlineExceeded, NotConnected, SpacesError, Unreachable
from spacesfs.client.transport import PROBE_SECONDS, ClientOptions
from tests.client.scripted import (
    ACCESS_KEY,
    SECRET_KEY,
    Answer,
    Request,
    ScriptedServer,
    Silence,
    Step,
    Trickle,
    scripted,
)

THERE = Answer(length=5, headers={"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 07:12:09 GMT"})
OPTIONS = ClientOptions(timeout_seconds=0.2, max_attempts=2, max_connections=4)
SEVERAL = 5  # calls, more than it takes to doubt


class Server(ScriptedServer):
    """A server on one port that can be taken away, in two ways, and brought back; a slow key never answers."""

    def __init__(self) -> None:
        super().__init__((THERE,))
        self.is_silent = False
        self.answer = THERE
        self.port = 0

    def step_for(self, request: Request) -> Step:
        return Silence() if self.is_silent or "slow" in request.target else self.answer

    async def start(self, nursery: trio.Nursery) -> None:
        self._listening = trio.CancelScope()
        listeners: list[trio.SocketListener] = await nursery.start(self._listen)
        self.port = listeners[0].socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._listening.cancel()

    def calls(self) -> int:
        """Return how many requests came that were no probes."""
        return sum("authorization" in request.headers for request in self.requests)

    def probes(self) -> int:
        return len(self.requests) - self.calls()

    async def _listen(self, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        with self._listening:
            await trio.serve_tcp(self.serve, self.port, host="127.0.0.1", task_status=task_status)


@asynccontextmanager
async def connected(
    records: list[RequestRecord] | None = None,
) -> AsyncIterator[tuple[SpacesClient, Server, trio.Nursery]]:
    """Run a server and its client; the nursery is for what a test starts itself."""
    server = Server()
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        endpoint = resolve_endpoint("nyc3", server.url)
        on_request = None if records is None else records.append
        async with SpacesClient(
            endpoint, Credentials(ACCESS_KEY, SECRET_KEY), options=OPTIONS, on_request=on_request
        ) as client:
            yield client, server, nursery
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing in the product tells a test when it changes
        await trio.sleep(0.02)


async def until_offline(client: SpacesClient, *, is_offline: bool = True) -> None:
    await until(lambda: (client.statistics().offline_since is not None) is is_offline)


async def fail_several(client: SpacesClient) -> None:
    for number in range(SEVERAL):
        with suppress(SpacesError):
            await client.bucket("bucket").head(f"k{number}")


@pytest.mark.parametrize("is_refusing", [True, False], ids=["refuses", "is silent"])
async def test_calls_fail_at_once_until_the_server_is_back(is_refusing: bool) -> None:
    records: list[RequestRecord] = []
    async with connected(records) as (client, server, nursery):
        await client.bucket("bucket").head("k")
        server.is_silent = not is_refusing
        if is_refusing:
            server.stop()
        await fail_several(client)
        await until_offline(client)
        sent = len(records)
        for number in range(100):
            with pytest.raises(Unreachable, match="can't be reached at present"):
                await client.bucket("bucket").head(f"k{number}")
        assert len(records) == sent, "nothing was tried"
        server.is_silent = False
        if is_refusing:
            await server.start(nursery)
        await until_offline(client, is_offline=False)
        assert (await client.bucket("bucket").head("k")).etag == "e"


async def test_one_slow_key_takes_nothing_offline() -> None:
    async with connected() as (client, server, _):
        for _ in range(SEVERAL):
            with pytest.raises(DeadlineExceeded):
                await client.bucket("bucket").head("slow")
        await until(lambda: server.probes() > 0)
        assert (await client.bucket("bucket").head("k")).etag == "e"
        assert client.statistics().offline_since is None


async def test_cancelled_calls_say_nothing() -> None:
    async with connected() as (client, server, _):
        server.is_silent = True
        for number in range(SEVERAL):
            with trio.move_on_after(0.05):
                await client.bucket("bucket").head(f"k{number}")
        await trio.sleep(0.3)
        assert (server.calls(), server.probes()) == (SEVERAL, 0)


async def test_an_error_is_an_answer_too() -> None:
    async with connected() as (client, server, _):
        server.answer = Answer(500)
        await fail_several(client)
        assert client.statistics().offline_since is None
        assert server.probes() == 0


async def test_who_waits_for_a_turn_or_between_attempts_is_let_go() -> None:
    """The calls in line never had a connection; they need not find out one by one."""
    failures: list[SpacesError] = []

    async def call(client: SpacesClient, number: int) -> None:
        try:
            await client.bucket("bucket").head(f"k{number}")
        except SpacesError as error:
            failures.append(error)

    async with connected() as (client, server, _):
        server.is_silent = True
        async with trio.open_nursery() as calls:
            for number in range(200):
                calls.start_soon(partial(call, client, number))
        assert server.calls() < 100
        assert len(failures) == 200
        assert client.statistics().offline_since is not None
        assert all(lane.in_flight == lane.waiting == 0 for lane in client.statistics().lanes.values())


async def test_the_last_failure_is_what_a_call_between_attempts_tells() -> None:
    async with connected() as (client, server, _):
        server.stop()
        with pytest.raises(NotConnected, match="Connection refused"):
            await client.bucket("bucket").head("k")


async def test_no_call_waits_for_longer_than_the_timeout_and_a_probe(jumping_clock: MockClock) -> None:
    """One that has waited for its turn behind a silent one does not have a timeout of its own in addition."""
    options = ClientOptions(timeout_seconds=30, deadline_seconds=30, max_connections=1)
    ended: list[float] = []

    async def call(client: SpacesClient, number: int) -> None:
        with pytest.raises((DeadlineExceeded, Unreachable)):
            await client.bucket("bucket").head(f"k{number}")
        ended.append(trio.current_time())

    async with scripted(Silence(), options=options) as (client, _):
        began = trio.current_time()
        async with trio.open_nursery() as calls:
            for number in range(5):
                calls.start_soon(call, client, number)
        assert client.statistics().offline_since is not None
    assert 30 <= max(ended) - began < 30 + PROBE_SECONDS + 1


async def test_bytes_that_move_are_a_sign_of_life(jumping_clock: MockClock) -> None:
    """A call that is long under way on a slow line shows that the server is there, while others get no answer."""
    server = Server()
    server.answer = Answer(206, b"x" * 40, {**THERE.headers, "Content-Range": "bytes 0-39/40"})
    async with trio.open_nursery() as nursery:
        server.step_for = lambda request: (  # type: ignore[method-assign]  # no answer but to the one key
            Trickle(server.answer, 1.0) if "long" in request.target else Silence()
        )
        await server.start(nursery)
        options = ClientOptions(timeout_seconds=10, max_attempts=1)
        client = SpacesClient(
            resolve_endpoint("nyc3", server.url), Credentials(ACCESS_KEY, SECRET_KEY), options=options
        )
        async with client:
            buffer = bytearray(40)
            async with trio.open_nursery() as calls:
                calls.start_soon(client.bucket("bucket").get_range, "long", 0, memoryview(buffer))
                for number in range(3):
                    with pytest.raises(DeadlineExceeded):
                        await client.bucket("bucket").head(f"k{number}")
            assert bytes(buffer) == b"x" * 40
        assert server.probes() == 0
        nursery.cancel_scope.cancel()


async def test_what_ends_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with SpacesClient(resolve_endpoint(None, "http://127.0.0.1:9"), Credentials("id", SECRET_KEY)):
            raise ZeroDivisionError
    with trio.move_on_after(0.05) as scope:
        async with SpacesClient(resolve_endpoint(None, "http://127.0.0.1:9"), Credentials("id", SECRET_KEY)):
            await trio.sleep_forever()
    assert scope.cancelled_caught
