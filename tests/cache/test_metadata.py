"""What is remembered of listings and objects, and for how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from spacesfs.cache.metadata import ListingCache, ObjectCache
from spacesfs.client.models import ListedObject, ObjectInfo, ObjectProperties

TTL_SECONDS = 60.0
SECOND_NS = 10**9


def store(cache: ListingCache[list[str]], prefix: str, listing: list[str]) -> None:
    with cache.loading(prefix) as load:
        cache.store(load, listing)


@pytest.fixture
def cache() -> ListingCache[list[str]]:
    return ListingCache(TTL_SECONDS)


async def test_a_listing_is_good_for_its_time(cache: ListingCache[list[str]], autojump_clock: MockClock) -> None:
    store(cache, "d/", ["a"])
    await trio.sleep(TTL_SECONDS)
    assert cache.get("d/") == ["a"]
    await trio.sleep(0.1)
    assert cache.get("d/") is None
    cache.change("d/", lambda _: pytest.fail("what is too old is not brought up to date"))
    assert cache.get("other/") is None


async def test_looking_does_not_renew(cache: ListingCache[list[str]], autojump_clock: MockClock) -> None:
    store(cache, "d/", ["a"])
    for _ in range(7):
        cache.get("d/")
        await trio.sleep(10)
    assert cache.get("d/") is None


async def test_a_change_during_a_listing_is_made_up_for(cache: ListingCache[list[str]]) -> None:
    with cache.loading("d/") as load, cache.loading("e/") as other:
        cache.change("d/", lambda listing: listing.append("new"))
        cache.change("d/", lambda listing: listing.remove("gone"))
        listing = ["gone", "old"]
        cache.store(load, listing)
        cache.store(other, ["e"])
    assert listing == ["old", "new"]
    assert cache.get("d/") == ["old", "new"]
    assert cache.get("e/") == ["e"]


async def test_even_a_listing_that_is_not_kept_is_brought_up_to_date(cache: ListingCache[list[str]]) -> None:
    with cache.loading("d/") as load:
        cache.change("d/", lambda listing: listing.append("new"))
        cache.forget("d/")
        listing = ["old"]
        cache.store(load, listing)
    assert listing == ["old", "new"]
    assert cache.get("d/") is None


async def test_forgetting_during_a_listing_prevents_storing(cache: ListingCache[list[str]]) -> None:
    with cache.loading("d/sub/") as load, cache.loading("d0/") as other:
        cache.forget("d/")
        cache.store(load, ["old"])
        cache.store(other, ["x"])
    assert cache.get("d/sub/") is None
    assert cache.get("d0/") == ["x"]


async def test_forgetting_takes_everything_below(cache: ListingCache[list[str]]) -> None:
    for prefix in ("", "d/", "d/e/", "d0/"):
        store(cache, prefix, [prefix])
    cache.forget("d/")
    assert [prefix for prefix in ("", "d/", "d/e/", "d0/") if cache.get(prefix)] == ["", "d0/"]


async def test_a_change_brings_the_listing_up_to_date(cache: ListingCache[list[str]]) -> None:
    store(cache, "d/", ["a"])
    cache.change("d/", lambda listing: listing.append("b"))
    cache.change("e/", lambda listing: listing.append("c"))
    assert cache.get("d/") == ["a", "b"]
    assert cache.get("e/") is None


async def test_only_a_listing_in_use_is_renewed(cache: ListingCache[list[str]], autojump_clock: MockClock) -> None:
    assert not cache.is_worth_renewing("d/")
    store(cache, "d/", ["name"] * 2500)
    for _ in range(3):
        cache.get("d/")
    assert not cache.is_worth_renewing("d/")
    cache.get("d/")
    assert cache.is_worth_renewing("d/")
    await trio.sleep(TTL_SECONDS + 1)
    assert cache.is_worth_renewing("d/")
    with cache.loading("d/") as load:
        assert not cache.is_worth_renewing("d/")  # somebody does it already
        cache.store(load, ["name"])
    assert not cache.is_worth_renewing("d/")


async def test_a_failed_listing_does_not_count_as_under_way(cache: ListingCache[list[str]]) -> None:
    store(cache, "d/", [])
    for _ in range(5):
        cache.get("d/")
    with pytest.raises(KeyError), cache.loading("d/"):
        raise KeyError
    assert cache.is_worth_renewing("d/")


async def test_the_cap_is_in_entries(cache: ListingCache[list[str]]) -> None:
    store(cache, "huge/", ["name"] * 200_000)
    assert cache.get("huge/") is None
    for number in range(5):
        store(cache, f"{number}/", ["name"] * 60_000)
    assert [number for number in range(5) if cache.get(f"{number}/") is not None] == [2, 3, 4]


# --- objects


def info(etag: str, modified_ns: int) -> ObjectInfo:
    return ObjectInfo("k", 1, etag, modified_ns, ObjectProperties())


def listed(etag: str, modified_ns: int) -> ListedObject:
    return ListedObject("k", 1, etag, modified_ns)


LISTED_NS = 1_700_000_000_123_000_000


@pytest.mark.parametrize(
    ("described_ns", "is_same"),
    [
        (LISTED_NS, True),
        (1_700_000_000 * SECOND_NS, True),  # a HEAD tells whole seconds
        (0, True),  # a PUT tells no time
        (1_700_000_001 * SECOND_NS, False),
        (1_699_999_999 * SECOND_NS, False),
        (LISTED_NS + 1_000_000, False),
    ],
)
async def test_descriptions_match_the_version_that_is_listed(described_ns: int, is_same: bool) -> None:
    cache = ObjectCache(TTL_SECONDS)
    cache.store(info("e", described_ns))
    assert (cache.get(listed("e", LISTED_NS)) is not None) == is_same
    assert cache.get(listed("other", LISTED_NS)) is None


@pytest.mark.parametrize("modified_ns", [1, SECOND_NS - 1, SECOND_NS, LISTED_NS])
async def test_a_head_always_matches_its_own_listing(modified_ns: int) -> None:
    cache = ObjectCache(TTL_SECONDS)
    cache.store(info("e", modified_ns // SECOND_NS * SECOND_NS))
    assert cache.get(listed("e", modified_ns)) is not None


async def test_the_latest_description_of_a_key() -> None:
    cache = ObjectCache(TTL_SECONDS)
    assert cache.latest("k") is None
    cache.store(info("first", 1))
    cache.store(info("second", 2))
    latest = cache.latest("k")
    assert latest is not None
    assert latest.etag == "second"
    cache.forget("k")
    cache.forget("k")
    assert cache.latest("k") is None
    assert cache.get(listed("second", 2)) is None
