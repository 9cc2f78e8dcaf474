"""Directories of others' objects get other names: what that costs, and what is neither overwritten nor lost by it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.errors import ServerFault
from spacesfs.client.models import Acl, CopyResult, ObjectProperties
from spacesfs.errors import Conflict
from spacesfs.tree.inodes import ROOT_NUMBER
from tests.filesystem.assembled import Host
from tests.filesystem.in_memory import Machine, Running
from tests.memory_store import MemoryStore

KEYS = [f"d{number % 9}/f{number:03}" for number in range(100)]
CARRIED = ObjectProperties(content_type="text/x-c", metadata={"mode": "33152"}, acl="public-read", tags="a=b")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, 0)
    for path in KEYS:
        machine.store.set(f"old/{path}", path.encode(), CARRIED)
    return machine


def host_of(machine: Machine, running: Running) -> Host:
    machine.store.hook = machine.store.late_hook = MemoryStore().hook
    return Host(running.parts.filesystem, running.parts, None)  # type: ignore[arg-type]  # its store has no wire


async def mode_of(host: Host, path: str) -> int:
    inode = host.parts.table[ROOT_NUMBER]
    for segment in path.split("/"):
        inode = await host.fs.lookup(inode.number, segment.encode())
    return inode.attributes.mode & 0o777


async def test_requests(machine: Machine, autojump_clock: MockClock) -> None:
    """What nobody knows of a key is its ACL; the rest is in listings."""
    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.fs.lookup(ROOT_NUMBER, b"old")
        machine.store.calls.clear()
        await host.rename("old", "new")
        await host.settle()
        count = machine.store.count()
        assert (count.pop("copy"), count.pop("get_acl"), count.pop("delete_many")) == (len(KEYS), len(KEYS), 1)
        assert count.pop("list_page") <= len(KEYS) / 8
        assert count.pop("head", 0) <= len(KEYS) / 8  # where fewer than four are about to be copied
        assert not count
    for path in KEYS:
        assert machine.store.body(f"new/{path}") == path.encode()
        assert machine.store.info(f"new/{path}").properties.metadata == CARRIED.metadata
        assert await machine.store.get_acl(f"new/{path}") == "public-read"
    assert len(machine.store.names()) == len(KEYS)


async def test_what_was_not_described_is_when_somebody_looks(machine: Machine, autojump_clock: MockClock) -> None:
    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.rename("old", "new")
        await host.settle()
        machine.store.calls.clear()
        assert await mode_of(host, f"new/{KEYS[0]}") == 0o600
        assert await mode_of(host, f"new/{KEYS[0]}") == 0o600
        assert machine.store.count()["head"] <= 2  # of what is shown, and perhaps of the one that follows


async def test_what_was_described_is_described_under_the_new_name(machine: Machine, autojump_clock: MockClock) -> None:
    async with machine.mounted() as running:
        host = host_of(machine, running)
        assert await mode_of(host, f"old/{KEYS[0]}") == 0o600
        await host.rename("old", "new")
        await host.settle()
        await trio.sleep(100)  # until it is looked at anew
        machine.store.calls.clear()
        assert await mode_of(host, f"new/{KEYS[0]}") == 0o600
        assert ("head", f"new/{KEYS[0]}") not in machine.store.calls


async def test_what_another_host_made_of_it_is_described_not_what_it_was(
    machine: Machine, autojump_clock: MockClock
) -> None:
    """The same bytes with another mode: only the time of the listing tells that what is known is old."""
    async with machine.mounted() as running:
        host = host_of(machine, running)
        key = f"old/{KEYS[0]}"
        assert await mode_of(host, key) == 0o600
        machine.store.set(key, KEYS[0].encode(), ObjectProperties(metadata={"mode": "33188"}))
        await host.rename("old", "new")
        await host.settle()
        await trio.sleep(100)
        assert await mode_of(host, f"new/{KEYS[0]}") == 0o644


async def test_tags_survive_a_rename_and_what_follows(machine: Machine, autojump_clock: MockClock) -> None:
    async with machine.mounted() as running:
        host = host_of(machine, running)
        machine.store.set("file", b"x", CARRIED)
        await host.rename("file", "renamed")
        await host.settle()
        await host.chmod("renamed", 0o640)
        await host.settle()
    assert await machine.store.get_tags("renamed") == "a=b"
    assert await machine.store.get_acl("renamed") == "public-read"


@pytest.mark.parametrize("restarts", [True, False])
async def test_what_another_host_puts_under_the_new_name_stays(
    machine: Machine, autojump_clock: MockClock, *, restarts: bool
) -> None:
    """Ours is kept beside it; one that it makes while others are copied, too."""
    taken = {f"new/{KEYS[5]}": "early", f"new/{KEYS[60]}": "late"}

    async def put(call: str, key: str) -> None:
        if call == "copy" and "late" in taken.values():
            machine.store.set(f"new/{KEYS[60]}", b"late")

    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.rename("old", "new")
        machine.store.set(f"new/{KEYS[5]}", b"early")
        if restarts:
            running.crash()
        else:
            machine.store.hook = put
            await trio.sleep(100)
    machine.store.set(f"new/{KEYS[60]}", b"late")
    async with machine.mounted() as running:
        host = host_of(machine, running)
        with pytest.raises(Conflict) if restarts else nullcontext():
            await host.settle()  # which tells of what was kept beside
        await host.settle()
        assert not list(running.parts.ledger.overlay)
    held = {key: machine.store.body(key) for key in machine.store.names()}
    for number, theirs in ((5, b"early"), (60, b"late")):
        assert held.pop(f"new/{KEYS[number]}") == theirs
        (beside,) = [key for key in held if key.startswith(f"new/{KEYS[number]}.conflict-")]
        assert held.pop(beside) == KEYS[number].encode()
    assert held == {f"new/{path}": path.encode() for path in KEYS if path not in (KEYS[5], KEYS[60])}


async def test_what_another_host_changes_under_the_old_name_stays(machine: Machine, autojump_clock: MockClock) -> None:
    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.rename("old", "new")
        machine.store.set(f"old/{KEYS[5]}", b"theirs")
        machine.store.remove(f"old/{KEYS[6]}")
        await trio.sleep(100)
        assert not list(running.parts.ledger.overlay)
        assert len(running.parts.surroundings.notices) == 3  # two are not there, one is not removed
    held = {key: machine.store.body(key) for key in machine.store.names()}
    assert held.pop(f"old/{KEYS[5]}") == b"theirs"
    assert held == {f"new/{path}": path.encode() for path in KEYS if path not in (KEYS[5], KEYS[6])}


@pytest.mark.parametrize("call", ["list_page", "get_acl", "copy", "head", "delete_many"])
@pytest.mark.parametrize("is_lost", [True, False])
async def test_what_fails_is_done_in_the_end(
    machine: Machine, autojump_clock: MockClock, call: str, *, is_lost: bool
) -> None:
    failures = 0

    async def fail(name: str, key: str) -> None:
        nonlocal failures
        if name == call and failures < 10:
            failures += 1
            raise ServerFault("out of order", key=key)

    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.rename("old", "new")
        if is_lost:
            machine.store.late_hook = fail
        else:
            machine.store.hook = fail
        await trio.sleep(300)
        assert not list(running.parts.ledger.overlay)
        assert list(running.parts.surroundings.notices) == []
    assert {key: machine.store.body(key) for key in machine.store.names()} == {
        f"new/{path}": path.encode() for path in KEYS
    }


class OtherServer(MemoryStore):
    """Gives copies of objects that went up in parts an ETag of their own, and ignores which version is to be copied."""

    async def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source_etag: str | None = None,  # noqa: ARG002
        replace: ObjectProperties | None = None,
        acl: Acl | None = None,
    ) -> CopyResult:
        result = await super().copy(source_key, target_key, replace=replace, acl=acl)
        etag = f"c{result.etag}" if "-" in result.etag else result.etag
        self.set(target_key, self.body(source_key), CARRIED, etag=etag)
        return CopyResult(etag, result.last_modified_ns)


@pytest.mark.parametrize("changes", [True, False])
@pytest.mark.parametrize("suffix", ["", "-2"], ids=["one request", "parts"])
async def test_a_server_that_ignores_what_is_to_be_copied(
    machine: Machine, autojump_clock: MockClock, suffix: str, *, changes: bool
) -> None:
    """That the source is the one that was meant is found by its ETag; it is deleted only then."""
    machine.store = store = OtherServer()
    store.set("old/f", b"ours", etag="1" * 32 + suffix)

    async def change(call: str, _: str) -> None:
        if call == "copy" and changes:
            store.set("old/f", b"theirs", etag="2" * 32 + suffix)

    async with machine.mounted() as running:
        host = host_of(machine, running)
        await host.rename("old", "new")
        store.hook = change
        await trio.sleep(100)
        assert not list(running.parts.ledger.overlay)
        assert len(running.parts.surroundings.notices) == 2 * changes
    if changes:
        assert store.body("old/f") == b"theirs"
    else:
        assert (store.names(), store.body("new/f")) == (["new/f"], b"ours")
