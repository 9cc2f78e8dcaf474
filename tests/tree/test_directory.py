"""From listings, friendly or hostile, to the entries of a directory."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.tree.directory import Listing, list_directory
from spacesfs.tree.names import is_name, segment_in
from tests.memory_store import MemoryStore

SEGMENTS = st.sampled_from(["", ".", "..", "a", "b", "a\n", "é", "a" * 256, " ", "a\0", "\x1b[2J"])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(bool)


def listed(keys: list[str], prefix: str = "", page_keys: int = 1000) -> Listing:
    async def run() -> Listing:
        store = MemoryStore()
        store.page_keys = page_keys
        for key in keys:
            store.set(key, b"")
        return await list_directory(store, prefix)

    return trio.run(run)


def test_files_directories_and_the_marker() -> None:
    listing = listed(["d/", "d/file", "d/sub/x", "d/sub/y/z", "d/marked/", "other", "d0"], "d/")
    assert sorted(listing.objects) == ["file"]
    assert listing.objects["file"].key == "d/file"
    assert listing.directories == {"sub", "marked"}
    assert listing.has_marker
    assert len(listing) == 3
    assert not listing.is_vanished


def test_nothing_there() -> None:
    listing = listed(["other"], "d/")
    assert listing.is_vanished
    assert len(listing) == 0


def test_a_marker_alone_keeps_a_directory() -> None:
    listing = listed(["d/"], "d/")
    assert not listing.is_vanished
    assert len(listing) == 0


def test_a_directory_has_the_name_that_it_shares_with_a_file_even_on_another_page() -> None:
    keys = ["a", "a-b", "a.b", "a/x"]
    for page_keys in (1, 2, 1000):
        listing = listed(keys, page_keys=page_keys)
        assert sorted(listing.objects) == ["a-b", "a.b", "~file=a"]
        assert listing.directories == {"a"}


@given(st.lists(KEYS, max_size=12), st.sampled_from(["", "a/", "a/b/"]), st.sampled_from([1, 3, 1000]))
def test_whatever_the_keys_only_names_are_shown_and_none_is_lost(keys: list[str], prefix: str, page_keys: int) -> None:
    listing = listed(keys, prefix, page_keys)
    below = {key.removeprefix(prefix) for key in keys if key.startswith(prefix)}
    directories = {rest.partition("/")[0] for rest in below if "/" in rest}
    files = {rest for rest in below if rest and "/" not in rest}
    assert {segment_in(name) for name in listing.directories} == directories
    assert {segment_in(name) for name in listing.objects} == files
    assert all(is_name(step) for name in [*listing.directories, *listing.objects] for step in name.split("/"))
    assert not listing.directories & listing.objects.keys()
    assert listing.has_marker == ("" in below and bool(prefix))
    assert all(listed_object.key == prefix + segment_in(name) for name, listed_object in listing.objects.items())


def test_the_bytes_of_a_directorys_own_object_are_a_file_in_it() -> None:
    store = MemoryStore()
    store.set("d/", b"data")
    store.set("d//x", b"x")
    listing = trio.run(list_directory, store, "d/")
    assert {name: listed.key for name, listed in listing.objects.items()} == {"~file=": "d/"}
    assert listing.directories == {"~key="}
    assert listing.marker is listing.objects["~file="]
