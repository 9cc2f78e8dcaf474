"""Removing many objects with few requests, and none that another host has changed."""

from __future__ import annotations

import pytest

from spacesfs.client.errors import ServerFault, SpacesError
from spacesfs.client.models import ObjectVersion
from spacesfs.errors import Conflict
from spacesfs.pending.intents import Absent, Intent
from spacesfs.pending.looks import Looks
from spacesfs.pending.removals import Removals
from tests.memory_store import MemoryStore


class Bench:
    """A store, and what becomes of intents to remove."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.confirmed: list[str] = []
        self.overtaken: list[str] = []
        self.lost: list[str] = []
        self.removals = Removals(
            self.store,
            Looks(self.store),
            lambda intent, _: self.confirmed.append(intent.key),
            lambda intent: self.overtaken.append(intent.key),
            lambda intent, _: self.lost.append(intent.key),
        )

    def plant(self, *keys: str) -> list[Intent]:
        return [Intent(key, 1, Absent(), self.store.set(key, key.encode()), 0.0) for key in keys]

    async def remove(self, *intents: Intent) -> None:
        await self.removals.remove(list(intents))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_one_object(bench: Bench) -> None:
    await bench.remove(*bench.plant("k"))
    assert (bench.store.names(), bench.confirmed) == ([], ["k"])
    assert bench.store.count() == {"head": 1, "delete": 1}


async def test_a_few_objects_are_asked_for_one_by_one(bench: Bench) -> None:
    await bench.remove(*bench.plant("a", "b", "d/c"))
    assert (bench.store.names(), sorted(bench.confirmed)) == ([], ["a", "b", "d/c"])
    assert bench.store.count() == {"head": 3, "delete_many": 1}


async def test_many_objects_of_a_directory_are_listed(bench: Bench) -> None:
    keys = [f"d/{number:03}" for number in range(500)]
    await bench.remove(*bench.plant(*keys))
    assert (bench.store.names(), sorted(bench.confirmed)) == ([], keys)
    assert bench.store.count() == {"list_page": 1, "delete_many": 1}


async def test_a_few_among_very_many_are_found_with_few_requests(bench: Bench) -> None:
    bench.store.page_keys = 10
    for number in range(200):
        bench.store.set(f"d/m{number:03}", b"")
    intents = bench.plant("d/a", "d/b", "d/c", "d/z")
    await bench.remove(*intents)
    assert sorted(bench.confirmed) == ["d/a", "d/b", "d/c", "d/z"]
    count = bench.store.count()
    assert count["list_page"] <= 2
    assert (count["head"], count["delete_many"]) == (1, 1), "what the listing did not reach is asked for"
    assert len(bench.store.names()) == 200


@pytest.mark.parametrize("others", [0, 2, 10])
async def test_what_another_host_changed_stays(bench: Bench, others: int) -> None:
    changed, *rest = bench.plant("d/k", *(f"d/o{number}" for number in range(others)))
    bench.store.set("d/k", b"theirs")
    if rest:
        await bench.remove(changed, *rest)
    else:
        with pytest.raises(Conflict):
            await bench.remove(changed)
    assert bench.store.names() == ["d/k"]
    assert bench.store.body("d/k") == b"theirs"
    assert (bench.overtaken, bench.lost) == (["d/k"], ["d/k"])
    assert sorted(bench.confirmed) == sorted(intent.key for intent in rest)


async def test_what_is_gone_already_is_confirmed(bench: Bench) -> None:
    intents = bench.plant("d/a", "d/b", "c")
    for key in ("d/a", "c"):
        bench.store.remove(key)
    await bench.remove(*intents)
    assert sorted(bench.confirmed) == ["c", "d/a", "d/b"]
    assert bench.store.count()["delete"] == 1


async def test_what_never_was_there_needs_no_request(bench: Bench) -> None:
    await bench.remove(Intent("k", 1, Absent(), None, 0.0))
    assert (bench.confirmed, bench.store.calls) == (["k"], [])


async def test_what_one_of_our_requests_made_goes_too(bench: Bench) -> None:
    made = bench.store.set("k", b"a reply was lost")
    await bench.remove(Intent("k", 1, Absent(), ObjectVersion("k", "older", 1), 0.0, attempts=(made.etag,)))
    assert (bench.store.names(), bench.confirmed) == ([], ["k"])


async def test_markers_are_removed_by_their_own_keys(bench: Bench) -> None:
    await bench.remove(*bench.plant("d/", "d/e/", *(f"d/{number}" for number in range(5))))
    assert bench.store.names() == []
    assert len(bench.confirmed) == 7


async def test_what_can_not_be_deleted_is_an_error_and_the_rest_goes(bench: Bench) -> None:
    intents = bench.plant("a", "b", "c")
    bench.store.undeletable = {"b"}
    with pytest.raises(SpacesError, match="1 of 3"):
        await bench.remove(*intents)
    assert (bench.store.names(), sorted(bench.confirmed)) == (["b"], ["a", "c"])


@pytest.mark.parametrize("call", ["head", "list_page", "delete_many"])
async def test_a_failure_confirms_nothing(bench: Bench, call: str) -> None:
    bench.store.page_keys = 5
    intents = bench.plant("x", *(f"d/{number}" for number in range(5)))

    async def fail(name: str, key: str) -> None:
        if name == call:
            raise ServerFault("out of order")

    bench.store.hook = fail
    with pytest.raises(ServerFault):
        await bench.remove(*intents)
    assert (len(bench.store.names()), bench.confirmed) == (6, [])
