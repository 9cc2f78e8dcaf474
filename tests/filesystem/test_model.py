"""The whole mount but the kernel against a plain tree: random calls, faults of the Space, crashes of the process.

What is acknowledged is seen at once, outlives a crash, and is in the Space after a sync; nothing else is left behind.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from spacesfs.client.errors import SpacesError
from spacesfs.content import file, plan, staged
from spacesfs.errors import (
    Exists,
    FsError,
    InvalidCall,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    StaleFile,
)
from spacesfs.filesystem import AttributeChange, Caller, FileSystem
from spacesfs.pending import executor, streaming
from spacesfs.tree.inodes import ROOT_NUMBER, Inode
from tests.filesystem.in_memory import Machine, Running, spins_noticed

KIB = 1 << 10
PATHS = st.lists(st.sampled_from(["a", "b", "d"]), min_size=1, max_size=3).map("/".join)
DATA = st.builds(
    lambda size, byte: bytes([byte]) * size, st.sampled_from([0, 1, 30, 700, 2500, 6000]), st.integers(97, 122)
)
OFFSETS = st.sampled_from([0, 0, 10, 900, 3000])
SLOTS = st.integers(0, 2)
MODES = st.sampled_from([0o600, 0o640, 0o755])
THREADS = st.integers(1, 2)


# --- what should be


@dataclass(eq=False)
class File:
    """What is behind a name, or was when it was opened."""

    data: bytes = b""
    mode: int = 0o644


Tree: TypeAlias = "dict[str, File | Tree]"


def split(path: str) -> tuple[list[str], str]:
    *parents, name = path.split("/")
    return parents, name


class Model:
    """A tree of files in memory, with the rules of POSIX."""

    def __init__(self) -> None:
        self.root: Tree = {}

    def directory(self, path: list[str]) -> Tree:
        tree = self.root
        for name in path:
            found = tree.get(name)
            if found is None:
                raise NotFound
            if isinstance(found, File):
                raise NotDirectory
            tree = found
        return tree

    def place(self, path: str) -> tuple[Tree, str]:
        parents, name = split(path)
        return self.directory(parents), name

    def get(self, path: str) -> File | Tree:
        tree, name = self.place(path)
        if name not in tree:
            raise NotFound
        return tree[name]

    def file(self, path: str) -> File:
        found = self.get(path)
        if not isinstance(found, File):
            raise IsDirectory
        return found

    def files(self) -> dict[str, File]:
        return {path: found for path, found in walk(self.root) if isinstance(found, File)}

    def rename(self, path: str, new_path: str) -> None:
        source, name = self.place(path)
        target, new_name = self.place(new_path)
        if name not in source:
            raise NotFound
        moved, replaced = source[name], target.get(new_name)
        if moved is replaced:
            return
        if isinstance(replaced, File) and not isinstance(moved, File):
            raise NotDirectory
        if replaced is not None and not isinstance(replaced, File):
            if isinstance(moved, File):
                raise IsDirectory
            if replaced:
                raise NotEmpty
        if not isinstance(moved, File) and f"{new_path}/".startswith(f"{path}/"):
            raise InvalidCall
        del source[name]
        target[new_name] = moved


def walk(tree: Tree, prefix: str = "") -> Iterator[tuple[str, File | Tree]]:
    for name, found in list(tree.items()):
        yield prefix + name, found
        if not isinstance(found, File):
            yield from walk(found, f"{prefix}{name}/")


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    if not new:
        return data
    padded = data.ljust(offset, b"\0")
    return padded[:offset] + new + padded[offset + len(new) :]


# --- steps


@dataclass(frozen=True)
class Step:
    """One thing that happens. ``name`` is that of a method of `Player`."""

    name: str
    arguments: tuple[object, ...] = field(default=())

    def __repr__(self) -> str:
        return f"{self.name}{self.arguments}"


def step(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.tuples(*arguments).map(lambda values: Step(name, values))


CALLS = (
    step("put", PATHS, DATA, THREADS),
    step("put", PATHS, DATA, THREADS),
    step("patch", PATHS, OFFSETS, DATA),
    step("truncate", PATHS, OFFSETS),
    step("rename", PATHS, PATHS),
    step("rename", PATHS, PATHS),
    step("unlink", PATHS),
    step("mkdir", PATHS),
    step("mkdir", PATHS),
    step("rmdir", PATHS),
    step("chmod", PATHS, MODES),
    step("open", PATHS, SLOTS, st.booleans()),
    step("create", PATHS, SLOTS),
    step("write", SLOTS, OFFSETS, DATA),
    step("fsync", SLOTS),
    step("read", SLOTS),
    step("close", SLOTS),
    step("look", PATHS),
    step("check"),
    step("sleep", st.sampled_from([0.001, 0.3, 2.0, 100.0])),
    step("sync"),
)
TROUBLE = (step("faults", st.sampled_from([0.0, 0.3, 1.0])), step("crash"), step("crash"))


@dataclass
class Handle:
    """A file that is open."""

    number: int
    file: File
    can_write: bool


class Player:
    """Makes steps in a mount and in the model."""

    def __init__(self, machine: Machine, model: Model) -> None:
        self.machine = machine
        self.model = model
        self.handles: dict[int, Handle] = {}
        self.unsaved: set[str] = set()
        self.running: Running | None = None

    @property
    def fs(self) -> FileSystem:
        assert self.running is not None
        return self.running.parts.filesystem

    # --- through the mount

    async def walk(self, parts: list[str], held: list[int]) -> Inode:
        inode = self.fs.inode(ROOT_NUMBER)
        for name in parts:
            inode = await self.fs.lookup(inode.number, name.encode())
            held.append(inode.number)
        return inode

    async def at(self, path: str, act: Callable[[int, bytes], object], *, whole: bool = False) -> object:
        """Look a path up as the kernel does, let something happen there, and let go."""
        held: list[int] = []
        parents, name = split(path)
        try:
            directory = await self.walk([*parents, name] if whole else parents, held)
            if not whole and not directory.attributes.is_directory:
                raise NotDirectory  # the kernel says so itself
            result = act(directory.number, name.encode())
            return await result if hasattr(result, "__await__") else result
        finally:
            for number in reversed(held):
                self.fs.forget(number, 1)

    async def expect(self, model: Callable[[], None], real: Callable[[], object]) -> bool:
        """Do one thing on both sides; say whether it was done. A fault of the Space does nothing at all."""
        try:
            await real()  # type: ignore[misc]
        except SpacesError:
            assert self.machine.weather.fault_share, "nothing was out of order"
            return False
        except FsError as error:
            with pytest.raises(type(error)):
                model()
            return False
        model()
        return True

    # --- calls on names

    async def put(self, path: str, data: bytes, thread: int) -> None:
        def model() -> None:
            tree, name = self.model.place(path)
            found = tree.setdefault(name, File())
            if not isinstance(found, File):
                raise IsDirectory

        async def create(parent: int, name: bytes) -> None:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            handle, inode = await self.fs.create(parent, name, 0o644, flags, Caller(1000, 1000, thread))
            model()
            found = self.model.file(path)
            found.data = b""
            try:
                if data:
                    await self.fs.files.write(handle, 0, data)
                    found.data = data
            finally:
                await self.end(handle)
                self.fs.forget(inode.number, 1)

        await self.expect(model, lambda: self.at(path, create))

    async def end(self, handle: int) -> None:
        """Close the only descriptor of a handle."""
        try:
            await self.fs.files.flush(handle)
        except SpacesError:
            assert self.machine.weather.fault_share or self.had_faults
        finally:
            await self.fs.files.release(handle)

    had_faults = False

    async def patch(self, path: str, offset: int, data: bytes) -> None:
        async def change(number: int, _: bytes) -> None:
            handle = await self.fs.open(number, os.O_RDWR)
            found = self.model.file(path)
            try:
                if data:
                    await self.fs.files.write(handle, offset, data)
                    found.data = patched(found.data, offset, data)
            finally:
                await self.end(handle)

        await self.expect(lambda: void(self.model.file(path)), lambda: self.at(path, change, whole=True))

    async def truncate(self, path: str, size: int) -> None:
        async def change(number: int, _: bytes) -> None:
            handle = await self.fs.open(number, os.O_RDWR)
            try:
                await self.fs.setattr(number, AttributeChange(size=size), handle)
                found = self.model.file(path)
                found.data = found.data[:size].ljust(size, b"\0")
            finally:
                await self.end(handle)

        await self.expect(lambda: void(self.model.file(path)), lambda: self.at(path, change, whole=True))

    async def rename(self, path: str, new_path: str) -> None:
        async def rename(parent: int, name: bytes) -> None:
            async def to(new_parent: int, new_name: bytes) -> None:
                await self.fs.names.rename(parent, name, new_parent, new_name, may_replace=True)

            await self.at(new_path, to)

        await self.expect(lambda: self.model.rename(path, new_path), lambda: self.at(path, rename))

    async def unlink(self, path: str) -> None:
        def model() -> None:
            self.model.file(path)
            tree, name = self.model.place(path)
            del tree[name]

        await self.expect(model, lambda: self.at(path, self.fs.names.unlink))

    async def mkdir(self, path: str) -> None:
        def model() -> None:
            tree, name = self.model.place(path)
            if name in tree:
                raise Exists
            tree[name] = {}

        async def make(parent: int, name: bytes) -> None:
            inode = await self.fs.names.mkdir(parent, name, 0o755, 1000, 1000)
            self.fs.forget(inode.number, 1)

        await self.expect(model, lambda: self.at(path, make))

    async def rmdir(self, path: str) -> None:
        def model() -> None:
            found = self.model.get(path)
            if isinstance(found, File):
                raise NotDirectory
            if found:
                raise NotEmpty
            tree, name = self.model.place(path)
            del tree[name]

        await self.expect(model, lambda: self.at(path, self.fs.names.rmdir))

    async def chmod(self, path: str, mode: int) -> None:
        def model() -> None:
            found = self.model.get(path)
            if isinstance(found, File):
                found.mode = mode

        async def change(number: int, _: bytes) -> None:
            await self.fs.setattr(number, AttributeChange(mode=mode), None)

        await self.expect(model, lambda: self.at(path, change, whole=True))

    async def look(self, path: str) -> None:
        async def look(number: int, _: bytes) -> None:
            inode = self.fs.inode(number)
            found = self.model.get(path)
            assert inode.attributes.is_directory != isinstance(found, File)
            if isinstance(found, File):
                assert self.fs.size_of(inode) == len(found.data)
                assert stat.S_IMODE(inode.attributes.mode) == found.mode

        await self.expect(lambda: void(self.model.get(path)), lambda: self.at(path, look, whole=True))

    # --- calls on handles

    async def open(self, path: str, slot: int, can_write: bool) -> None:
        if slot in self.handles:
            return

        async def open_(number: int, _: bytes) -> None:
            handle = await self.fs.open(number, os.O_RDWR if can_write else os.O_RDONLY)
            self.handles[slot] = Handle(handle, self.model.file(path), can_write)

        await self.expect(lambda: void(self.model.file(path)), lambda: self.at(path, open_, whole=True))

    async def create(self, path: str, slot: int) -> None:
        if slot in self.handles:
            return

        def model() -> None:
            tree, name = self.model.place(path)
            found = tree.setdefault(name, File())
            if not isinstance(found, File):
                raise IsDirectory

        async def create(parent: int, name: bytes) -> None:
            handle, inode = await self.fs.create(parent, name, 0o644, os.O_RDWR | os.O_CREAT, Caller(1000, 1000))
            self.fs.forget(inode.number, 1)
            model()
            self.handles[slot] = Handle(handle, self.model.file(path), can_write=True)

        await self.expect(model, lambda: self.at(path, create))

    async def write(self, slot: int, offset: int, data: bytes) -> None:
        handle = self.handles.get(slot)
        if handle is None or not handle.can_write or not data:
            return
        with self.troubled(handle):
            await self.fs.files.write(handle.number, offset, data)
            handle.file.data = patched(handle.file.data, offset, data)

    async def fsync(self, slot: int) -> None:
        handle = self.handles.get(slot)
        if handle is not None:
            with self.troubled(handle):
                await self.fs.files.fsync(handle.number)

    async def read(self, slot: int) -> None:
        handle = self.handles.get(slot)
        if handle is not None:
            with self.troubled(handle):
                assert bytes(await self.fs.read(handle.number, 0, 1 << 20)) == handle.file.data

    async def close(self, slot: int) -> None:
        handle = self.handles.pop(slot, None)
        if handle is not None:
            await self.end(handle.number)

    def troubled(self, handle: Handle) -> suppress:
        """Faults may fail a call; one whose file lost its name while the Space was out of order may have lost it."""
        is_linked = handle.file in self.model.files().values()
        if not self.had_faults:
            return suppress(_Nothing)
        return suppress(SpacesError) if is_linked else suppress(SpacesError, StaleFile)

    # --- all of it

    async def check(self) -> None:
        """Look at everything through the mount; the Space is in order meanwhile."""
        share, self.machine.weather.fault_share = self.machine.weather.fault_share, 0.0
        try:
            found = dict(await self.found())
        finally:
            self.machine.weather.fault_share = share
        expected = {
            path: (entry.mode, entry.data) if isinstance(entry, File) else None for path, entry in walk(self.model.root)
        }
        assert found == expected

    async def found(self) -> list[tuple[str, tuple[int, bytes] | None]]:
        found: list[tuple[str, tuple[int, bytes] | None]] = []
        todo = [""]
        while todo:
            path = todo.pop()
            held: list[int] = []
            directory = await self.walk(path.split("/") if path else [], held)
            for name in await self.names(directory):
                below = f"{path}/{name}" if path else name
                inode = await self.fs.lookup(directory.number, name.encode())
                if inode.attributes.is_directory:
                    todo.append(below)
                    found.append((below, None))
                else:
                    handle = await self.fs.open(inode.number, os.O_RDONLY)
                    body = bytes(await self.fs.read(handle, 0, 1 << 20))
                    await self.fs.files.release(handle)
                    assert self.fs.size_of(inode) == len(body)
                    found.append((below, (stat.S_IMODE(inode.attributes.mode), body)))
                self.fs.forget(inode.number, 1)
            for number in reversed(held):
                self.fs.forget(number, 1)
        return found

    async def names(self, directory: Inode) -> list[str]:
        handle = await self.fs.opendir(directory.number)
        names, position = [], 0
        while (entry := self.fs.entry(handle, position)) is not None:
            name, inode, position = entry
            names.append(name)
            self.fs.drop_unused(inode)
        self.fs.releasedir(handle)
        return names

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def sync(self) -> None:
        try:
            async for _ in self.fs.sync(""):
                pass
        except (SpacesError, FsError):
            assert self.had_faults

    async def faults(self, share: float) -> None:
        self.machine.weather.fault_share = share
        self.had_faults |= share > 0

    def note_crash(self) -> None:
        """Remember which files have bytes that nobody promised to keep."""
        self.unsaved = {opened.inode.key for opened in self.fs.files.unsaved()}
        self.handles.clear()

    async def adopt(self) -> None:
        """After a crash: take over what has become of bytes that were not acknowledged; all else must be there."""
        self.machine.weather.fault_share, share = 0.0, self.machine.weather.fault_share
        for path in sorted(self.unsaved):
            file_ = self.model.file(path)

            async def look(number: int, _: bytes, file_: File = file_) -> None:
                inode = self.fs.inode(number)
                handle = await self.fs.open(number, os.O_RDONLY)
                file_.data = bytes(await self.fs.read(handle, 0, 1 << 20))
                file_.mode = stat.S_IMODE(inode.attributes.mode)
                await self.fs.files.release(handle)

            try:
                await self.at(path, look, whole=True)
            except NotFound:
                tree, name = self.model.place(path)
                del tree[name]
        self.unsaved.clear()
        self.machine.weather.fault_share = share
        await self.check()

    async def end_of_story(self) -> None:
        """Close everything, bring it to the Space, and compare."""
        self.machine.weather.fault_share = 0.0
        for slot in list(self.handles):
            await self.close(slot)
        await trio.sleep(200)  # failures of the past are over by then, and their retries
        async for _ in self.fs.sync(""):
            pass
        await trio.sleep(30)
        await self.check()
        assert self.running is not None
        store, parts = self.machine.store, self.running.parts
        assert list(parts.ledger.overlay) == []
        files = self.model.files()
        assert {key: store.body(key) for key in store.names() if not key.endswith("/")} == {
            path: found.data for path, found in files.items()
        }
        for path, found in files.items():
            told = store.info(path).properties.metadata.get("mode", "33188")
            assert stat.S_IMODE(int(told)) == found.mode, path
        directories = {f"{path}/" for path, found in walk(self.model.root) if not isinstance(found, File)}
        markers = {key for key in store.names() if key.endswith("/")}
        assert markers <= directories
        assert all(any(key.startswith(directory) for key in store.names()) for directory in directories)
        assert store.uploads == {}
        assert self.running.journal.rows() == {}
        assert (parts.staging.used_bytes, self.machine.staged()) == (0, [])


class _Nothing(Exception):
    """Never raised."""


def void(_: object) -> None:
    """Ask for something that may raise, and need no answer."""


def small_sizes(patch: pytest.MonkeyPatch) -> None:
    """Let a file of some kilobytes be what takes 16 MiB elsewhere: staged on disk, sent by parts, copied in ranges."""
    cells = tuple(512 << group for group in range(10))
    patch.setattr(plan, "_CELL_BYTES", cells)
    patch.setattr(plan, "_GROUP_STARTS", tuple(accumulate((size * 1000 for size in cells), initial=0)))
    patch.setattr(plan, "MAX_COPY_BYTES", 2 * KIB)
    for module in (executor, streaming, file):
        patch.setattr(module, "SINGLE_PUT_BYTES", 2 * KIB)
    patch.setattr(staged, "INLINE_BYTES", 256)


async def play(folder: Path, steps: list[Step], seed: int, planted: list[str]) -> None:
    machine, model = Machine(folder, seed), Model()
    for path in planted:
        with suppress(NotFound, NotDirectory):
            plant(machine, model, path)
    player = Player(machine, model)
    todo = iter(steps)
    is_over = False
    async with spins_noticed():
        while not is_over:
            async with machine.mounted() as running:
                player.running = running
                await player.adopt()
                is_over = await go_on(player, todo)
                if not is_over:
                    player.note_crash()
                    running.crash()


async def go_on(player: Player, todo: Iterator[Step]) -> bool:
    """Make steps until a crash; say whether it was the end."""
    assert player.running is not None
    parts = player.running.parts
    for each in todo:
        if each.name == "crash":
            return False
        await getattr(player, each.name)(*each.arguments)
        parts.ledger.overlay.check_invariants()
        parts.table.check_invariants()
    await player.end_of_story()
    return True


def plant(machine: Machine, model: Model, path: str) -> None:
    """Put an object that is older than the mount."""
    tree = model.root
    *parents, name = path.split("/")
    for parent in parents:
        found = tree.setdefault(parent, {})
        if isinstance(found, File):
            return
        tree = found
    if name not in tree:
        data = path.encode() * 200
        tree[name] = File(data)
        machine.store.set(path, data)


def run(steps: list[Step], seed: int, planted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        small_sizes(patch)
        trio.run(play, Path(folder), steps, seed, planted, clock=MockClock(autojump_threshold=0))


SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(steps=st.lists(st.one_of(CALLS), max_size=40), seed=st.integers(0, 1 << 16), planted=st.lists(PATHS, max_size=3))
def test_when_all_is_well(steps: list[Step], seed: int, planted: list[str]) -> None:
    run(steps, seed, planted)


@SETTINGS
@given(
    steps=st.lists(st.one_of(*CALLS, *TROUBLE), max_size=40),
    seed=st.integers(0, 1 << 16),
    planted=st.lists(PATHS, max_size=3),
)
def test_with_faults_and_crashes(steps: list[Step], seed: int, planted: list[str]) -> None:
    run(steps, seed, planted)
