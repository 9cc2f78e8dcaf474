"""Changes as requests, with another host or a fault in between: nothing is deleted that is not safe elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spacesfs.client.errors import ServerFault, SpacesError
from spacesfs.client.models import CopyResult, DeleteFailure, ObjectInfo, ObjectProperties
from spacesfs.errors import Conflict, StaleFile
from spacesfs.pending.executor import Executor
from spacesfs.pending.intents import Delete, Describe, Move, MoveTree, Put, RemoveMarker
from tests.memory_store import MemoryStore

CARRIED = ObjectProperties(content_type="text/plain", metadata={"x": "y"}, acl="public-read", tags="a=b")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def executor(store: MemoryStore) -> Executor:
    return Executor(store)


def fail_on(store: MemoryStore, call: str, key: str) -> None:
    async def fail(name: str, touched: str) -> None:
        if (name, touched) == (call, key):
            raise ServerFault("out of order")

    store.hook = fail


# --- putting and describing


async def test_put(store: MemoryStore, executor: Executor) -> None:
    stored = await executor.perform(Put("d/", b"", CARRIED, is_new=True))
    assert stored is not None
    assert (stored.key, stored.size, stored.etag) == ("d/", 0, store.version("d/").etag)
    assert stored.properties == CARRIED


async def test_putting_something_new_over_something_is_a_conflict(store: MemoryStore, executor: Executor) -> None:
    store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await executor.perform(Put("k", b"ours", CARRIED, is_new=True))
    assert store.body("k") == b"theirs"
    await executor.perform(Put("k", b"ours", CARRIED, is_new=False))
    assert store.body("k") == b"ours"


async def test_describing_keeps_the_bytes(store: MemoryStore, executor: Executor) -> None:
    version = store.set("k", b"bytes", ObjectProperties(metadata={"old": "1"}))
    described = await executor.perform(Describe(version, CARRIED))
    assert described is not None
    assert (store.body("k"), store.info("k").properties.metadata) == (b"bytes", {"x": "y"})
    assert (described.etag, described.properties) == (version.etag, CARRIED)
    assert described.last_modified_ns > 0


async def test_what_a_head_does_not_tell_is_asked_for(store: MemoryStore, executor: Executor) -> None:
    store.set("k", b"", CARRIED)
    assert await executor.carried(store.info("k")) == CARRIED
    store.calls.clear()
    known = ObjectInfo("k", 0, "e", 0, CARRIED)
    assert await executor.carried(known) == CARRIED
    assert store.calls == []


# --- deleting


async def test_delete(store: MemoryStore, executor: Executor) -> None:
    version = store.set("k", b"x")
    await executor.perform(Delete(lambda: "k", lambda: version))
    assert store.names() == []
    await executor.perform(Delete(lambda: "k", lambda: version))


async def test_what_never_was_in_the_space_is_not_deleted(store: MemoryStore, executor: Executor) -> None:
    store.set("k", b"theirs")
    await executor.perform(Delete(lambda: "k", lambda: None))
    assert store.body("k") == b"theirs"
    assert store.calls == []


async def test_a_newer_version_is_not_deleted(store: MemoryStore, executor: Executor) -> None:
    version = store.set("k", b"ours")
    store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await executor.perform(Delete(lambda: "k", lambda: version))
    assert store.body("k") == b"theirs"


async def test_a_marker_goes_alone(store: MemoryStore, executor: Executor) -> None:
    store.set("d/", b"")
    store.set("d/theirs", b"")
    await executor.perform(RemoveMarker("d/"))
    assert store.names() == ["d/theirs"]


# --- moving a file


async def test_a_move_carries_everything(store: MemoryStore, executor: Executor) -> None:
    store.set("a", b"bytes", CARRIED)
    moved = await executor.perform(Move(store.info("a"), "b", None))
    assert store.names() == ["b"]
    assert (store.body("b"), await executor.carried(store.info("b"))) == (b"bytes", CARRIED)
    assert moved is not None
    assert (moved.key, moved.etag, moved.properties.acl) == ("b", store.version("b").etag, "public-read")


async def test_a_move_of_a_version_that_is_gone(store: MemoryStore, executor: Executor) -> None:
    store.set("a", b"ours")
    info = store.info("a")
    store.set("a", b"theirs")
    with pytest.raises(StaleFile):
        await executor.perform(Move(info, "b", None))
    assert store.names() == ["a"]


async def test_a_move_replaces_only_what_it_may(store: MemoryStore, executor: Executor) -> None:
    store.set("a", b"ours")
    expected = store.set("b", b"old")
    theirs = store.set("b", b"theirs")
    for replaces in (None, expected):
        with pytest.raises(Conflict):
            await executor.perform(Move(store.info("a"), "b", replaces))
    assert (store.body("a"), store.body("b")) == (b"ours", b"theirs")
    await executor.perform(Move(store.info("a"), "b", theirs))
    assert (store.names(), store.body("b")) == (["b"], b"ours")


async def test_a_copy_that_is_not_the_same_deletes_nothing(store: MemoryStore) -> None:
    class Careless(MemoryStore):
        async def copy(self, source_key: str, target_key: str, **_: object) -> CopyResult:
            return CopyResult(self.set(target_key, self.body(source_key)[:6]).etag, 1)

    careless = Careless()
    careless.set("a", b"cut short")
    with pytest.raises(Conflict):
        await Executor(careless).perform(Move(careless.info("a"), "b", None))
    assert careless.body("a") == b"cut short"
    careless.set("d/a", b"cut short")
    with pytest.raises(Conflict):
        await Executor(careless).perform(MoveTree("d/", "e/"))
    assert careless.body("d/a") == b"cut short"


@pytest.mark.parametrize("call", ["get_acl", "copy"])
async def test_a_failed_copy_deletes_nothing(store: MemoryStore, executor: Executor, call: str) -> None:
    store.set("a", b"bytes")
    fail_on(store, call, "a")
    with pytest.raises(ServerFault):
        await executor.perform(Move(store.info("a"), "b", None))
    assert store.names() == ["a"]


async def test_a_source_that_changes_during_the_copy_is_not_deleted(store: MemoryStore, executor: Executor) -> None:
    store.set("a", b"ours")
    info = store.info("a")

    async def change(name: str, key: str) -> None:
        if name == "copy":
            store.set("a", b"theirs")

    store.late_hook = change
    await executor.perform(Move(info, "b", None))
    assert (store.body("a"), store.body("b")) == (b"theirs", b"ours")


# --- moving a tree


def plant(store: MemoryStore, count: int = 25) -> dict[str, bytes]:
    tree = {f"{number % 3}/{number}": b"%d" % number for number in range(count)} | {"": b""}
    for name, body in tree.items():
        store.set(f"d/{name}", body, CARRIED)
    store.set("d0", b"neighbour")
    return tree


@pytest.mark.parametrize("page_keys", [1, 7, 1000])
async def test_a_tree_moves_whole(store: MemoryStore, executor: Executor, page_keys: int) -> None:
    store.page_keys = page_keys
    tree = plant(store)
    await executor.perform(MoveTree("d/", "p/e/"))
    assert {key: store.body(key) for key in store.names()} == {f"p/e/{name}": tree[name] for name in tree} | {
        "d0": b"neighbour"
    }
    for name in tree:
        assert await executor.carried(store.info(f"p/e/{name}")) == CARRIED


async def test_a_tree_with_one_failing_copy_stays_whole(store: MemoryStore, executor: Executor) -> None:
    store.page_keys = 7
    tree = plant(store)
    fail_on(store, "copy", "d/2/23")
    with pytest.raises(ServerFault):
        await executor.perform(MoveTree("d/", "e/"))
    assert {f"d/{name}" for name in tree} | {"d0"} == set(store.names())
    store.hook = MemoryStore().hook
    await executor.perform(MoveTree("d/", "e/"))
    assert sorted(store.names()) == sorted(["d0", *(f"e/{name}" for name in tree)])


async def test_a_failed_move_onto_an_empty_directory_leaves_it(store: MemoryStore, executor: Executor) -> None:
    store.page_keys = 7
    plant(store)
    store.set("e/", b"", CARRIED)
    fail_on(store, "copy", "d/2/23")
    with pytest.raises(ServerFault):
        await executor.perform(MoveTree("d/", "e/"))
    assert [key for key in store.names() if key.startswith("e/")] == ["e/"]


async def test_what_another_host_adds_stays(store: MemoryStore, executor: Executor) -> None:
    plant(store)

    async def add(name: str, key: str) -> None:
        if name == "delete_many":
            store.set("d/theirs", b"new")

    store.hook = add
    await executor.perform(MoveTree("d/", "e/"))
    assert [key for key in store.names() if key.startswith("d/")] == ["d/theirs"]


async def test_what_another_host_changes_after_its_copy_stays(store: MemoryStore, executor: Executor) -> None:
    plant(store)

    async def change(name: str, key: str) -> None:
        if name == "copy" and key == "d/2/23":
            store.set("d/0/0", b"theirs")

    store.page_keys = 1
    store.hook = change
    await executor.perform(MoveTree("d/", "e/"))
    assert [key for key in store.names() if key.startswith("d/")] == ["d/0/0"]
    assert (store.body("d/0/0"), store.body("e/0/0")) == (b"theirs", b"0")


async def test_what_could_not_be_deleted_is_an_error(store: MemoryStore) -> None:
    class Stubborn(MemoryStore):
        async def delete_many(self, keys: Sequence[str]) -> list[DeleteFailure]:
            return [DeleteFailure(key, "AccessDenied", "no right") for key in keys]

    stubborn = Stubborn()
    stubborn.set("d/a", b"x")
    with pytest.raises(SpacesError, match="d/a"):
        await Executor(stubborn).perform(MoveTree("d/", "e/"))
    assert stubborn.names() == ["d/a", "e/a"]
