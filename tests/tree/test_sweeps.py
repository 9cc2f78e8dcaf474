"""Directories that come together, or by and by: whatever the keys and the pages, each shows what it would alone."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from spacesfs.attributes import AttributeDefaults
from spacesfs.tree.directory import Listing, list_directory
from spacesfs.tree.stream import Stream
from spacesfs.tree.view import View
from tests.memory_store import MemoryStore

TTL_SECONDS = 10.0
DEFAULTS = AttributeDefaults(1000, 1000, 0o644, 0o755)
SEGMENTS = st.sampled_from(["a", "a-", "a.b", "a0", "b", "c", "", "é", "\U0010ffff"])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(bool)


def directories_of(keys: list[str]) -> list[str]:
    """Return every directory that keys lie in, in the order of a walk."""
    return sorted({key[:end] for key in keys for end in range(len(key) + 1) if end == 0 or key[end - 1] == "/"})


async def walk(view: View, prefix: str, seen: dict[str, Listing]) -> None:
    seen[prefix] = listing = await view.listing(prefix)
    for name in sorted(listing.directories):
        await view.find(prefix, name)
        await walk(view, f"{prefix}{name}/", seen)


@given(st.lists(KEYS, max_size=25), st.sampled_from([1, 2, 3, 7, 1000]))
def test_a_walk_sees_what_listing_one_by_one_shows(keys: list[str], page_keys: int) -> None:
    async def run() -> None:
        store = MemoryStore()
        store.page_keys = page_keys
        for key in keys:
            store.set(key, b"x")
        seen: dict[str, Listing] = {}
        await walk(View(store, DEFAULTS, 60.0, 5), "", seen)
        for prefix, listing in seen.items():
            alone = await list_directory(store, prefix)
            assert listing == alone, prefix

    trio.run(run)


async def wait(_: MemoryStore, __: View, key: str) -> None:
    await trio.sleep(TTL_SECONDS * len(key) / 6)


async def put(store: MemoryStore, view: View, key: str) -> None:
    if not any(other.startswith(key + "/") or key.startswith(other + "/") for other in store.names()):
        store.set(key, b"new")
        view.note_stored(store.info(key))


async def remove(store: MemoryStore, view: View, key: str) -> None:
    if key in store.names():
        store.remove(key)
        view.note_removed(key)
        prefix = key[: key.rfind("/") + 1]
        if prefix and not any(other.startswith(prefix) for other in store.names()):
            view.doubt("")  # a mount does not let directories vanish


async def look(store: MemoryStore, view: View, key: str) -> None:
    found = await view.find(key[: key.rfind("/") + 1], key[key.rfind("/") + 1 :])
    is_directory = any(other.startswith(key + "/") for other in store.names())
    assert (found is not None) == (is_directory or key in store.names())
    assert found is None or found.attributes.is_directory == is_directory


async def show(store: MemoryStore, view: View, key: str) -> None:
    prefix = key[: key.rfind("/") + 1]
    listing, alone = await view.listing(prefix), await list_directory(store, prefix)
    assert listing.directories == alone.directories
    assert listing.objects.keys() == alone.objects.keys()


CALLS = {"look": look, "list": show, "store": put, "remove": remove, "wait": wait}
CHANGES = st.lists(st.tuples(st.sampled_from(sorted(CALLS)), KEYS), max_size=30)


@settings(max_examples=400)
@given(st.lists(KEYS, min_size=5, max_size=25), CHANGES, st.sampled_from([1, 2, 1000]))
def test_our_own_changes_are_in_whatever_is_on_its_way(
    keys: list[str], changes: list[tuple[str, str]], page_keys: int
) -> None:
    """Any order of looking and changing equals a set of keys."""

    async def run() -> None:
        store = MemoryStore()
        store.page_keys = page_keys
        plain = [key for key in keys if all(key.split("/"))]
        for key in plain:
            store.set(key, b"x")
        view = View(store, DEFAULTS, TTL_SECONDS, 5)
        for what, key in changes:
            if all(key.split("/")):
                await CALLS[what](store, view, key)

    trio.run(run, clock=MockClock(autojump_threshold=0))


@given(
    st.lists(st.sampled_from([f"{n:02}" for n in range(40)]), min_size=1, unique=True),
    st.sampled_from([1, 3, 10]),
    st.data(),
)
def test_a_stream_shows_what_stays_exactly_once(names: list[str], page_keys: int, data: st.DataObject) -> None:
    async def run() -> None:
        store = MemoryStore()
        store.page_keys = page_keys
        for name in names:
            store.set(f"d/{name}", b"x")
        view = View(store, DEFAULTS, 60.0, 5)
        stream = await view.opened("d/")
        if not isinstance(stream, Stream):
            return
        stays, shown, number = set(names), [], 0
        while (page := await stream.page(number)) is not None:
            if data.draw(st.booleans()):
                gone = data.draw(st.sampled_from(names))
                store.remove(f"d/{gone}")
                stays.discard(gone)
                store.set(f"d/{data.draw(st.sampled_from(names))}-new", b"x")
            if number and data.draw(st.booleans()):
                again = await stream.page(data.draw(st.integers(0, number)))
                assert again is not None
            shown += list(page.listing.objects)
            number += 1
        assert len(shown) == len(set(shown))
        assert stays <= set(shown)

    trio.run(run)


@given(st.lists(KEYS, min_size=2, max_size=25), st.sampled_from([1, 2, 3, 7]))
def test_the_pages_of_a_stream_together_are_the_directory(keys: list[str], page_keys: int) -> None:
    """A file and a directory of one name, on whatever pages, never show as one name twice."""

    async def run() -> None:
        store = MemoryStore()
        store.page_keys = page_keys
        for key in keys:
            store.set(f"d/{key}", b"x")
        stream = await View(store, DEFAULTS, 60.0, 5).opened("d/")
        alone = await list_directory(store, "d/")
        if isinstance(stream, Listing):
            assert stream == alone
            return
        for _ in range(2):  # the second time some pages have to be asked for again
            files: list[str] = []
            directories: list[str] = []
            number = 0
            while (page := await stream.page(number)) is not None:
                files += page.listing.objects
                directories += page.listing.directories
                number += 1
            assert sorted(files) == sorted(alone.objects)
            assert sorted(directories) == sorted(alone.directories)

    trio.run(run)


async def test_a_page_that_was_let_go_of_has_the_same_ends(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.page_keys = 3
    for number in range(30):
        store.set(f"d/{number:02}", b"x")
    stream = await View(store, DEFAULTS, 60.0, 5).opened("d/")
    assert isinstance(stream, Stream)
    number = 0
    while await stream.page(number) is not None:
        number += 1
    store.remove("d/00")
    store.set("d/00-a", b"x")
    store.set("d/00-b", b"x")
    first = await stream.page(0)
    assert first is not None
    assert sorted(first.listing.objects) == ["00-a", "00-b", "01"]


async def test_what_a_walk_that_goes_on_deep_inside_has_not_seen_from_its_start(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    for key in ("t/a", "t/b/a", "t/b/c/d/x", "t/b/e/y", "t/f"):
        store.set(key, b"x")
    view = View(store, DEFAULTS, TTL_SECONDS, 5)
    await view.listing("")
    await view.listing("t/")  # by a sweep from here on
    await trio.sleep(TTL_SECONDS * 0.7)
    await view.listing("t/b/")
    await trio.sleep(TTL_SECONDS * 0.7)  # what was listed is old by now, the walk is not
    await view.listing("t/b/c/d/")
    for prefix in ("t/b/c/", "t/b/", "t/", ""):
        assert await view.listing(prefix) == await list_directory(store, prefix)
