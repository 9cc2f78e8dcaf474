"""Objects stored over nothing but what is expected, on buckets that honour conditions and on others."""

from __future__ import annotations

import hashlib

import pytest

from spacesfs.client.errors import PreconditionFailed, ServerFault
from spacesfs.client.models import ObjectProperties
from spacesfs.errors import Conflict
from spacesfs.pending.conditions import ConditionalPuts
from tests.memory_store import Conditions, MemoryStore

NONE = ObjectProperties()
EVERY = pytest.mark.parametrize("conditions", ["honoured", "ignored", "versioned"])


class Bench:
    """A store, what was learned of it, and what was told to be remembered."""

    def __init__(self, conditions: Conditions = "honoured", *, known: bool | None = None) -> None:
        self.store = MemoryStore()
        self.store.conditions = conditions
        self.learned: list[tuple[str, str]] = []
        self.puts = ConditionalPuts(self.store, {}, lambda name, value: self.learned.append((name, value)))
        if known is not None:
            self.puts.learn(are_honoured=known)
            self.learned.clear()

    async def put(self, body: bytes, expected: str | None, ours: tuple[str, ...] = ()) -> str:
        mine = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return await self.puts.put("k", memoryview(body), NONE, expected, {*ours, mine})


@EVERY
async def test_a_new_object_and_the_next_versions(conditions: Conditions) -> None:
    bench = Bench(conditions)
    etag = await bench.put(b"0", None)
    for number in range(1, 4):
        etag = await bench.put(b"%d" % number, etag)
    assert (bench.store.body("k"), bench.store.version("k").etag) == (b"3", etag)
    assert bench.puts.are_honoured == (conditions == "honoured")
    assert bench.learned == [("honours-conditions", "yes" if conditions == "honoured" else "no")]
    bench.store.calls.clear()
    await bench.put(b"last", etag)
    assert bench.store.count() == ({"put": 1} if conditions == "honoured" else {"head": 1, "put": 1})


@EVERY
async def test_the_first_small_object_teaches(conditions: Conditions) -> None:
    bench = Bench(conditions)
    await bench.put(b"0", None)
    assert bench.store.count() == {"head": 1, "put": 2 if conditions == "honoured" else 3}
    assert bench.puts.are_honoured == (conditions == "honoured")


async def test_an_object_that_another_host_removes_teaches_nothing_wrong() -> None:
    bench = Bench()

    async def remove_once(call: str, key: str) -> None:
        if bench.store.calls.count(("put", key)) == 1:
            bench.store.remove(key)

    bench.store.late_hook = remove_once
    await bench.put(b"0", None)
    assert bench.puts.are_honoured


async def test_a_request_of_ours_that_was_on_its_way_teaches_nothing_wrong() -> None:
    bench = Bench(known=True)
    expected = bench.store.set("k", b"same").etag
    refusals = iter([PreconditionFailed("an earlier one was stored at the same time")])

    async def refuse_once(call: str, key: str) -> None:
        if call == "put" and (refusal := next(refusals, None)) is not None:
            raise refusal

    bench.store.hook = refuse_once
    await bench.put(b"same", expected)
    assert bench.puts.are_honoured


async def test_a_large_object_is_not_sent_twice() -> None:
    bench = Bench()
    await bench.put(bytes(1 << 20), None)
    assert (bench.store.count(), bench.puts.are_honoured) == ({"head": 1, "put": 1}, None)


async def test_a_question_without_an_answer_fails_nobody() -> None:
    bench = Bench()

    async def fail(call: str, key: str) -> None:
        if bench.store.count().get("put", 0) > 1:
            raise ServerFault("no answer")

    bench.store.hook = fail
    await bench.put(b"0", None)
    assert (bench.store.body("k"), bench.puts.are_honoured) == (b"0", None)


@EVERY
async def test_another_version_than_expected_stays(conditions: Conditions) -> None:
    bench = Bench(conditions)
    first = await bench.put(b"ours", None)
    theirs = bench.store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await bench.put(b"new", first)
    assert bench.store.version("k") == theirs


@pytest.mark.parametrize(("conditions", "known"), [("honoured", None), ("honoured", True), ("ignored", False)])
async def test_what_is_there_unexpectedly_stays(conditions: Conditions, known: bool | None) -> None:
    bench = Bench(conditions, known=known)
    theirs = bench.store.set("k", b"theirs")
    with pytest.raises(Conflict):
        await bench.put(b"new", None)
    assert bench.store.version("k") == theirs


@EVERY
async def test_what_was_removed_comes_back(conditions: Conditions) -> None:
    for known in (None, conditions == "honoured"):
        bench = Bench(conditions, known=known)
        etag = await bench.put(b"ours", None)
        bench.store.remove("k")
        await bench.put(b"new", etag)
        assert bench.store.body("k") == b"new"


@EVERY
@pytest.mark.parametrize("is_new", [True, False])
async def test_a_lost_reply_is_no_conflict_with_ourselves(conditions: Conditions, is_new: bool) -> None:
    bench = Bench(conditions)
    expected = None if is_new else bench.store.set("k", b"old").etag

    async def lose(call: str, key: str) -> None:
        if call == "put":
            raise ServerFault("the reply was lost")

    bench.store.late_hook = lose
    with pytest.raises(ServerFault):
        await bench.put(b"first", expected)
    bench.store.late_hook = MemoryStore().late_hook
    etag = hashlib.md5(b"first", usedforsecurity=False).hexdigest()
    assert bench.store.version("k").etag == etag
    await bench.put(b"second", expected, ours=(etag,))
    assert bench.store.body("k") == b"second"


@pytest.mark.parametrize("expected_is_there", [True, False])
async def test_a_race_that_is_lost_is_a_conflict(expected_is_there: bool) -> None:
    bench = Bench("honoured", known=True)
    expected = bench.store.set("k", b"old").etag if expected_is_there else None

    async def race(call: str, key: str) -> None:
        if call == "put":
            bench.store.set("k", b"theirs %d" % len(bench.store.calls))

    bench.store.hook = race
    with pytest.raises(Conflict):
        await bench.put(b"ours", expected)
    assert bench.store.body("k").startswith(b"theirs")


async def test_a_name_that_is_free_again_teaches_nothing_wrong() -> None:
    bench = Bench("honoured")
    bench.puts.learn(are_honoured=True)
    bench.store.set("k", b"theirs")

    async def remove(call: str, key: str) -> None:
        if call == "head":
            bench.store.remove("k")

    bench.store.hook = remove
    await bench.put(b"ours", None)
    assert (bench.store.body("k"), bench.puts.are_honoured) == (b"ours", True)


async def test_check() -> None:
    bench = Bench()
    assert await bench.puts.check("k", None, ()) is None
    assert await bench.puts.check("k", "whatever it was", ()) is None
    etag = bench.store.set("k", b"x").etag
    assert await bench.puts.check("k", etag, ()) == etag
    assert await bench.puts.check("k", None, {etag}) == etag
    with pytest.raises(Conflict):
        await bench.puts.check("k", None, {"another"})
