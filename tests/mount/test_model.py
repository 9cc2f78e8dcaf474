"""Random work on the mount and on a plain directory side by side: every result, error and byte is the same.

Some examples unmount and mount in the midst, others kill the mount and mount again. With SPACESFS_MODEL_EXAMPLES there
are as many examples as that says.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

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

EXAMPLES = int(os.environ.get("SPACESFS_MODEL_EXAMPLES", "60"))
STEPS = 60
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
ENDINGS = st.sampled_from(["none", "none", "none", "unmount", "kill"])

Outcome = tuple[str, Any]


MAPPER = """
import json, mmap, os, sys
for line in sys.stdin:
    path, offset, text = json.loads(line)
    data = bytes.fromhex(text)
    try:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            end = min(offset + len(data), len(mapped))
            mapped[offset:end] = data[:max(end - offset, 0)]
            mapped.flush()
        print("stored", flush=True)
    except (OSError, ValueError) as error:
        print(error.strerror if isinstance(error, OSError) else error, flush=True)
"""


class Mapper:
    """A program that changes files by mapping them: a mount that fails it kills it, and not us."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAPPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def store(self, path: Path, offset: int, data: bytes) -> str:
        """Change bytes below the size of a file, call msync, and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(path), offset, data.hex()]) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        assert told, f"the program ended with {self._process.wait()}"
        return told


class MountMachine(RuleBasedStateMachine):
    """A directory in the mount, and its model on the local disk; an open file is a pair of descriptors."""

    handles = Bundle("handles")

    def __init__(self, mount: Mount, mapper: Mapper, real: Path, model: Path) -> None:
        super().__init__()
        self.mount, self.mapper, self.real, self.model = mount, mapper, real, model
        self.open: set[tuple[int, int]] = set()
        self.ending = "none"

    @initialize(ending=ENDINGS)
    def make(self, ending: str) -> None:
        """Begin; an example mounts again at most once, for it takes as long as all other steps."""
        self.ending = ending
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

    @rule(name=NAMES, offset=OFFSETS, content=CONTENTS)
    def store(self, name: str, offset: int, content: bytes) -> None:
        self.same(lambda root: self.mapper.store(root / name, offset, content))

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

    @precondition(lambda self: self.ending == "unmount")
    @rule()
    def remount(self) -> None:
        self.ending = "none"
        self.close_all()
        self.mount.remount()
        self.same(snapshot)

    @precondition(lambda self: self.ending == "kill")
    @rule()
    def kill(self) -> None:
        """All is acknowledged: closed, or by fsync, with the files still open."""
        self.ending = "none"
        for pair in list(self.open):
            self.flush_by_handle(pair)
        os.killpg(self.mount.pid, signal.SIGKILL)
        self.mount.wait()
        for real, model in self.open:
            os.close(model)
            with suppress(OSError):  # of a mount that is gone
                os.close(real)
        self.open.clear()
        self.mount.expect_log("recover")
        self.mount.start()
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
@pytest.mark.deadline(280 + 5 * EXAMPLES)
@pytest.mark.timeout(300 + 5 * EXAMPLES)
def test_mount_behaves_as_a_plain_directory(folder: Path, mount: Mount, tmp_path: Path) -> None:
    machines: list[MountMachine] = []

    with Mapper() as mapper:

        class Machine(MountMachine):
            def __init__(self) -> None:
                number = str(len(machines))
                super().__init__(mount, mapper, folder / number, tmp_path / number)
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
