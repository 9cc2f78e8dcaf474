"""What the Space shows through the caches: what an answer costs, and that none is older than our own changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spacesfs.attributes import AttributeDefaults
from spacesfs.cache.attribute_store import Row, pack_info
from spacesfs.client.models import ObjectProperties
from spacesfs.tree.directory import Listing
from spacesfs.tree.view import Found, View
from tests.memory_store import Gate, MemoryStore

TTL_SECONDS = 60.0
DEFAULTS = AttributeDefaults(1000, 1000, 0o644, 0o755)
MARKED = ObjectProperties(metadata={"mode": "16832"})  # 0700


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def view(store: MemoryStore) -> View:
    return View(store, DEFAULTS, TTL_SECONDS, 5)


async def kind_of(view: View, prefix: str, name: str) -> str:
    found = await view.find(prefix, name)
    if found is None:
        return "nothing"
    return "directory" if found.attributes.is_directory else "file"


async def test_what_is_behind_a_name(store: MemoryStore, view: View) -> None:
    for key in ("file", "both", "both/x", "marked/", "implicit/x"):
        store.set(key, b"x")
    names = ("file", "both", "marked", "implicit", "missing", "fil")
    expected = ["file", "directory", "directory", "directory", "nothing", "nothing"]
    assert [await kind_of(view, "", name) for name in names] == expected
    await view.listing("")
    assert [await kind_of(view, "", name) for name in names] == expected


async def test_an_answer_that_takes_longer_than_it_is_believed(store: MemoryStore, autojump_clock: MockClock) -> None:
    store.set("d/e/f", b"x")
    store.set("d/g", b"x")

    async def wait(call: str, key: str) -> None:
        await trio.sleep(1)

    store.late_hook = wait
    view = View(store, DEFAULTS, 0.1, 5)
    for prefix, name, kind in (("", "d", "directory"), ("d/", "e", "directory"), ("d/e/", "f", "file")):
        assert await kind_of(view, prefix, name) == kind
    assert (await view.listing("d/")).directories == {"e"}
    assert await kind_of(view, "d/", "missing") == "nothing"


async def test_a_marker_gives_its_attributes(store: MemoryStore, view: View) -> None:
    store.set("d/", b"", MARKED)
    store.set("e/x", b"")
    found = [await view.find("", name) for name in ("d", "e")]
    assert [entry.attributes.mode for entry in found if entry] == [0o40700, 0o40755]
    assert [entry.version for entry in found if entry] == [None, None]


async def test_absence_is_remembered_for_its_time(store: MemoryStore, view: View, autojump_clock: MockClock) -> None:
    assert await view.find("", "f") is None
    asked = len(store.calls)
    store.set("f", b"x")
    assert await view.find("", "f") is None
    assert len(store.calls) == asked
    await trio.sleep(TTL_SECONDS + 1)
    assert await kind_of(view, "", "f") == "file"


async def test_a_listing_answers_for_its_time(store: MemoryStore, view: View, autojump_clock: MockClock) -> None:
    store.set("d/a", b"")
    await view.listing("d/")
    asked = len(store.calls)
    store.set("d/b", b"")
    assert sorted((await view.listing("d/")).objects) == ["a"]
    assert await view.find("d/", "b") is None
    assert len(store.calls) == asked
    await trio.sleep(TTL_SECONDS + 1)
    assert sorted((await view.listing("d/")).objects) == ["a", "b"]


async def test_a_name_in_a_listing_costs_one_head_and_then_none(store: MemoryStore, view: View) -> None:
    for name in ("a", "b"):
        store.set(f"d/{name}", b"")
    await view.listing("d/")
    store.calls.clear()
    for _ in range(3):
        assert await kind_of(view, "d/", "a") == "file"
    assert store.calls == [("head", "d/a")]


async def test_a_listing_in_use_is_renewed_instead_of_asking_for_each_name(
    store: MemoryStore, view: View, autojump_clock: MockClock
) -> None:
    names = [f"{number:03}" for number in range(100)]
    for name in names:
        store.set(f"d/{name}", b"")
    await view.listing("d/")
    for name in names:
        await view.find("d/", name)
    await trio.sleep(TTL_SECONDS + 1)
    store.calls.clear()
    for name in names:
        assert await kind_of(view, "d/", name) == "file"
    assert store.count() == {"list_page": 1}


async def test_our_changes_are_seen_without_asking(store: MemoryStore, view: View) -> None:
    store.set("d/a", b"")
    await view.listing("d/")
    stored = store.set("d/new", b"x")
    view.note_stored(store.info("d/new"))
    store.remove("d/a")
    view.note_removed("d/a")
    store.set("d/sub/", b"")
    view.note_stored(store.info("d/sub/"))
    store.calls.clear()
    found = await view.find("d/", "new")
    assert found == Found(found.attributes, stored) if found else False
    assert await view.find("d/", "a") is None
    assert await kind_of(view, "d/", "sub") == "directory"
    listing = await view.listing("d/")
    assert (sorted(listing.objects), listing.directories) == (["new"], {"sub"})
    assert store.calls == []
    view.note_removed("d/sub/")
    assert await view.find("d/", "sub") is None


async def test_a_new_file_ends_its_absence(store: MemoryStore, view: View) -> None:
    assert await view.find("", "f") is None
    store.set("f", b"x")
    view.note_stored(store.info("f"))
    assert await kind_of(view, "", "f") == "file"


async def test_a_listing_from_before_our_changes_is_brought_up_to_date(store: MemoryStore, view: View) -> None:
    for key in ("d/a", "d/gone"):
        store.set(key, b"")
    store.late_hook = gate = Gate("list_page")
    found: list[Listing] = []

    async def list_() -> None:
        found.append(await view.listing("d/"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(list_)
        await gate.arrived.wait()
        await wait_all_tasks_blocked()
        store.set("d/new", b"")
        view.note_stored(store.info("d/new"))
        store.set("d/sub/x", b"")
        view.note_stored(store.info("d/sub/x"))
        store.remove("d/gone")
        view.note_removed("d/gone")
        gate.opened.set()
    for listing in (*found, await view.listing("d/")):
        assert (sorted(listing.objects), listing.directories) == (["a", "new"], {"sub"})
    assert store.count()["list_page"] == 1


async def test_absence_from_before_our_change_is_not_remembered(store: MemoryStore, view: View) -> None:
    store.late_hook = gate = Gate("list_page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.find, "", "f")
        await gate.arrived.wait()
        await wait_all_tasks_blocked()
        store.set("f", b"x")
        view.note_stored(store.info("f"))
        gate.opened.set()
    assert await kind_of(view, "", "f") == "file"


async def test_a_description_from_before_our_change_is_not_remembered(store: MemoryStore, view: View) -> None:
    store.set("f", b"old")
    await view.listing("")
    store.late_hook = gate = Gate("head")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.find, "", "f")
        await gate.arrived.wait()
        await wait_all_tasks_blocked()
        newest = store.set("f", b"new!")
        view.note_stored(store.info("f"))
        gate.opened.set()
    assert view.version_of("f") == newest
    found = await view.find("", "f")
    assert found is not None
    assert found.version == newest


class Remembering:
    """What an earlier process has learnt, and did not live to learn."""

    def __init__(self, *rows: Row) -> None:
        self._rows = rows

    def save(self, row: Row) -> None: ...

    def forget(self, key: str) -> None: ...

    async def find(self, keys: Sequence[str]) -> list[Row]:
        return [row for row in self._rows if row.key in keys]

    async def has_below(self, prefix: str) -> bool:
        return any(row.key.startswith(prefix) for row in self._rows)


async def test_what_this_host_knew_of_an_older_version_is_no_answer(store: MemoryStore) -> None:
    store.set("f", b"older")
    older = store.info("f")
    row = Row("f", older.etag, older.last_modified_ns, older.last_modified_ns, pack_info(older))
    view = View(store, DEFAULTS, TTL_SECONDS, 5, memory=Remembering(row))
    newest = store.set("f", b"newest")
    store.late_hook = gate = Gate("head")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.describe, "f")
        await gate.arrived.wait()
        await view.listing("")  # recalls what is known of what it shows
        gate.opened.set()
    assert view.version_of("f") == newest
    found = await view.find("", "f")
    assert found is not None
    assert found.version == newest


async def test_an_answer_counts_more_than_a_listing_that_came_meanwhile(store: MemoryStore) -> None:
    store.set("f", b"older")
    older = store.info("f")
    row = Row("f", older.etag, older.last_modified_ns, older.last_modified_ns, pack_info(older))
    view = View(store, DEFAULTS, TTL_SECONDS, 5, memory=Remembering(row))
    listed = Gate("list_page")
    store.late_hook = listed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.listing, "")
        await listed.arrived.wait()
        newest = store.set("f", b"newest")
        store.late_hook = gate = Gate("head")
        nursery.start_soon(view.describe, "f")
        await gate.arrived.wait()
        listed.opened.set()
        await wait_all_tasks_blocked()
        gate.opened.set()
    assert view.version_of("f") == newest


async def test_a_marker_from_before_our_change_is_not_remembered(store: MemoryStore, view: View) -> None:
    store.set("d/x", b"")
    store.set("d/", b"", MARKED)
    older = store.info("d/")
    store.remove("d/")
    gate = Gate("head", "d/")
    store.hook = gate
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.marker, "d/")
        await gate.arrived.wait()
        view.note_stored(older)
        gate.opened.set()
    marker = await view.marker("d/")
    assert marker is not None


async def test_what_a_head_does_not_tell_is_kept_while_nothing_changed(store: MemoryStore, view: View) -> None:
    version = store.set("f", b"x")
    known = ObjectProperties(acl="public-read", tags="a=b")
    info = store.info("f")
    view.note_stored(type(info)(info.key, info.size, info.etag, 0, known))
    described = await view.describe("f")
    assert described is not None
    assert (described.etag, described.properties.acl, described.properties.tags) == (version.etag, "public-read", "a=b")


@pytest.mark.parametrize(
    "changed",
    [
        ObjectProperties(content_type="text/html"),
        ObjectProperties(content_type="text/plain", cache_control="no-store"),
        ObjectProperties(content_type="text/plain", metadata={"x": "y"}),
    ],
)
async def test_properties_that_another_host_changed_are_seen(
    store: MemoryStore, view: View, changed: ObjectProperties
) -> None:
    store.set("f", b"same bytes", ObjectProperties(content_type="text/plain"))
    await view.describe("f")
    store.set("f", b"same bytes", changed)
    info = await view.describe("f")
    assert info is not None
    assert info.properties == changed


async def test_what_is_gone_is_forgotten(store: MemoryStore, view: View) -> None:
    version = store.set("f", b"x")
    await view.listing("")
    assert await view.describe("f") is not None
    assert view.known(version) is not None
    store.remove("f")
    assert await view.describe("f") is None
    assert view.known(version) is None
    assert await view.find("", "f") is None


async def test_emptiness_is_told_by_a_listing_or_by_the_space(
    store: MemoryStore, view: View, autojump_clock: MockClock
) -> None:
    store.set("d/", b"")
    await view.listing("d/")
    store.calls.clear()
    assert await view.is_empty("d/", lambda _: False)
    assert store.calls == []
    store.set("d/theirs", b"")
    await trio.sleep(TTL_SECONDS + 1)
    assert not await view.is_empty("d/", lambda _: False)
    assert await view.is_empty("d/", lambda key: key == "d/theirs")
    store.set("d/sub/", b"")
    for _ in range(2):
        assert not await view.is_empty("d/", lambda key: key == "d/theirs")
        assert await view.is_empty("d/", lambda key: key in {"d/theirs", "d/sub/"})
        await view.listing("d/")


async def test_what_is_not_shown_makes_a_directory_not_empty(store: MemoryStore, view: View) -> None:
    for key in ("d/", "d//hidden"):
        store.set(key, b"")
    await view.listing("d/")
    assert not await view.is_empty("d/", lambda key: key == "d/")


async def test_a_directory_is_kept_by_what_is_left(store: MemoryStore, view: View) -> None:
    for key in ("d/x", "d/sub/y"):
        store.set(key, b"")
    assert await view.keeps_itself("d/", lambda key: key == "d/x")
    store.remove("d/x")
    view.note_removed("d/x")
    assert await view.keeps_itself("d/", lambda _: False)
    assert store.count()["list_page"] == 1, "what was listed once is a sample"
    assert not await view.keeps_itself("d/", lambda key: key == "d/sub/y")
    store.remove("d/sub/y")
    view.note_removed("d/sub/y")
    assert not await view.keeps_itself("d/", lambda _: False)


async def test_an_entry_that_was_only_listed_is_not_described(store: MemoryStore, view: View) -> None:
    version = store.set("f", b"x")
    listing = await view.listing("")
    found = view.glance_at_file(listing.objects["f"])
    assert (found.is_described, found.version) == (False, version)
    await view.describe("f")
    assert view.glance_at_file(listing.objects["f"]).is_described


async def test_a_directory_asked_often_is_listed_once(store: MemoryStore, view: View) -> None:
    for number in range(20):
        store.set(f"d/f{number:02d}", b"x")
    for number in range(20):
        assert await kind_of(view, "d/", f"f{number:02d}") == "file"
        assert await kind_of(view, "d/", f"missing{number:02d}") == "nothing"
    listings = [call for call, _ in store.calls if call in {"list", "list_page"}]
    assert len(listings) <= 3, "the first names are asked for one by one, then the directory is listed"


async def test_a_large_directory_is_not_listed_for_a_few_names(store: MemoryStore, view: View) -> None:
    for number in range(1001):
        store.set(f"d/f{number:04d}", b"x")
    for number in range(6):
        assert await kind_of(view, "d/", f"f{number:04d}") == "file"
        assert await kind_of(view, "d/", f"missing{number}") == "nothing"
    assert await kind_of(view, "d/", "f1000") == "file"
    assert [call for call, _ in store.calls if call == "list"] == [], (
        "that would have taken two requests and a thousand names"
    )


async def test_a_deep_path_costs_a_listing_and_a_question(store: MemoryStore, view: View) -> None:
    for key in ("a/b/c/d/e/file.txt", "a/b/other", "z"):
        store.set(key, b"x")
    for prefix, name in (("", "a"), ("a/", "b"), ("a/b/", "c"), ("a/b/c/", "d"), ("a/b/c/d/", "e")):
        assert await kind_of(view, prefix, name) == "directory"
    assert await kind_of(view, "a/b/c/d/e/", "file.txt") == "file"
    assert store.count() == {"list_page": 1, "head": 1}


async def test_a_deep_path_in_a_large_tree_costs_a_listing_for_each_part_that_is_far_from_the_last(
    store: MemoryStore, view: View
) -> None:
    store.page_keys = 10
    for number in range(30):
        store.set(f"a/a{number}", b"x")
        store.set(f"a/m/a{number}", b"x")
    store.set("a/m/n/o/p/file", b"x")
    for prefix, name in (("", "a"), ("a/", "m"), ("a/m/", "n"), ("a/m/n/", "o"), ("a/m/n/o/", "p")):
        assert await kind_of(view, prefix, name) == "directory"
    assert await kind_of(view, "a/m/n/o/p/", "file") == "file"
    assert store.count() == {"list_page": 3, "head": 1}


async def test_a_name_like_a_files_is_asked_for_in_one_go(store: MemoryStore, view: View) -> None:
    for key in ("v1.2/x", "f.txt", "README", "LICENSE"):
        store.set(key, b"x")

    async def go(name: str) -> set[str]:
        """Return the calls that are made before any is answered."""
        store.calls.clear()
        answered = trio.Event()

        async def wait(_call: str, _key: str) -> None:
            await answered.wait()

        store.late_hook = wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(view.find, "", name)
            await wait_all_tasks_blocked()
            calls = {call for call, _ in store.calls}
            answered.set()
        return calls

    assert await go("f.txt") == {"head", "list_page"}
    view.refresh("")
    assert await go("v1.2") == {"head", "list_page"}
    view.refresh("")
    assert await go("README") == {"list_page"}
    view.refresh("")
    assert await go("LICENSE") == {"head", "list_page"}, "names without a dot are files' here, too"


async def test_markers_of_a_listed_directory_are_asked_for_ahead(store: MemoryStore) -> None:
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        store.set(f"d/{name}/", b"", MARKED)
    peak = waiting = 0

    async def wait(call: str, key: str) -> None:
        nonlocal peak, waiting
        waiting += call == "head"
        peak = max(peak, waiting)
        await trio.lowlevel.checkpoint()
        waiting -= call == "head"

    store.late_hook = wait
    async with trio.open_nursery() as nursery:
        view = View(store, DEFAULTS, TTL_SECONDS, 5, spawn=nursery.start_soon)
        listing = await view.listing("d/")
        assert listing.directories == set(names)
        for name in names:
            found = await view.find("d/", name)
            assert found is not None
            assert found.attributes.mode == 0o40700
    assert store.count()["head"] == 200
    assert store.count()["list_page"] <= 3
    assert peak > 16


async def test_directories_without_markers_are_learnt_of_by_listings_not_ahead(store: MemoryStore) -> None:
    store.page_keys = 100
    names = [f"{number:03}" for number in range(90)]
    for name in names:
        for number in range(10):
            store.set(f"d/{name}/{number}", b"")
    async with trio.open_nursery() as nursery:
        view = View(store, DEFAULTS, TTL_SECONDS, 5, spawn=nursery.start_soon)
        await view.listing("d/")
        for name in names:
            assert await kind_of(view, "d/", name) == "directory"
    assert store.count()["head"] == 0
    assert store.count()["list_page"] <= 12
