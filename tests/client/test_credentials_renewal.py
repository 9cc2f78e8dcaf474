"""A key that the server does not accept any more: it is looked for once, by whomever needs it first."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Awaited, Credentials, CredentialsError
from spacesfs.client.credentials_renewal import PAUSE_SECONDS, KeyKeeper
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.errors import AccessDenied, NoKeyYet, SpacesError
from spacesfs.client.transport import ClientOptions
from tests.client.scripted import Answer, Request, ScriptedServer, Step, scripted_server
from tests.servers.rgw import RadosGateway

OLD = Credentials("OLD", "old-secret")
NEW = Credentials("NEW", "new-secret")
FOUND = Answer(length=5, headers={"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 07:12:09 GMT"})


class Place:
    """Where the key is: a search takes a second, and counts."""

    def __init__(self, *found: Credentials | CredentialsError, seconds: float = 1.0) -> None:
        self.searches = 0
        self._found = found
        self._seconds = seconds

    async def find(self) -> Credentials:
        found = self._found[min(self.searches, len(self._found) - 1)]
        self.searches += 1
        await trio.sleep(self._seconds)
        if isinstance(found, CredentialsError):
            raise found
        return found


async def test_one_search_serves_all(autojump_clock: MockClock) -> None:
    place = Place(NEW)
    keys = KeyKeeper(OLD, place.find)
    verdicts: list[bool] = []

    async def refused() -> None:
        verdicts.append(await keys.renew(OLD))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(refused)
    assert (verdicts, place.searches, keys.current) == ([True] * 50, 1, NEW)


async def test_a_key_that_stays_wrong_is_not_looked_for_all_the_time(autojump_clock: MockClock) -> None:
    place = Place(OLD, OLD, NEW)
    keys = KeyKeeper(OLD, place.find)
    for searches in (1, 2):
        for _ in range(10):
            assert not await keys.renew(OLD)
        assert place.searches == searches
        await trio.sleep(PAUSE_SECONDS)
    assert await keys.renew(OLD)
    assert place.searches == 3


async def test_a_place_that_is_empty_by_now(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    keys = KeyKeeper(OLD, Place(CredentialsError("it is gone")).find)
    assert not await keys.renew(OLD)
    assert keys.current == OLD
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "the access key is refused, and there is no other: it is gone"
    ]
    caplog.clear()  # expected


async def test_who_searches_may_be_cancelled(autojump_clock: MockClock) -> None:
    place = Place(NEW, seconds=60)
    keys = KeyKeeper(OLD, place.find)
    with trio.move_on_after(30):
        await keys.renew(OLD)
    assert keys.current == OLD
    assert await keys.renew(OLD)
    assert place.searches == 2


async def test_a_key_that_was_given_stays() -> None:
    assert not await KeyKeeper(OLD, None).renew(OLD)


async def test_an_awaited_key_is_looked_for_until_it_is_there(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(CredentialsError("the vault is away"), CredentialsError("the vault is away"), NEW)
    keys = KeyKeeper(Awaited("it takes its time"), place.find)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.find_awaited)
        await trio.sleep(1.5)
        assert keys.current == Awaited("the vault is away")
        await trio.sleep(3 * PAUSE_SECONDS)
        found: Credentials | Awaited | None = keys.current
        assert found == NEW
    assert place.searches == 3
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "there is no access key yet: the vault is away"
    ] * 2
    caplog.clear()  # expected


async def test_who_has_a_key_awaits_none() -> None:
    place = Place(NEW)
    await KeyKeeper(OLD, place.find).find_awaited()
    assert place.searches == 0


async def test_nothing_is_sent_without_the_key_that_is_awaited(jumping_clock: MockClock) -> None:
    """A call waits for it for as long as it repeats what fails; after that it says what is missing."""
    place, guard = Place(NEW, seconds=3600), Guard(NEW)
    async with trio.open_nursery() as nursery:
        await guard.start(nursery)
        endpoint = resolve_endpoint("nyc3", guard.url)
        async with SpacesClient(endpoint, Awaited("the vault is away"), find_again=place.find) as client:
            with pytest.raises(NoKeyYet, match="there is no access key yet: the vault is away"):
                await client.bucket("my-bucket").head("k")
            assert not [request for request in guard.requests if request.method == "HEAD" and "k" in request.target]
            await trio.sleep(3600)
            assert (await client.bucket("my-bucket").head("k")).size == 5
            assert used_key(guard.requests[-1].headers["authorization"]) == "NEW"
        nursery.cancel_scope.cancel()


def denied(code: str) -> Answer:
    return Answer(403, f"<Error><Code>{code}</Code></Error>".encode())


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
async def test_a_refused_call_is_sent_again_with_the_new_key(code: str) -> None:
    place = Place(NEW, seconds=0)
    async with (
        scripted_server(denied(code), Answer(200, b"<ListAllMyBucketsResult/>")) as server,
        SpacesClient(resolve_endpoint("nyc3", server.url), OLD, find_again=place.find) as client,
    ):
        assert await client.list_buckets() == []
    assert [used_key(request.headers["authorization"]) for request in server.requests] == ["OLD", "NEW"]


@pytest.mark.parametrize(
    ("answer", "ask", "searches"),
    [
        (denied("AccessDenied"), lambda client: client.list_buckets(), 0),
        (denied("InvalidAccessKeyId"), lambda client: client.list_buckets(), 1),
        (Answer(403), lambda client: client.list_buckets(), 0),
    ],
)
async def test_when_a_key_is_looked_for(answer: Answer, ask: Callable[[SpacesClient], object], searches: int) -> None:
    place = Place(OLD, seconds=0)
    async with (
        scripted_server(answer) as server,
        SpacesClient(resolve_endpoint("nyc3", server.url), OLD, find_again=place.find) as client,
    ):
        for _ in range(3):
            with pytest.raises(AccessDenied) as refusal:
                await ask(client)  # type: ignore[misc]  # a coroutine, of various results
            assert refusal.value.attempts == 1
    assert place.searches == searches


class Guard(ScriptedServer):
    """Takes some keys, shows nobody what is secret, and takes no key at all where somebody locked it."""

    def __init__(self, *accepted: Credentials) -> None:
        super().__init__((FOUND,))
        self.accepted = {key.access_key_id for key in accepted}

    def step_for(self, request: Request) -> Step:
        if used_key(request.headers.get("authorization", "")) not in self.accepted or "locked" in request.target:
            refusal = denied("InvalidAccessKeyId")
        elif "secret" in request.target:
            refusal = denied("AccessDenied")
        else:
            return FOUND if request.method == "HEAD" else Answer(200, b"bytes")
        return Answer(403, length=0) if request.method == "HEAD" else refusal

    def sent(self) -> list[tuple[str, str, str]]:
        """Return the method, the target and the key of each request."""
        return [
            (request.method, request.target, used_key(request.headers["authorization"])) for request in self.requests
        ]


@asynccontextmanager
async def guarded(guard: Guard, place: Place, *, connections: int = 4) -> AsyncIterator[SpacesClient]:
    """Run a server and a client of it that has the old key."""
    options = ClientOptions(max_connections=connections)
    async with trio.open_nursery() as nursery:
        await guard.start(nursery)
        endpoint = resolve_endpoint("nyc3", guard.url)
        async with SpacesClient(endpoint, OLD, options=options, find_again=place.find) as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_what_a_good_key_may_not_see_starts_no_search() -> None:
    place, guard = Place(NEW), Guard(OLD)
    async with guarded(guard, place) as client:
        for _ in range(10):
            with pytest.raises(AccessDenied):
                await client.bucket("my-bucket").head("secret")
    assert place.searches == 0
    assert [method for method, _, _ in guard.sent()] == ["HEAD", "GET", *["HEAD"] * 9]


@pytest.mark.parametrize(("key", "target"), [("k", "/my-bucket/k"), (None, "/my-bucket?location=")])
async def test_a_refused_head_is_asked_about(key: str | None, target: str) -> None:
    place, guard = Place(NEW, seconds=0), Guard(NEW)
    async with guarded(guard, place) as client:
        bucket = client.bucket("my-bucket")
        await (bucket.head(key) if key else bucket.usage())
    head = target.partition("?")[0]
    assert guard.sent() == [
        ("HEAD", head, "OLD"),
        ("GET", target, "OLD"),
        ("GET", target, "NEW"),
        ("HEAD", head, "NEW"),
    ]


async def test_a_slow_search_keeps_nobody_from_working_who_has_a_good_key(jumping_clock: MockClock) -> None:
    place, guard = Place(OLD, seconds=20), Guard(OLD)
    async with guarded(guard, place, connections=1) as client:

        async def locked_out(key: str) -> None:
            with pytest.raises(AccessDenied):
                await client.bucket("my-bucket").get_acl(key)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(locked_out, f"locked-{number}")
            await trio.testing.wait_all_tasks_blocked(0.003)
            began = trio.current_time()
            await client.bucket("my-bucket").head("k")
            with pytest.raises(AccessDenied):
                await client.bucket("my-bucket").head("secret")
            assert trio.current_time() - began < 1
            assert place.searches == 1
    assert place.searches == 1


async def test_without_a_key_nothing_is_signed() -> None:
    async with (
        scripted_server(Answer(403)) as server,
        SpacesClient(resolve_endpoint("nyc3", server.url), None) as client,
    ):
        with pytest.raises(AccessDenied):
            await client.bucket("my-bucket").usage()
    assert not {"authorization", "x-amz-date", "x-amz-content-sha256"} & server.requests[0].headers.keys()


@pytest.mark.parametrize("wrong", ["id", "secret"])
async def test_a_key_rotated_under_load(rgw: RadosGateway, bucket_name: str, wrong: str) -> None:
    right = Credentials(rgw.access_key, rgw.secret_key)
    refused = Credentials("GONE", rgw.secret_key) if wrong == "id" else Credentials(rgw.access_key, "before")
    place = Place(right, seconds=0.1)
    failures: list[SpacesError] = []
    async with SpacesClient(resolve_endpoint(None, rgw.endpoint), refused, find_again=place.find) as client:
        bucket = client.bucket(bucket_name)

        async def work(number: int) -> None:
            try:
                await bucket.put(f"k{number}", b"x")
                await bucket.head(f"k{number}")
            except SpacesError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(work, number)
    assert (failures, place.searches) == ([], 1)


def used_key(authorization: str) -> str:
    return authorization.partition("Credential=")[2].partition("/")[0]
