"""What keys hold, asked with few requests, and never answered by what was heard before the question."""

from __future__ import annotations

import itertools

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from spacesfs.client.errors import AccessDenied, ServerFault
from spacesfs.pending.looks import Looks, _just_before
from tests.memory_store import Gate, MemoryStore


class Bench:
    """A store, and what those who ask are told."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.looks = Looks(self.store)
        self.told: dict[str, str | Exception | None] = {}

    async def ask(self, key: str) -> None:
        try:
            self.told[key] = await self.looks.etag(key)
        except (AccessDenied, ServerFault) as error:
            self.told[key] = error

    async def ask_all(self, *keys: str) -> None:
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(self.ask, key)


@pytest.fixture
def bench() -> Bench:
    return Bench()


TREE = [f"new/d{number % 7}/f{number:03}" for number in range(32)]


async def test_those_who_ask_at_once_share_a_listing(bench: Bench) -> None:
    """Whatever directories they are in."""
    theirs = bench.store.set(TREE[20], b"theirs")
    bench.store.set("new/d0/f0000", b"another")
    await bench.ask_all(*TREE)
    assert bench.told == dict.fromkeys(TREE) | {TREE[20]: theirs.etag}
    assert bench.store.count() == {"list_page": 1}


async def test_a_single_key_is_asked_for_by_itself(bench: Bench) -> None:
    theirs = bench.store.set("k", b"theirs")
    await bench.ask_all("k")
    await bench.ask_all("other")
    assert bench.told == {"k": theirs.etag, "other": None}
    assert bench.store.count() == {"head": 2}


async def test_who_comes_later_is_told_of_the_time_after(bench: Bench) -> None:
    """What is under way was asked before: they wait, and share the next question."""
    bench.store.hook = gate = Gate("list_page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.ask_all, *TREE[:16])
        await gate.arrived.wait()
        late = TREE[16:]
        nursery.start_soon(bench.ask_all, *late)
        await wait_all_tasks_blocked()
        assert bench.store.count() == {"list_page": 1}
        theirs = bench.store.set(late[0], b"theirs")
        gate.opened.set()
    assert bench.told == dict.fromkeys(TREE) | {late[0]: theirs.etag}
    assert bench.store.count() == {"list_page": 2}


async def test_keys_far_apart_are_asked_for_one_by_one(bench: Bench) -> None:
    for letter, number in itertools.product("abcdef", range(200)):
        bench.store.set(f"{letter}/{number:03}", b"")
    keys = [f"{letter}/100" for letter in "abcdef"]
    found = await bench.looks.etags(keys)
    assert sorted(found) == keys
    count = bench.store.count()
    assert (count["list_page"], count["head"]) == (1, 5), "one attempt tells that a listing is no help"


async def test_files_between_large_directories_are_listed(bench: Bench) -> None:
    keys = [f"{letter}.txt" for letter in "abcdef"]
    for key in keys:
        bench.store.set(key, b"")
    for letter, number in itertools.product("abcdef", range(200)):
        bench.store.set(f"{letter}/{number:03}", b"")
    assert sorted(await bench.looks.etags(keys)) == keys
    assert bench.store.count() == {"list_page": 1}


async def test_a_question_that_fails_is_asked_for_each(bench: Bench) -> None:
    """So nobody fails for what is another's."""

    async def fail(call: str, key: str) -> None:
        if call == "list_page" or key == TREE[3]:
            raise AccessDenied("no right", key=key)

    bench.store.hook = fail
    await bench.ask_all(*TREE)
    assert isinstance(bench.told.pop(TREE[3]), AccessDenied)
    assert set(bench.told.values()) == {None}


@pytest.mark.parametrize("stopped_at", [1, 2], ids=["gathering", "under way"])
async def test_who_asks_for_all_may_be_stopped(bench: Bench, stopped_at: int) -> None:
    """The others are told all the same."""
    gates = [Gate("list_page"), Gate("list_page")]

    async def hold(call: str, key: str) -> None:
        if call == "list_page":
            await gates[min(bench.store.count()[call], len(gates)) - 1](call, key)

    bench.store.hook = hold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.ask_all, *TREE[:8])
        await gates[0].arrived.wait()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(bench.ask, TREE[8])
                await wait_all_tasks_blocked()
                nursery.start_soon(bench.ask_all, *TREE[9:])
                await wait_all_tasks_blocked()
                if stopped_at == 2:
                    gates[0].opened.set()
                    await gates[1].arrived.wait()
                scope.cancel()
        for gate in gates:
            gate.opened.set()
    assert bench.told == dict.fromkeys([key for key in TREE if key != TREE[8]])


_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)


@given(_names, st.lists(_names, max_size=20))
def test_a_listing_from_just_before_a_key_has_it(key: str, others: list[str]) -> None:
    after = _just_before(key)
    assert after < key
    assert after.encode() < key.encode()
    skipped = [other for other in others if other <= after]
    assert key not in skipped


@pytest.mark.parametrize("key", ["f0100", "a9", "dir/", "x-a", "name.txt"])
def test_little_is_listed_before_a_key(key: str) -> None:
    """A name that goes on after a smaller last character lies between; the listing must not begin there."""
    for last in map(chr, range(ord("!"), ord(key[-1]))):
        assert f"{key[:-1]}{last}0123" < _just_before(key)


_paths = st.text("ab/.", min_size=1, max_size=6)


@given(st.sets(_paths, max_size=40), st.integers(1, 50), st.data())
def test_all_that_is_there_is_found(keys: set[str], page_keys: int, data: st.DataObject) -> None:
    store = MemoryStore()
    store.page_keys = page_keys
    for key in keys:
        store.set(key, key.encode())
    wanted = data.draw(st.sets(_paths | st.sampled_from(sorted(keys) or ["a"]), max_size=40))
    expected = {key: store.version(key).etag for key in wanted & keys}
    assert trio.run(Looks(store).etags, wanted) == expected
