"""Changes folded, ordered and sent: the whole mount in memory, every request counted, in virtual time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.errors import ServerFault
from spacesfs.client.models import ObjectProperties
from spacesfs.filesystem import AttributeChange, Caller
from tests.filesystem.assembled import Host
from tests.filesystem.in_memory import GRACE_SECONDS, Machine, Running
from tests.memory_store import Gate, MemoryStore

CARRIED = ObjectProperties(content_type="text/x-c", metadata={"x": "y"}, acl="public-read", tags="a=b")
CHANGES = ("put", "copy", "delete", "delete_many")


class Bench:
    """A host over a store in memory; nothing takes time unless a test says so."""

    def __init__(self, machine: Machine, running: Running) -> None:
        self.store: MemoryStore = machine.store
        self.store.hook, self.store.late_hook = MemoryStore().hook, self._note
        self._changes: list[tuple[str, str]] = []
        self.parts = running.parts
        self.host = Host(running.parts.filesystem, running.parts, None)  # type: ignore[arg-type]
        self.notices = running.parts.surroundings.notices

    async def write_as(self, thread: int, name: str, data: bytes) -> None:
        """Write a file as another program, which says nothing about the files of the first."""
        handle, _ = await self.host.fs.create(1, name.encode(), 0o644, os.O_RDWR, Caller(1000, 1000, thread))
        await self.host.fs.files.write(handle, 0, data)
        await self.host.close(handle)

    async def touch(self, name: str) -> None:
        inode = await self.host.fs.lookup(1, name.encode())
        await self.host.fs.setattr(inode.number, AttributeChange(mtime_ns=10**18), None)

    async def unlink(self, name: str) -> None:
        await self.host.fs.names.unlink(1, name.encode())

    async def _note(self, call: str, key: str) -> None:
        if call in CHANGES:
            self._changes.append((call, key))

    def changes(self) -> list[tuple[str, str]]:
        """Return the requests that changed the Space since the last time."""
        made, self._changes = self._changes, []
        return made

    async def settle(self) -> None:
        await self.host.settle()
        assert list(self.parts.ledger.overlay) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@asynccontextmanager
async def mounted(machine: Machine) -> AsyncIterator[Bench]:
    async with machine.mounted() as running:
        yield Bench(machine, running)


Script = Callable[[Bench], Awaitable[None]]


async def save_as_rsync_does(bench: Bench) -> None:
    await bench.host.write(".tmp", b"content")
    await bench.host.chmod(".tmp", 0o600)
    await bench.touch(".tmp")
    await bench.host.rename(".tmp", "final")


async def write_ten_times(bench: Bench) -> None:
    for number in range(10):
        await bench.host.write("final", b"%d" % number)


async def rename_over_pending(bench: Bench) -> None:
    await bench.host.write("final", b"older")
    await bench.write_as(2, "tmp", b"newer")
    await bench.host.rename("tmp", "final")


async def create_and_unlink(bench: Bench) -> None:
    await bench.host.write("tmp", b"content")
    await bench.unlink("tmp")


async def rename_there_and_back(bench: Bench) -> None:
    await bench.host.rename("old", "elsewhere")
    await bench.host.rename("elsewhere", "old")


async def unlink_and_create(bench: Bench) -> None:
    await bench.unlink("old")
    await bench.host.write("old", b"new")


async def chmod_twice(bench: Bench) -> None:
    await bench.host.chmod("old", 0o600)
    await bench.host.chmod("old", 0o640)


async def make_and_remove_a_directory(bench: Bench) -> None:
    await bench.host.fs.names.mkdir(1, b"d", 0o755, 1000, 1000)
    await bench.host.fs.names.rmdir(1, b"d")


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        (save_as_rsync_does, [("put", "final")]),
        (write_ten_times, [("put", "final")]),
        (rename_over_pending, [("put", "final")]),
        (create_and_unlink, []),
        (rename_there_and_back, []),
        (unlink_and_create, [("put", "old")]),
        (chmod_twice, [("copy", "old")]),
        (make_and_remove_a_directory, []),
    ],
)
async def test_what_is_left_of_many_calls(
    folder: Path, autojump_clock: MockClock, script: Script, changes: list[tuple[str, str]]
) -> None:
    machine = Machine(folder, 0)
    machine.store.set("old", b"old", CARRIED)
    async with mounted(machine) as bench:
        await script(bench)
        await bench.settle()
        assert bench.changes() == changes


async def test_properties_survive(folder: Path, autojump_clock: MockClock) -> None:
    machine = Machine(folder, 0)
    for name in ("written", "moved", "changed"):
        machine.store.set(name, b"old", CARRIED)
    async with mounted(machine) as bench:
        await bench.host.write("written", b"new")
        await bench.host.rename("moved", "there")
        await bench.host.chmod("changed", 0o600)
        await bench.settle()
        for name in ("written", "there", "changed"):
            info = bench.store.info(name)
            assert (info.properties.content_type, info.properties.metadata["x"]) == ("text/x-c", "y")
            assert (await bench.store.get_acl(name), await bench.store.get_tags(name)) == ("public-read", "a=b")


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
async def test_names_that_change_places(folder: Path, autojump_clock: MockClock, names: tuple[str, ...]) -> None:
    machine = Machine(folder, 0)
    for name in names:
        machine.store.set(name, name.encode(), CARRIED)
    async with mounted(machine) as bench:
        await bench.host.rename(names[0], "third")
        for name, new_name in zip(names[1:], names, strict=False):
            await bench.host.rename(name, new_name)
        await bench.host.rename("third", names[-1])
        await bench.host.settle()
        await trio.sleep(10 * GRACE_SECONDS)
        assert {name: bench.store.body(name) for name in bench.store.names()} == dict(
            zip(names, (name.encode() for name in (*names[1:], names[0])), strict=True)
        )
        assert list(bench.notices) == []


async def test_a_rename_over_a_file_in_flight(folder: Path, autojump_clock: MockClock) -> None:
    machine = Machine(folder, 0)
    async with mounted(machine) as bench:
        await bench.host.write("final", b"older")
        bench.store.hook = gate = Gate("put", "final")
        await gate.arrived.wait()
        await bench.host.write("tmp", b"newer")
        await bench.host.rename("tmp", "final")
        gate.opened.set()
        await bench.settle()
        assert {name: bench.store.body(name) for name in bench.store.names()} == {"final": b"newer"}
        assert bench.changes() == [("put", "final"), ("put", "final")]
        assert list(bench.notices) == []


async def test_a_file_unlinked_in_flight(folder: Path, autojump_clock: MockClock) -> None:
    machine = Machine(folder, 0)
    async with mounted(machine) as bench:
        await bench.host.write("f", b"x")
        bench.store.hook = gate = Gate("put", "f")
        await gate.arrived.wait()
        await bench.unlink("f")
        gate.opened.set()
        await bench.settle()
        assert bench.store.names() == []


@pytest.mark.parametrize("call", ["put", "copy", "delete"])
@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize("restarts", [True, False])
async def test_what_failed_is_done_in_the_end(
    folder: Path, autojump_clock: MockClock, call: str, is_lost: bool, restarts: bool
) -> None:
    """A request that failed, with or without effect, is made good; also by the next process."""
    machine = Machine(folder, 0)
    for name in ("old", "gone"):
        machine.store.set(name, name.encode())

    async def fail(name: str, _: str) -> None:
        if name.startswith(call):
            raise ServerFault("out of order")

    async with machine.mounted() as running:
        bench = Bench(machine, running)
        if is_lost:
            bench.store.late_hook = fail
        else:
            bench.store.hook = fail
        await bench.host.write("written", b"new")
        await bench.host.rename("old", "moved")
        await bench.unlink("gone")
        with pytest.raises(ServerFault):
            await bench.host.settle()
        if restarts:
            running.crash()
        else:
            bench.store.hook = bench.store.late_hook = MemoryStore().hook
            await bench.settle()
    async with mounted(machine) as bench:
        await bench.settle()
        assert {name: bench.store.body(name) for name in bench.store.names()} == {"written": b"new", "moved": b"old"}
        assert list(bench.notices) == []


async def test_what_another_host_changed_is_not_replaced(folder: Path, autojump_clock: MockClock) -> None:
    machine = Machine(folder, 0)
    for name in ("written", "replaced", "gone"):
        machine.store.set(name, b"old")
    async with mounted(machine) as bench:
        await bench.host.write("written", b"ours")
        await bench.write_as(2, "tmp", b"ours, too")
        await bench.host.rename("tmp", "replaced")
        await bench.unlink("gone")
        for name in ("written", "replaced", "gone"):
            bench.store.set(name, b"theirs")
        await trio.sleep(100)
        bodies = {name: bench.store.body(name) for name in bench.store.names()}
        assert {bodies[name] for name in ("written", "replaced", "gone")} == {b"theirs"}
        beside = {name.partition(".conflict-")[0]: body for name, body in bodies.items() if ".conflict-" in name}
        assert beside == {"written": b"ours", "replaced": b"ours, too"}
        assert len(bench.notices) == 3


async def test_a_refused_change_is_withdrawn_where_it_means_the_space(folder: Path, autojump_clock: MockClock) -> None:
    machine = Machine(folder, 0, is_direct=True)
    machine.store.set("old", b"old")
    async with mounted(machine) as bench:

        async def fail(name: str, _: str) -> None:
            if name in CHANGES:
                raise ServerFault("out of order")

        bench.store.hook = fail
        with pytest.raises(ServerFault):
            await bench.host.chmod("old", 0o600)
        with pytest.raises(ServerFault):
            await bench.host.fs.names.mkdir(1, b"d", 0o755, 1000, 1000)
        bench.store.hook = MemoryStore().hook
        await trio.sleep(100)
        assert (bench.store.names(), list(bench.parts.ledger.overlay)) == (["old"], [])
