"""Listing: pages that fit together, on a real server and on servers that page badly."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.documents import Listing
from spacesfs.client.errors import AccessDenied, BadReply, NoSuchBucket, NotSupported
from spacesfs.client.listing import MAX_IDLE_PAGES, MAX_PAGE_KEYS, _page, _Position
from spacesfs.client.models import ListedObject, ListPage
from tests.client.scripted import Answer, ScriptedServer, scripted

HOSTILE_KEYS = [
    "\x01control",
    "  blanks  ",
    "%2F",
    ".",
    "..",
    "../up",
    "./here",
    "//two",
    "/leading",
    "a b",
    "a%b",
    "a+b",
    "a?b#c&d=e",
    "a\\b",
    "a\rb",
    "a\nb",
    "a\tb",
    "dir/",
    "dir/a",
    "dir/sub/a",
    "dir0",
    "x" * 1024,
    "~!*'()",
    "é",
    "\N{GRINNING FACE}",
    "\uffff",
    "\U0010ffff",
]


def page(*keys: str, prefixes: tuple[str, ...] = (), end: str = "") -> Answer:
    """A listing page; ``end`` are the elements that say how it goes on."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-22T07:12:09Z</LastModified><ETag>e</ETag><Size>1</Size>"
        "</Contents>"
        for key in keys
    )
    common = "".join(f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>" for prefix in prefixes)
    return Answer(200, f"<ListBucketResult>{end}{common}{contents}</ListBucketResult>".encode())


MORE = "<IsTruncated>true</IsTruncated>"
TOKEN = MORE + "<NextContinuationToken>token</NextContinuationToken>"


async def names(client: SpacesClient, *, delimiter: str | None = None) -> list[str]:
    pages = [page async for page in client.bucket("bucket").list("", delimiter=delimiter)]
    return [name for page in pages for name in all_names(page)]


def all_names(page: ListPage) -> list[str]:
    return sorted([entry.key for entry in page.objects] + list(page.prefixes))


def queries(server: ScriptedServer) -> list[dict[str, str]]:
    asked = [parse_qs(request.target.partition("?")[2]) for request in server.requests]
    return [{name: values[0] for name, values in query.items() if name != "max-keys"} for query in asked]


async def test_tokens_are_followed() -> None:
    async with scripted(page("a", "b", end=TOKEN), page("c")) as (client, server):
        assert await names(client) == ["a", "b", "c"]
        assert queries(server) == [{"list-type": "2"}, {"list-type": "2", "continuation-token": "token"}]


async def test_a_page_without_a_token_is_continued_after_its_last_name() -> None:
    async with scripted(page("a", "b", end=MORE), page("c")) as (client, server):
        assert await names(client) == ["a", "b", "c"]
        assert queries(server)[1] == {"list-type": "2", "start-after": "b"}


async def test_a_common_prefix_is_not_listed_twice() -> None:
    first = page("a", prefixes=("p/",), end=MORE)
    async with scripted(first, page("z", prefixes=("p/",))) as (client, server):
        assert await names(client, delimiter="/") == ["a", "p/", "z"]
        assert queries(server)[1]["start-after"].startswith("p/")


async def test_a_server_that_ignores_start_after_is_asked_with_a_marker() -> None:
    first = page("a", "b", end=MORE)
    async with scripted(first, first, page("c", end=MORE), page("d")) as (client, server):
        assert await names(client) == ["a", "b", "c", "d"]
        assert queries(server)[2:] == [{"marker": "b"}, {"marker": "c"}]


async def test_a_listing_that_does_not_advance_fails_instead_of_ending() -> None:
    async with scripted(page("a", "b", end=MORE)) as (client, server):
        with pytest.raises(BadReply, match="does not get past 'b'"):
            await names(client)
        assert len(server.requests) == 3


async def test_the_same_token_again_fails_too() -> None:
    async with scripted(page("a", end=TOKEN), page(end=TOKEN)) as (client, _):
        with pytest.raises(BadReply):
            await names(client)


async def test_version_1_where_version_2_is_refused() -> None:
    async with scripted(Answer(501), page("a", end=MORE), page("b")) as (client, server):
        assert await names(client) == ["a", "b"]
        assert queries(server) == [{"list-type": "2"}, {}, {"marker": "a"}]


async def test_no_listing_at_all() -> None:
    async with scripted(Answer(501)) as (client, server):
        with pytest.raises(NotSupported):
            await names(client)
        assert len(server.requests) == 2


async def test_an_empty_page_of_version_1_is_continued_at_its_marker() -> None:
    empty = page(end=MORE + "<NextMarker>m</NextMarker>")
    async with scripted(Answer(405), empty, page("n")) as (client, server):
        assert await names(client) == ["n"]
        assert queries(server)[2] == {"marker": "m"}


async def test_what_xml_cannot_carry_needs_no_second_request() -> None:
    token = MORE + "<NextContinuationToken>a&#x01;b</NextContinuationToken>"
    async with scripted(page("a&#x01;b", end=token), page("c")) as (client, server):
        assert await names(client) == ["a\x01b", "c"]
        assert queries(server) == [{"list-type": "2"}, {"list-type": "2", "continuation-token": "a\x01b"}]


@given(
    keys=st.sets(st.text("a\x01/\N{GRINNING FACE}", min_size=1, max_size=4), min_size=1), page_keys=st.integers(1, 3)
)
def test_pages_of_any_keys_add_up(keys: set[str], page_keys: int) -> None:
    """On a server that pages without tokens and takes start-after literally, as Amazon's does."""
    expected = sorted({rolled_up(key) for key in keys})
    seen: list[str] = []
    position = _Position()
    for _ in range(len(keys) + 1):
        result = _page(serve(keys, position.after, page_keys), position)
        assert result is not None
        seen += all_names(result)
        if result.resume is None:
            break
        position = _Position.unpack(result.resume)
    assert seen == expected


some_names = st.lists(st.sampled_from(["a", "a/", "a/b", "b", "\x01"]), max_size=3)
any_listing = st.builds(
    Listing,
    some_names.map(lambda names: [ListedObject(name, 1, "e", 0) for name in names]),
    some_names,
    st.booleans() | st.just(True),
    st.sampled_from(["", "t", "u"]),
    st.sampled_from(["", "a", "z"]),
)


@given(listings=st.lists(any_listing, min_size=1, max_size=4))
def test_any_pages_come_to_an_end(listings: list[Listing]) -> None:
    """Whatever a server sends, over and over: the listing ends or fails, it does not go on for ever."""
    position = _Position()
    for number in range(10 * MAX_IDLE_PAGES):
        result = _page(listings[number % len(listings)], position)
        if result is None or result.resume is None:
            return
        position = _Position.unpack(result.resume)
    pytest.fail("the listing goes on for ever")


async def test_a_server_that_sends_empty_pages_for_ever() -> None:
    ends = [f"{MORE}<NextContinuationToken>{number}</NextContinuationToken>" for number in range(2 * MAX_IDLE_PAGES)]
    async with scripted(*[page(end=end) for end in ends]) as (client, server):
        with pytest.raises(BadReply, match="does not get past"):
            await names(client)
        assert MAX_IDLE_PAGES < len(server.requests) < MAX_IDLE_PAGES + 5


def rolled_up(key: str) -> str:
    head, slash, _ = key.partition("/")
    return head + slash


def serve(keys: set[str], after: str, page_keys: int) -> Listing:
    """List with delimiter "/"."""
    following = sorted({rolled_up(key) for key in keys if key > after})
    shown = following[:page_keys]
    objects = [ListedObject(name, 1, "e", 0) for name in shown if not name.endswith("/")]
    prefixes = [name for name in shown if name.endswith("/")]
    return Listing(objects, prefixes, len(following) > page_keys, "", "")


async def put_all(bucket: Bucket, keys: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(bucket.put, key, b"x")


async def test_hostile_keys_on_a_real_server(bucket: Bucket) -> None:
    await put_all(bucket, HOSTILE_KEYS)
    pages = [page async for page in bucket.list("")]
    assert [entry.key for page in pages for entry in page.objects] == sorted(HOSTILE_KEYS)


@pytest.mark.parametrize("max_keys", [1, 2, 5])
@pytest.mark.parametrize("has_tokens", [True, False])
async def test_small_pages_on_a_real_server(bucket: Bucket, max_keys: int, has_tokens: bool) -> None:
    await put_all(bucket, HOSTILE_KEYS)
    seen: list[str] = []
    resume: str | None = None
    while True:
        page = await bucket.list_page("", delimiter="/", max_keys=max_keys, resume=resume)
        seen += all_names(page)
        if page.resume is None:
            break
        position = _Position.unpack(page.resume)
        resume = page.resume if has_tokens else _Position(position.after).pack()
    assert seen == sorted({rolled_up(key) for key in HOSTILE_KEYS})


async def test_prefix_delimiter_and_start(bucket: Bucket) -> None:
    await put_all(bucket, ["d/", "d/a", "d/b", "d/sub/x", "d/sub/y", "e"])
    page = await bucket.list_page("d/", delimiter="/")
    assert ([entry.key for entry in page.objects], page.prefixes) == (["d/", "d/a", "d/b"], ("d/sub/",))
    page = await bucket.list_page("d/", start_after="d/a")
    assert [entry.key for entry in page.objects] == ["d/b", "d/sub/x", "d/sub/y"]
    entry = page.objects[0]
    assert (entry.size, entry.etag) == (1, (await bucket.head("d/b")).etag)
    assert (await bucket.list_page("nothing")).objects == ()


async def test_more_than_a_page(bucket: Bucket) -> None:
    keys = [f"{number:05}" for number in range(MAX_PAGE_KEYS + 200)]
    await put_all(bucket, keys)
    pages = [page async for page in bucket.list("")]
    assert [len(page.objects) for page in pages] == [1000, 200]
    assert [entry.key for page in pages for entry in page.objects] == keys
    assert await bucket.delete_many(keys) == []
    assert (await bucket.list_page("")).objects == ()


async def test_listing_what_is_not_ours(client: SpacesClient, stranger: SpacesClient, bucket_name: str) -> None:
    with pytest.raises(NoSuchBucket):
        await client.bucket("no-such-bucket-here").list_page("")
    with pytest.raises(AccessDenied):
        await stranger.bucket(bucket_name).list_page("")
