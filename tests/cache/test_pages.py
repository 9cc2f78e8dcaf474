"""Pages in memory: by version, and never more than the cap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spacesfs.cache.pages import PageCache, PageKey

LIMIT = 100


def page(size: int, fill: int = 0) -> memoryview:
    return memoryview(bytes([fill]) * size)


def test_the_least_recently_used_goes_first() -> None:
    cache = PageCache(LIMIT)
    first, second, third = (PageKey("k", "e", number) for number in range(3))
    cache.store(first, page(40, 1))
    cache.store(second, page(40, 2))
    assert cache.get(first) == page(40, 1)
    cache.store(third, page(40, 3))
    assert (first in cache, second in cache, third in cache) == (True, False, True)
    assert cache.used_bytes == 80
    cache.clear()
    assert (cache.used_bytes, cache.get(first)) == (0, None)


def test_versions_and_keys_are_apart() -> None:
    cache = PageCache(LIMIT)
    keys = [PageKey("k", "e", 0), PageKey("k", "f", 0), PageKey("l", "e", 0), PageKey("k", "e", 1)]
    for number, key in enumerate(keys):
        cache.store(key, page(5, number))
    assert [cache.get(key) for key in keys] == [page(5, number) for number in range(4)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2 * LIMIT))))
def test_the_cap_holds_and_what_is_there_is_right(stores: list[tuple[int, int]]) -> None:
    cache = PageCache(LIMIT)
    newest: dict[PageKey, memoryview] = {}
    for number, size in stores:
        key, view = PageKey("k", "e", number), page(size, number)
        cache.store(key, view)
        if size <= LIMIT:
            newest[key] = view
            assert cache.get(key) == view
        assert cache.used_bytes <= LIMIT
        assert cache.used_bytes == sum(len(view) for key, view in newest.items() if key in cache)
