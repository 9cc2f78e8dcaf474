"""Pages in memory: never more than the limit, the right bytes, and a pass over much that drops nothing in use."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from spacesfs.cache.pages import GRAIN_BYTES, Page, PageCache, Shelf
from spacesfs.client.models import ObjectVersion

KIB = 1 << 10
LIMIT = 12 * 100 * KIB  # ten sixths of which are for pages
PAGES = LIMIT // 6 * 5 // (100 * KIB)


def version(key: str) -> ObjectVersion:
    return ObjectVersion(key, "etag", 1 << 30)


def page(cache: PageCache, key: str, number: int, *, size: int = 100 * KIB, is_ahead: bool = False) -> Page:
    """Store a page whose bytes tell what it is."""
    view = cache.buffer(size)
    view[:] = bytes([number % 256]) * size
    stored = Page(version(key), number * size, view.toreadonly(), is_ahead=is_ahead)
    cache.store(stored)
    return stored


def read(cache: PageCache, key: str, number: int, *, size: int = 100 * KIB) -> bool:
    """Read a whole page; say whether it was there."""
    found = cache.find(version(key), number * size)
    if found is None:
        return False
    assert set(bytes(cache.serve(found, number * size, (number + 1) * size))) == {number % 256}
    return True


def test_the_limit_holds_and_the_oldest_go_first() -> None:
    cache = PageCache(LIMIT)
    for number in range(3 * PAGES):
        page(cache, "k", number)
        cache.check_invariants()
    assert cache.used_bytes <= cache.limit_bytes < LIMIT
    assert [number for number in range(3 * PAGES) if read(cache, "k", number)] == [*range(2 * PAGES, 3 * PAGES)]


def test_what_was_read_to_its_end_goes_before_what_was_not() -> None:
    cache = PageCache(LIMIT)
    for number in range(PAGES):
        page(cache, "k", number)
    assert read(cache, "k", PAGES - 1)
    page(cache, "k", PAGES)
    assert cache.find(version("k"), 0) is not None
    assert cache.find(version("k"), (PAGES - 1) * 100 * KIB) is None


def test_a_pass_over_a_huge_file_drops_nothing_that_is_in_use() -> None:
    cache = PageCache(LIMIT)
    for number in range(5):
        page(cache, "small", number)
        assert read(cache, "small", number)
        assert read(cache, "small", number)
    for number in range(20 * PAGES):
        page(cache, "huge", number)
        assert read(cache, "huge", number)
        cache.check_invariants()
    assert all(read(cache, "small", number) for number in range(5))


def test_what_is_in_use_does_not_fill_the_cache_for_ever() -> None:
    cache = PageCache(LIMIT)
    for key in ("first", "second"):
        for number in range(PAGES):
            page(cache, key, number)
            read(cache, key, number)
            read(cache, key, number)
            cache.check_invariants()
    assert all(read(cache, "second", number) for number in range(PAGES // 2, PAGES))


def test_a_page_larger_than_the_cache_is_not_kept() -> None:
    cache = PageCache(LIMIT)
    page(cache, "k", 0, size=LIMIT)
    assert (cache.used_bytes, cache.find(version("k"), 0)) == (0, None)


def test_pages_of_versions_are_apart_and_do_not_overlap() -> None:
    cache = PageCache(LIMIT)
    page(cache, "k", 1)
    page(cache, "other", 0)
    page(cache, "k", 0, size=150 * KIB)  # over a part of page 1
    cache.check_invariants()
    assert cache.find(version("k"), 0) is None
    assert read(cache, "k", 1)
    assert cache.find(ObjectVersion("k", "another", 1 << 30), 100 * KIB) is None


def test_what_was_fetched_for_nothing_is_counted() -> None:
    cache = PageCache(LIMIT)
    for number in range(4):
        page(cache, "k", number, is_ahead=True)
    read(cache, "k", 0)
    assert cache.unread_bytes == 3 * 100 * KIB
    cache.give_up(version("k"))
    cache.check_invariants()
    cache.clear()
    cache.check_invariants()
    counted = cache.statistics()
    assert (counted.ahead_bytes, counted.wasted_bytes) == (400 * KIB, 300 * KIB)
    assert (counted.used_bytes, counted.unread_bytes, counted.pages) == (0, 0, 0)


def test_what_nobody_waits_for_goes_first() -> None:
    cache = PageCache(LIMIT)
    for number in range(PAGES):
        page(cache, "closed" if number >= PAGES // 2 else "open", number, is_ahead=True)
    cache.give_up(version("closed"))
    for number in range(PAGES, PAGES + PAGES // 2):
        page(cache, "open", number, is_ahead=True)
    assert not read(cache, "closed", PAGES - 1)
    assert read(cache, "open", 0)


def test_a_buffer_is_not_used_again_while_somebody_looks_at_it() -> None:
    size = 256 * KIB
    cache = PageCache(8 * size)
    old = page(cache, "k", 7, size=size)
    held = cache.serve(old, 7 * size, 7 * size + 10)
    del old
    cache.clear()
    taken = [cache.buffer(size) for _ in range(4)]
    for view in taken:
        view[:] = bytes([255]) * size
    assert bytes(held) == bytes([7]) * 10


def test_a_buffer_is_used_again_when_nobody_looks_at_it() -> None:
    size = 256 * KIB
    cache = PageCache(8 * size)
    page(cache, "k", 7, size=size)
    cache.clear()
    assert bytes(cache.buffer(size)[:10]) == bytes([7]) * 10


def test_a_dropped_page_serves_who_still_has_it() -> None:
    cache = PageCache(LIMIT)
    held = [page(cache, "k", 3, is_ahead=True), page(cache, "k", 4, is_ahead=True)]
    cache.serve(held[0], 300 * KIB, 400 * KIB)
    cache.clear()
    for one, number in zip(held, (3, 4), strict=True):
        for _ in range(3):  # as if it were in use
            assert set(bytes(cache.serve(one, number * 100 * KIB, (number + 1) * 100 * KIB))) == {number}
    cache.check_invariants()
    assert (cache.used_bytes, cache.unread_bytes) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(1, 3), st.booleans()), max_size=80))
def test_any_use_keeps_the_books_right(steps: list[tuple[int, int, int, bool]]) -> None:
    cache = PageCache(10 * GRAIN_BYTES)
    held: list[tuple[Page, int]] = []
    for what, number, length, is_ahead in steps:
        at, size = number * GRAIN_BYTES, length * GRAIN_BYTES
        if what == 0:
            view = cache.buffer(size)
            view[:] = b"".join(bytes([number + i]) * GRAIN_BYTES for i in range(length))
            cache.store(Page(version("k"), at, view.toreadonly(), is_ahead=is_ahead))
        elif what == 1 and (found := cache.find(version("k"), at)) is not None:
            end = min(found.end, at + size)
            assert cache.serve(found, at, end)[0] == number
            held.append((found, number))
        elif what == 2 and is_ahead:
            cache.give_up(version("k"))
        elif what == 2:
            for one, its in held:
                assert cache.serve(one, its * GRAIN_BYTES, its * GRAIN_BYTES + 1)[0] == its
        elif what == 3 and number == 0:
            cache.clear()
        cache.check_invariants()


def test_a_shelf_finds_what_holds_a_byte_and_what_comes_next() -> None:
    shelf: Shelf[Page] = Shelf()
    pages = [Page(version("k"), start, memoryview(bytes(length))) for start, length in ((10, 5), (20, 10), (30, 1))]
    random.Random(1).shuffle(pages)
    assert all(shelf.add(page) for page in pages)
    assert [(found.start if (found := shelf.find(offset)) else None) for offset in (9, 10, 14, 15, 29, 30, 31)] == [
        None, 10, 10, None, 20, 30, None,
    ]  # fmt: skip
    assert [shelf.next_start(offset, 99) for offset in (0, 10, 15, 20, 30)] == [10, 20, 20, 30, 99]
    assert shelf.next_start(0, 5) == 5
    assert not any(shelf.add(Page(version("k"), start, memoryview(bytes(4)))) for start in (8, 14, 19, 25, 27))


def test_a_smaller_cache_keeps_what_counts_most_and_a_larger_one_takes_more() -> None:
    cache = PageCache(LIMIT)
    for number in range(PAGES):
        page(cache, "k", number)
    assert read(cache, "k", 0)
    assert read(cache, "k", 0)  # again: in use
    cache.resize(LIMIT // 2)
    cache.check_invariants()
    assert cache.used_bytes <= LIMIT // 2
    assert read(cache, "k", 0)
    cache.resize(2 * LIMIT)
    for number in range(PAGES, 2 * PAGES):
        page(cache, "k", number)
    cache.check_invariants()
    assert cache.used_bytes > LIMIT
