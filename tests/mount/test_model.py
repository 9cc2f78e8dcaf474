"""Random work on the mount and on a plain directory side by side: every result, error and byte is the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.mount.mounting import Mount

EXAMPLES = 40
STEPS = 50
OPEN_FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_TRUNC,
    os.O_WRONLY | os.O_APPEND | os.O_CREAT,
]

# Few names, so that the steps meet each other; each may be a file, a directory or a link.
NAMES = st.sampled_from(["a", "b", "c", "a/x", "a/y", "b/x", "a/x/z"])
OFFSETS = st.one_of(st.integers(0, 20), st.integers(0, 200_000))
CONTENTS = st.builds(lambda seed, count: seed * count, st.binary(min_size=1, max_size=16), st.integers(0, 4_000))
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o700])

Outcome = tuple[str, Any]


class MountMachine(RuleBasedStateMachine):
    """A directory in the mount, and its model on the local disk; an open file is a pair of descriptors."""

    handles = Bundle("handles")

    def __init__(self, mount: Mount, real: Path, model: Path) -> None:
        super().__init__()
        self.mount, self.real, self.model = mount, real, model
        self.open: set[tuple[int, int]] = set()
        self.is_remounted = False

    @initialize()
    def make(self) -> None:
        for root in (self.real, self.model):
            (root / "a").mkdir(parents=True)

    def same(self, act: Callable[[Path], Any]) -> None:
        """Do one thing on both sides and compare what came of it."""
        expected, found = _outcome(act, self.model), _outcome(act, self.real)
        assert found == expected, f"the mount: {found}; a plain directory: {expected}"

    def same_by_handle(self, act: Callable[[int], Any], pair: tuple[int, int]) -> None:
        """Do one thing on both descriptors of an open file and compare what came of it."""
        if pair in self.open:
            found, expected = (_outcome(act, handle) for handle in pair)
            assert found == expected, f"the mount: {found}; a plain directory: {expected}"

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: bytes) -> None:
        self.same(lambda root: (root / name).write_bytes(content))

    @rule(name=NAMES, content=CONTENTS)
    def append(self, name: str, content: bytes) -> None:
        def act(root: Path) -> None:
            with (root / name).open("ab") as file:
                file.write(content)

        self.same(act)

    @rule(name=NAMES, offset=OFFSETS, content=CONTENTS)
    def patch(self, name: str, offset: int, content: bytes) -> None:
        def act(root: Path) -> None:
            with (root / name).open("r+b") as file:
                file.seek(offset)
                file.write(content)

        self.same(act)

    @rule(name=NAMES, size=OFFSETS)
    def truncate(self, name: str, size: int) -> None:
        self.same(lambda root: os.truncate(root / name, size))

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        self.same(lambda root: (root / name).read_bytes())

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.same(lambda root: (root / name).unlink())

    @rule(name=NAMES)
    def make_directory(self, name: str) -> None:
        self.same(lambda root: (root / name).mkdir())

    @rule(name=NAMES)
    def remove_directory(self, name: str) -> None:
        self.same(lambda root: (root / name).rmdir())

    @rule(name=NAMES, points_to=NAMES)
    def link(self, name: str, points_to: str) -> None:
        self.same(lambda root: (root / name).symlink_to(points_to))

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        self.same(lambda root: os.rename(root / old, root / new))

    @rule(name=NAMES, mode=MODES)
    def change_mode(self, name: str, mode: int) -> None:
        self.same(lambda root: (root / name).chmod(mode))

    @rule(name=NAMES, moment_ns=st.integers(0, 2**60))
    def set_time(self, name: str, moment_ns: int) -> None:
        def act(root: Path) -> int:
            os.utime(root / name, ns=(moment_ns, moment_ns))
            return (root / name).stat().st_mtime_ns

        self.same(act)

    @rule()
    def compare(self) -> None:
        self.same(snapshot)

    @rule(target=handles, name=NAMES, flags=st.sampled_from(OPEN_FLAGS))
    def open_file(self, name: str, flags: int) -> Any:
        opened: list[int] = []

        def act(root: Path) -> None:
            opened.append(os.open(root / name, flags, 0o644))

        try:
            self.same(act)
        except AssertionError:
            for handle in opened:
                os.close(handle)
            raise
        if not opened:
            return multiple()
        model, real = opened
        self.open.add((real, model))
        return (real, model)

    @rule(pair=handles, offset=OFFSETS, content=CONTENTS)
    def write_by_handle(self, pair: tuple[int, int], offset: int, content: bytes) -> None:
        self.same_by_handle(lambda handle: os.pwrite(handle, content, offset), pair)

    @rule(pair=handles, offset=OFFSETS, length=st.integers(0, 300_000))
    def read_by_handle(self, pair: tuple[int, int], offset: int, length: int) -> None:
        self.same_by_handle(lambda handle: os.pread(handle, length, offset), pair)

    @rule(pair=handles, size=OFFSETS)
    def truncate_by_handle(self, pair: tuple[int, int], size: int) -> None:
        self.same_by_handle(lambda handle: os.ftruncate(handle, size), pair)

    @rule(pair=handles)
    def flush_by_handle(self, pair: tuple[int, int]) -> None:
        def act(handle: int) -> int | None:
            os.fsync(handle)
            status = os.fstat(handle)
            return None if stat.S_ISDIR(status.st_mode) else status.st_size

        self.same_by_handle(act, pair)

    @rule(pair=consumes(handles))
    def close(self, pair: tuple[int, int]) -> None:
        self.same_by_handle(os.close, pair)
        self.open.discard(pair)

    @precondition(lambda self: not self.is_remounted)
    @rule()
    def remount(self) -> None:
        """Once an example, for it takes as long as all other steps."""
        self.close_all()
        self.mount.remount()
        self.is_remounted = True
        self.same(snapshot)

    def close_all(self) -> None:
        for pair in list(self.open):
            self.close(pair)

    def teardown(self) -> None:
        if self.real.exists():
            self.close_all()
            self.same(snapshot)


def _outcome(act: Callable[[Any], Any], subject: Any) -> Outcome:
    try:
        return "returned", act(subject)
    except OSError as error:
        return "failed", os.strerror(error.errno or 0)


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return type, mode and content of everything below a directory; for a link its target."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path).encode()
        else:
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            assert stat.S_ISDIR(status.st_mode) or len(content) == status.st_size
        found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


@pytest.mark.slow
@pytest.mark.deadline(280)
def test_mount_behaves_as_a_plain_directory(folder: Path, mount: Mount, tmp_path: Path) -> None:
    machines: list[MountMachine] = []

    class Machine(MountMachine):
        def __init__(self) -> None:
            number = str(len(machines))
            super().__init__(mount, folder / number, tmp_path / number)
            machines.append(self)

    # Without shrinking, which would take minutes here: the steps of a failure are few enough to read.
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
    mount.remount()
    for done in machines:
        done.same(snapshot)
