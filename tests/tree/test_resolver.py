"""From names to inodes: one foreign version is one inode, and what this mount has in hand goes before the Space."""

from __future__ import annotations

import stat
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from spacesfs.attributes import AttributeDefaults
from spacesfs.cache.attribute_store import Row, pack_info
from spacesfs.client.errors import (
    AccessDenied,
    DeadlineExceeded,
    NotConnected,
    ServerFault,
    SpacesError,
    Unreachable,
    Untrusted,
)
from spacesfs.client.models import ObjectInfo, ObjectProperties, ObjectVersion
from spacesfs.errors import NameTooLong, NotDirectory, NotFound, StaleFile
from spacesfs.tree.inodes import Inode, InodeTable
from spacesfs.tree.resolver import Resolver, Told, ToldNames, walk
from spacesfs.tree.view import Found, View
from tests.memory_store import Gate, Hook, MemoryStore

TTL_SECONDS = 60.0
DEFAULTS = AttributeDefaults(1000, 1000, 0o644, 0o755)
SYMLINK = ObjectProperties(metadata={"mode": str(stat.S_IFLNK | 0o777)})


class InHand:
    """What a mount has of its own."""

    def __init__(self) -> None:
        self.ahead: set[int] = set()
        self.opened: set[int] = set()
        self.keys: dict[str, Told] = {}
        self.names = ToldNames(frozenset(), frozenset(), frozenset())

    def is_ahead(self, inode: Inode) -> bool:
        return inode.number in self.ahead

    def is_open(self, inode: Inode) -> bool:
        return inode.number in self.opened

    def version_of(self, inode: Inode) -> ObjectVersion | None:
        return inode.version

    def told(self, prefix: str, name: str) -> Told | None:
        return self.keys.get(prefix + name)

    def unsaved_names(self, directory: Inode) -> list[str]:
        return [name for name, child in directory.children.items() if child.number in self.ahead]

    def told_names(self, _: str) -> ToldNames:
        return self.names


class Bench:
    """A resolver over a store in memory."""

    def __init__(self, ttl_seconds: float = TTL_SECONDS) -> None:
        self.store = MemoryStore()
        self.view = View(self.store, DEFAULTS, ttl_seconds, 5)
        self.table = InodeTable("", DEFAULTS.for_directory(5))
        self.local = InHand()
        self.resolver = Resolver(self.table, self.view, self.local, ttl_seconds)

    async def get(self, name: str) -> Inode:
        inode = await self.resolver.get(self.table.root, name)
        inode.lookups += 1  # the kernel holds what it looked up
        return inode

    def add_local(self, name: str) -> Inode:
        inode = self.table.add(self.table.root, name, DEFAULTS.for_file(7))
        inode.lookups += 1
        self.local.ahead.add(inode.number)
        return inode

    async def listed(self) -> dict[str, Inode | None]:
        root, asked_at = self.table.root, trio.current_time()
        entries = self.resolver.entries(root, await self.view.listing(""), asked_at)
        return {entry.name: self.resolver.entry(root, entry) for entry in entries}


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def forgetful() -> Bench:
    return Bench(ttl_seconds=0)


async def test_a_name_keeps_its_inode(bench: Bench) -> None:
    version = bench.store.set("f", b"x")
    inode = await bench.get("f")
    assert inode.version == version
    assert await bench.get("f") is inode
    assert (await bench.listed())["f"] is inode


async def test_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.get("f")
    assert await bench.resolver.find(bench.table.root, "f") is None
    with pytest.raises(NameTooLong):
        await bench.get("k" * 1025)
    bench.store.set("f", b"x")


async def test_a_file_has_no_entries(bench: Bench) -> None:
    bench.store.set("f", b"x")
    file = await bench.get("f")
    with pytest.raises(NotDirectory):
        await bench.resolver.get(file, "x")


async def test_another_version_is_another_inode(forgetful: Bench, autojump_clock: MockClock) -> None:
    forgetful.store.set("f", b"first")
    first = await forgetful.get("f")
    newer = forgetful.store.set("f", b"second")
    second = await forgetful.get("f")
    assert second.number != first.number
    assert (second.version, second.is_linked, first.is_linked) == (newer, True, False)
    await trio.sleep(1)
    forgetful.store.set("f", b"third")
    assert (await forgetful.listed())["f"] not in (first, second)


async def test_a_file_that_became_a_directory_is_another_inode(forgetful: Bench, autojump_clock: MockClock) -> None:
    forgetful.store.set("f", b"x")
    file = await forgetful.get("f")
    await trio.sleep(1)
    forgetful.store.set("f/x", b"")
    directory = await forgetful.get("f")
    assert directory is not file
    assert directory.attributes.is_directory
    await trio.sleep(1)
    assert await forgetful.get("f") is directory


async def test_what_is_in_hand_goes_before_the_space(forgetful: Bench) -> None:
    local = forgetful.add_local("f")
    assert await forgetful.get("f") is local
    forgetful.store.set("f", b"theirs")
    assert await forgetful.get("f") is local
    assert await forgetful.listed() == {"f": local}
    await forgetful.resolver.revalidate(local)
    assert local.is_linked


def away(kind: type[SpacesError]) -> Hook:
    async def fail(call: str, key: str) -> None:
        await trio.lowlevel.checkpoint()
        raise kind(f"{call} {key} failed", key=key)

    return fail


@pytest.mark.parametrize("failure", [NotConnected, Unreachable, DeadlineExceeded])
async def test_what_is_known_answers_while_the_space_is_away(
    forgetful: Bench, autojump_clock: MockClock, failure: type[SpacesError]
) -> None:
    forgetful.store.set("f", b"x")
    forgetful.store.set("d/g", b"x")
    file, directory = await forgetful.get("f"), await forgetful.get("d")
    await trio.sleep(1)
    forgetful.store.hook = away(failure)
    assert await forgetful.get("f") is file
    assert await forgetful.get("d") is directory
    for inode in (file, directory):
        await forgetful.resolver.revalidate(inode)
    with pytest.raises(failure):
        await forgetful.get("unknown")
    forgetful.store.hook = MemoryStore().hook
    newer = forgetful.store.set("f", b"newer")
    forgetful.local.opened.add(file.number)
    with pytest.raises(StaleFile):
        await forgetful.resolver.revalidate(file)
    assert (await forgetful.get("f")).version == newer


@pytest.mark.parametrize("failure", [Untrusted, ServerFault, AccessDenied])
async def test_other_failures_are_no_absence(
    forgetful: Bench, autojump_clock: MockClock, failure: type[SpacesError]
) -> None:
    forgetful.store.set("f", b"x")
    file = await forgetful.get("f")
    await trio.sleep(1)
    forgetful.store.hook = away(failure)
    with pytest.raises(failure):
        await forgetful.get("f")
    with pytest.raises(failure):
        await forgetful.resolver.revalidate(file)


async def test_what_was_only_listed_may_be_of_any_kind(forgetful: Bench, autojump_clock: MockClock) -> None:
    forgetful.store.set("f", b"target", SYMLINK)
    listed = (await forgetful.listed())["f"]
    assert listed is not None
    listed.lookups += 1
    await trio.sleep(1)
    forgetful.store.hook = away(NotConnected)
    with pytest.raises(NotConnected):
        await forgetful.get("f")
    with pytest.raises(NotConnected):
        await forgetful.resolver.revalidate(listed)


async def test_what_was_made_while_the_space_was_asked(bench: Bench) -> None:
    bench.store.late_hook = gate = Gate("head", "f")
    found: list[Inode] = []

    async def look() -> None:
        found.append(await bench.get("f"))

    bench.store.set("f", b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await gate.arrived.wait()
        local = bench.add_local("f")
        gate.opened.set()
    assert found == [local]
    assert local.is_linked


def tell(bench: Bench, *, shown: dict[str, Told] | None = None, hidden: dict[str, Told] | None = None) -> None:
    """Let names of the root be acknowledged as there, or as files that are gone."""
    bench.local.keys = {**(shown or {}), **(hidden or {})}
    files = frozenset(hidden or ()) | {f"~file={name}" for name in hidden or ()}
    bench.local.names = ToldNames(frozenset(shown or ()), files, frozenset())


async def test_what_is_removed_is_not_shown(bench: Bench) -> None:
    bench.store.set("f", b"x")
    tell(bench, hidden={"f": Told(None, asks_space=True)})
    assert await bench.resolver.find(bench.table.root, "f") is None
    assert await bench.listed() == {}


async def test_where_a_file_was_removed_there_may_be_a_directory(bench: Bench) -> None:
    bench.store.set("f", b"x")
    bench.store.set("f/x", b"x")
    tell(bench, hidden={"f": Told(None, asks_space=True)})
    assert (await bench.get("f")).attributes.is_directory
    listed = await bench.listed()
    assert [inode.attributes.is_directory for inode in listed.values() if inode] == [True]


async def test_a_directory_that_is_gone_is_not_asked_for(bench: Bench) -> None:
    bench.store.set("d/x", b"x")
    bench.local.keys = {"d": Told(None)}
    bench.local.names = ToldNames(frozenset(), frozenset(), frozenset({"d"}))
    assert await bench.resolver.find(bench.table.root, "d") is None
    assert bench.store.calls == []
    assert await bench.listed() == {}


async def test_what_is_acknowledged_is_shown_without_asking(bench: Bench) -> None:
    found = Found(DEFAULTS.for_file(7), None)
    tell(bench, shown={"f": Told(found)})
    inode = await bench.get("f")
    assert inode.attributes == found.attributes
    assert bench.store.calls == []
    assert await bench.get("f") is not None
    assert list(await bench.listed()) == ["f"]


async def test_a_renamed_object_is_described_where_it_still_is(bench: Bench) -> None:
    version = bench.store.set("old", b"x", SYMLINK)
    tell(bench, shown={"new": Told(Found(DEFAULTS.for_file(7), version, is_described=False))})
    inode = await bench.get("new")
    assert inode.attributes.is_symlink
    assert inode.version == version
    bench.store.remove("old")
    tell(bench, shown={"newer": Told(Found(DEFAULTS.for_file(7), ObjectVersion("old", "0" * 32, 1), False))})
    assert await bench.resolver.find(bench.table.root, "newer") is None


async def test_a_listing_shows_all_kinds_in_order(bench: Bench) -> None:
    for key in ("b", "d/x", "a"):
        bench.store.set(key, b"x")
    bench.add_local("c")
    listed = await bench.listed()
    assert list(listed) == ["a", "b", "c", "d"]
    assert [inode.attributes.is_directory for inode in listed.values() if inode] == [False, False, False, True]


async def test_a_kind_only_listed_may_turn_out_another(bench: Bench) -> None:
    bench.store.set("link", b"target", SYMLINK)
    listed = (await bench.listed())["link"]
    assert listed is not None
    listed.lookups += 1
    assert not listed.is_kind_known
    assert listed.attributes.is_regular
    described = await bench.get("link")
    assert described is not listed
    assert (described.is_kind_known, described.attributes.is_symlink) == (True, True)
    assert listed.attributes.is_regular  # the type of a live inode never changes
    assert await bench.get("link") is described
    assert (await bench.listed())["link"] is described


async def test_a_kind_only_listed_may_turn_out_right(bench: Bench) -> None:
    bench.store.set("f", b"x", ObjectProperties(metadata={"mode": str(stat.S_IFREG | 0o600)}))
    listed = (await bench.listed())["f"]
    assert listed is not None
    listed.lookups += 1
    described = await bench.get("f")
    assert described is listed
    assert (described.is_kind_known, described.attributes.mode) == (True, stat.S_IFREG | 0o600)


# --- revalidating


async def test_nothing_is_asked_within_the_time(bench: Bench, autojump_clock: MockClock) -> None:
    bench.store.set("f", b"x")
    inode = await bench.get("f")
    bench.store.calls.clear()
    await bench.resolver.revalidate(inode)
    assert bench.store.calls == []
    await trio.sleep(TTL_SECONDS + 1)
    await bench.resolver.revalidate(inode)
    assert bench.store.calls == [("head", "f")]
    await bench.resolver.revalidate(inode)
    assert bench.store.calls == [("head", "f")]


async def test_attributes_that_another_host_changed(bench: Bench, autojump_clock: MockClock) -> None:
    bench.store.set("f", b"x")
    inode = await bench.get("f")
    bench.store.set("f", b"x", ObjectProperties(metadata={"mode": str(stat.S_IFREG | 0o600)}))
    await trio.sleep(TTL_SECONDS + 1)
    await bench.resolver.revalidate(inode)
    assert inode.attributes.mode == stat.S_IFREG | 0o600


@pytest.mark.parametrize(("is_open", "kind"), [(False, NotFound), (True, StaleFile)])
async def test_a_file_that_is_gone(
    bench: Bench, autojump_clock: MockClock, is_open: bool, kind: type[Exception]
) -> None:
    bench.store.set("f", b"x")
    inode = await bench.get("f")
    if is_open:
        bench.local.opened.add(inode.number)
    bench.store.remove("f")
    await trio.sleep(TTL_SECONDS + 1)
    with pytest.raises(kind):
        await bench.resolver.revalidate(inode)
    assert not inode.is_linked
    assert inode.is_displaced


async def test_a_file_that_is_another_version(bench: Bench, autojump_clock: MockClock) -> None:
    bench.store.set("f", b"x")
    inode = await bench.get("f")
    newer = bench.store.set("f", b"newer")
    await trio.sleep(TTL_SECONDS + 1)
    with pytest.raises(StaleFile):
        await bench.resolver.revalidate(inode)
    assert (await bench.get("f")).version == newer


async def test_an_answer_older_than_our_own_change_is_not_believed(bench: Bench, autojump_clock: MockClock) -> None:
    bench.store.set("f", b"x")
    inode = await bench.get("f")
    await trio.sleep(TTL_SECONDS + 1)
    bench.store.late_hook = gate = Gate("head")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.resolver.revalidate, inode)
        await gate.arrived.wait()
        inode.version = bench.store.set("f", b"ours")
        gate.opened.set()
    assert inode.is_linked


async def test_walk(bench: Bench) -> None:
    for key in ("d/e/f", "d/g"):
        bench.store.set(key, b"")
    directory = await bench.get("d")
    inner = await bench.resolver.get(directory, "e")
    inner.lookups += 1
    inside = [await bench.resolver.get(inner, "f"), await bench.resolver.get(directory, "g")]
    assert sorted(inode.key for inode in walk(directory)) == sorted([inner.key, *(inode.key for inode in inside)])


async def test_an_object_is_copied_to_its_new_name_while_the_old_one_is_described(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to it then must replace the copy, not what was under the old name."""
    old = bench.store.set("old", b"x")
    bench.local.keys["new"] = Told(Found(DEFAULTS.for_file(7), old, is_described=False))
    head = bench.store.head

    async def head_and_confirm(key: str) -> ObjectInfo:
        info = await head(key)
        if bench.local.keys.pop("new", None) is not None:
            bench.store.set("new", b"x")
        return info

    monkeypatch.setattr(bench.store, "head", head_and_confirm)
    inode = await bench.get("new")
    assert inode.version is not None
    assert inode.version.key == "new"


class Remembered:
    """What this host has learnt in an earlier life."""

    def __init__(self, *infos: ObjectInfo) -> None:
        self.rows = {info.key: Row(info.key, info.etag, 0, 0, pack_info(info)) for info in infos}

    async def find(self, keys: Sequence[str]) -> list[Row]:
        return [self.rows[key] for key in keys if key in self.rows]

    async def has_below(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self.rows)

    def save(self, row: Row) -> None:
        self.rows[row.key] = row

    def forget(self, key: str) -> None:
        self.rows.pop(key, None)


async def test_while_the_space_is_away_what_this_host_learnt_earlier_answers() -> None:
    bench = Bench()
    link = ObjectInfo("d/link", 3, "e", 5, SYMLINK)
    memory = Remembered(ObjectInfo("f", 4, "e4", 5, ObjectProperties()), link)
    bench.view = View(bench.store, DEFAULTS, TTL_SECONDS, 5, memory=memory)
    bench.resolver = Resolver(bench.table, bench.view, bench.local, TTL_SECONDS)
    bench.store.hook = away(NotConnected)
    inode = await bench.get("f")
    assert inode.version == ObjectVersion("f", "e4", 4)
    folder = await bench.get("d")
    assert folder.attributes.is_directory
    found = await bench.resolver.get(folder, "link")
    assert stat.S_ISLNK(found.attributes.mode)
    with pytest.raises(NotConnected):
        await bench.get("other")
    bench.local.keys["f2"] = Told(None, asks_space=True)  # removed here
    memory.rows["f2"] = memory.rows["f"]._replace(key="f2")
    with pytest.raises(NotConnected):
        await bench.get("f2")
    bench.local.keys["mine"] = Told(Found(DEFAULTS.for_directory(5), None), asks_space=True)
    assert (await bench.get("mine")).attributes.is_directory
    bench.store.hook = away(Untrusted)
    for name in ("f3", "mine2"):
        memory.rows[name] = memory.rows["f"]._replace(key=name)
        with pytest.raises(Untrusted):
            await bench.get(name)
