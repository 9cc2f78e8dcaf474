"""The CDN calls, against DigitalOcean's API as documented; no real one can be had for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from spacesfs.client.cdn import CdnClient, CdnOptions, Pace
from spacesfs.client.cdn_urls import cdn_url, origin_host, origin_url, through_cdn
from spacesfs.client.endpoint import EndpointError, resolve_endpoint
from spacesfs.client.errors import AccessDenied, BadReply, InvalidRequest, NotFound, Throttled, Unreachable
from tests.client.cdn_api import TOKEN, CdnApi, cdn_api, problem
from tests.client.scripted import Answer, Reset

ORIGIN = "my-bucket.nyc3.digitaloceanspaces.com"
NYC3 = resolve_endpoint("nyc3", None)


@pytest.fixture
async def api(mock_clock: MockClock) -> AsyncIterator[CdnApi]:
    """The API. Its clock jumps over every pause, once nothing has moved for a while."""
    mock_clock.autojump_threshold = 0.1
    async with cdn_api() as server:
        yield server


@pytest.fixture
async def cdn(api: CdnApi) -> AsyncIterator[CdnClient]:
    """A client of the API."""
    async with CdnClient(TOKEN, CdnOptions(api_url=api.url)) as client:
        yield client


async def test_an_endpoint_from_start_to_end(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    assert await cdn.find(ORIGIN) is None
    made = await cdn.enable(ORIGIN, ttl=600)
    assert (made.origin, made.ttl) == (ORIGIN, 600)
    assert made.endpoint == "my-bucket.nyc3.cdn.digitaloceanspaces.com"
    assert await cdn.find(ORIGIN) == await cdn.get(made.id) == made

    changed = await cdn.update(made.id, custom_domain="static.example.org", certificate_id="cert")
    assert (changed.ttl, changed.custom_domain) == (600, "static.example.org")
    assert (await cdn.update(made.id, custom_domain="")).custom_domain == ""
    assert (await cdn.update(made.id, ttl=60)).ttl == 60

    await cdn.disable(made.id)
    assert api.endpoints == {}
    with pytest.raises(NotFound):
        await cdn.disable(made.id)
    with pytest.raises(NotFound, match="could not be found"):
        await cdn.get(made.id)
    assert api.refused == 0


async def test_enabling_twice_brings_it_to_what_is_asked_for(
    api: CdnApi, cdn: CdnClient, mock_clock: MockClock
) -> None:
    made = await cdn.enable(ORIGIN)
    assert await cdn.enable(ORIGIN) == made
    assert (await cdn.enable(ORIGIN, ttl=86_400)).id == made.id
    assert api.endpoints[made.id]["ttl"] == 86_400
    assert [request.method for request in api.requests] == ["GET", "POST", "GET", "GET", "PUT"]


async def test_the_list_has_pages(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    for number in range(450):
        api.add(f"b{number}.nyc3.digitaloceanspaces.com")
    assert len({endpoint.id async for endpoint in cdn.endpoints()}) == 450
    assert await cdn.find("b449.nyc3.digitaloceanspaces.com")
    assert "page=3&per_page=200" in api.requests[-1].target


async def test_purges_keep_to_the_limits(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    endpoint = api.add(ORIGIN)
    names = [f"css/{number}.css" for number in range(130)]
    await cdn.purge(endpoint, names)
    await cdn.purge(endpoint, ["*"])
    assert api.purged == [*names, "*"]
    assert [len(json.loads(request.body)["files"]) for request in api.requests] == [50, 50, 30, 1]
    assert {request.method for request in api.requests} == {"DELETE"}
    assert api.refused == 0


async def test_equal_purges_wait_for_one_another(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    endpoint = api.add(ORIGIN)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(cdn.purge, endpoint, ["a", "b/*"])
    assert api.purged == ["a", "b/*"] * 3


async def test_many_calls_wait_and_none_is_refused(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    endpoint = api.add(ORIGIN)
    async with trio.open_nursery() as nursery:
        for _ in range(23):
            nursery.start_soon(cdn.get, endpoint)
    assert len(api.requests) == 23
    assert api.refused == 0


async def test_somebody_elses_calls_count_too(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    endpoint = api.add(ORIGIN)
    async with CdnClient(TOKEN, CdnOptions(api_url=api.url)) as other:
        for _ in range(5):
            await other.get(endpoint)
        assert (await cdn.get(endpoint)).id == endpoint
    assert api.refused > 0


async def test_faults_are_retried(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    endpoint = api.add(ORIGIN)
    api.ahead = [Answer(500), Reset(), Answer(200, b"<html>"), problem(429, "too_many_requests", "slow")]
    assert (await cdn.get(endpoint)).id == endpoint


async def test_a_lost_reply_makes_no_second_endpoint(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    api.add(ORIGIN)
    api.ahead = [Answer(200, b'{"endpoints": [], "meta": {"total": 0}}')]  # as before it was made
    assert (await cdn.enable(ORIGIN)).origin == ORIGIN
    assert len(api.endpoints) == 1


async def test_a_limit_that_does_not_end(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    api.ahead = [problem(429, "too_many_requests", "slow", {"retry-after": "3600"})] * 100
    with pytest.raises(Throttled, match="slow"):
        await cdn.get("some-id")


async def test_a_wrong_token(api: CdnApi, mock_clock: MockClock) -> None:
    async with CdnClient("dop_v1_wrong-token", CdnOptions(api_url=api.url)) as cdn:
        with pytest.raises(AccessDenied, match="Unable to authenticate you") as failure:
            await cdn.find(ORIGIN)
    assert "wrong-token" not in str(failure.value)
    assert (failure.value.code, failure.value.request_id) == ("unauthorized", "req-1")


async def test_nobody_there(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.1
    async with CdnClient(TOKEN, CdnOptions(api_url="http://127.0.0.1:9")) as cdn:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await cdn.get("some-id")


async def test_nonsense(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    api.ahead = [Answer(200, b"[]")] * 10
    with pytest.raises(BadReply):
        await cdn.get("some-id")


async def test_what_the_api_would_refuse_is_not_sent(api: CdnApi, cdn: CdnClient, mock_clock: MockClock) -> None:
    for call in (
        cdn.update("id"),
        cdn.update("id", ttl=61),
        cdn.update("id", custom_domain="no domain", certificate_id="c"),
        cdn.update("id", custom_domain="static.example.org"),
        cdn.purge("id", ["a", ""]),
    ):
        with pytest.raises(InvalidRequest):
            await call
    assert api.requests == []


def test_the_api_is_spoken_to_over_tls_only() -> None:
    with pytest.raises(EndpointError, match="http"):
        CdnClient(TOKEN, CdnOptions(api_url="http://api.example.org"))


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=40))
def test_a_pace_is_never_exceeded(steps: list[tuple[float, int]]) -> None:
    pace, now, happened = Pace(5, 10.0), 0.0, list[float]()
    for passed, times in steps:
        now += passed
        when = pace.book(now, times)
        assert when >= now
        happened += [when] * times
    assert happened == sorted(happened)
    assert all(later >= first + 10 for first, later in zip(happened, happened[5:], strict=False))


def test_urls() -> None:
    assert origin_host(NYC3, "my-bucket") == ORIGIN
    assert origin_url(NYC3, "my-bucket", "a +é/b") == f"https://{ORIGIN}/a%20%2B%C3%A9/b"
    assert cdn_url(NYC3, "my-bucket", "a b") == "https://my-bucket.nyc3.cdn.digitaloceanspaces.com/a%20b"
    assert cdn_url(NYC3, "my-bucket") == "https://my-bucket.nyc3.cdn.digitaloceanspaces.com/"
    signed = f"https://{ORIGIN}/k?X-Amz-Signature=0"
    through = "https://my-bucket.nyc3.cdn.digitaloceanspaces.com/k?X-Amz-Signature=0"
    assert through_cdn(signed, NYC3, "my-bucket") == through


@pytest.mark.parametrize(("endpoint", "bucket"), [("http://127.0.0.1:80", "my-bucket"), (NYC3.url, "a.dot")])
def test_what_has_no_cdn(endpoint: str, bucket: str) -> None:
    with pytest.raises(EndpointError, match="CDN"):
        cdn_url(resolve_endpoint(None, endpoint), bucket)
