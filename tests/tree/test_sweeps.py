"""Directories that come together, or by and by: whatever the keys and the pages, each shows what it would alone."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs.attributes import AttributeDefaults
from spacesfs.tree.directory import Listing, list_directory
from spacesfs.tree.stream import Stream
from spacesfs.tree.view import View
from tests.memory_store import MemoryStore

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


CHANGES = st.lists(st.tuples(st.sampled_from(["look", "list", "store", "remove"]), KEYS), max_size=30)


@settings(max_examples=200)
@given(st.lists(KEYS, max_size=15), CHANGES, st.sampled_from([1, 2, 1000]))
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
        view = View(store, DEFAULTS, 60.0, 5)
        for what, key in changes:
            directory, _, name = key.rpartition("/")
            prefix = directory + "/" if directory else ""
            if not all(key.split("/")):
                continue
            if what == "store" and not any(k.startswith(key + "/") or key.startswith(k + "/") for k in store.names()):
                store.set(key, b"new")
                view.note_stored(store.info(key))
            elif what == "remove" and key in store.names():
                store.remove(key)
                view.note_removed(key)
                if prefix and not any(k.startswith(prefix) for k in store.names()):
                    view.doubt("")  # as a mount does not let directories vanish
            elif what == "look":
                found = await view.find(prefix, name)
                is_directory = any(k.startswith(key + "/") for k in store.names())
                assert (found is not None) == (is_directory or key in store.names())
                assert found is None or found.attributes.is_directory == is_directory
            elif what == "list":
                listing, alone = await view.listing(prefix), await list_directory(store, prefix)
                assert listing.directories == alone.directories
                assert listing.objects.keys() == alone.objects.keys()

    trio.run(run)


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


async def test_a_page_that_was_let_go_of_has_the_same_ends(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    store.page_keys = 2
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
