"""One folder for each identity, one process in it, and no two that overlap."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spacesfs.content.records import UploadRecord
from spacesfs.errors import MountError
from spacesfs.pending.changes import DropIntent, SaveIntent, SaveUpload
from spacesfs.pending.journal import Journal
from spacesfs.pending.statedir import Identity, StateFolder, Unfinished, is_volatile, unfinished
from tests.pending.rows import present

ENDPOINT = "https://ams3.example.org"
HOLD = """
import sys
from pathlib import Path
from spacesfs.pending.statedir import Identity, StateFolder
folder = StateFolder.claim(Path(sys.argv[1]), Identity(*sys.argv[2:5]), lambda line: print(line, flush=True), None)
folder.note("draining: 12 changes left")
print("held", flush=True)
sys.stdin.readline()
"""


def identity(prefix: str = "", bucket: str = "bucket", endpoint: str = ENDPOINT) -> Identity:
    return Identity(endpoint, bucket, prefix)


def claim(state_dir: Path, which: Identity, timeout_seconds: float | None = 0.0) -> StateFolder:
    return StateFolder.claim(state_dir, which, lambda _: None, timeout_seconds)


def hold(state_dir: Path, which: Identity) -> subprocess.Popen[str]:
    """Return a process that claims the folder; its first line says what came of it."""
    command = [sys.executable, "-c", HOLD, str(state_dir), which.endpoint, which.bucket, which.prefix]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def leave_changes(folder: StateFolder, *keys: str) -> None:
    journal = Journal.open(folder.path, folder.identity)
    await journal.commit(*(SaveIntent(present(key)) for key in keys))
    await journal.aclose()


def test_a_folder_is_private_and_says_what_it_is(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = claim(tmp_path / "new" / "state", identity("p/"))
    finally:
        os.umask(old)
    assert folder.staged == folder.path / "staged"
    for path in (tmp_path / "new" / "state", folder.path, folder.staged):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("identity.json", "lock"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600
    assert json.loads((folder.path / "identity.json").read_text()) == {
        "endpoint": ENDPOINT,
        "bucket": "bucket",
        "prefix": "p/",
    }
    folder.release()


def test_each_identity_has_its_own_folder(tmp_path: Path) -> None:
    identities = [identity("a/"), identity("b/"), identity("a/", "other"), identity("a/", endpoint="http://localhost")]
    folders = [claim(tmp_path, one) for one in identities]
    assert len({folder.path for folder in folders}) == len(identities)
    for folder in folders:
        folder.release()
        folder.release()
    again = claim(tmp_path, identities[0])
    assert again.path == folders[0].path
    again.release()


def test_the_second_waits_until_the_first_lets_go(tmp_path: Path) -> None:
    folder = claim(tmp_path, identity("p/"))
    folder.note("serving /mnt/space")
    with hold(tmp_path, identity("p/")) as second:
        told = f"waiting for bucket:p, held by process {os.getpid()} (serving /mnt/space)"
        assert first_line(second) == told
        folder.release()
        assert first_line(second) == "held"
        second.communicate("\n")
    assert second.returncode == 0


def test_the_second_takes_over_when_the_first_dies(tmp_path: Path) -> None:
    with hold(tmp_path, identity()) as first:
        assert first_line(first) == "held"
        told: list[str] = []

        def kill(line: str) -> None:
            told.append(line)
            first.kill()

        folder = StateFolder.claim(tmp_path, identity(), kill, None)
        folder.release()
    assert told == [f"waiting for bucket, held by process {first.pid} (draining: 12 changes left)"]


def test_waiting_ends_at_the_deadline(tmp_path: Path) -> None:
    with hold(tmp_path, identity()) as first:
        assert first_line(first) == "held"
        with pytest.raises(MountError, match=rf"^bucket is still held by process {first.pid} \(draining.*\); wait"):
            claim(tmp_path, identity(), 0.3)
        first.communicate("\n")


def test_waiting_ends_by_ctrl_c(tmp_path: Path) -> None:
    folder = claim(tmp_path, identity())
    with hold(tmp_path, identity()) as second:
        assert first_line(second).startswith("waiting")
        second.send_signal(signal.SIGINT)
        second.communicate()
    assert second.returncode not in (0, None)
    folder.release()


OVERLAPS = [
    (identity(), identity("a/"), True),
    (identity("a/"), identity("a/b/"), True),
    (identity("a/"), identity("b/"), False),
    (identity("a/"), identity("ab/"), False),
    (identity("a/"), identity("a/", "other"), False),
    (identity(), identity("a/", endpoint="https://fra1.example.org"), False),
]


@pytest.mark.parametrize(("one", "other", "overlaps"), [*OVERLAPS, *((b, a, is_so) for a, b, is_so in OVERLAPS)])
async def test_overlap(tmp_path: Path, one: Identity, other: Identity, overlaps: bool) -> None:
    folder = claim(tmp_path, one)
    if not overlaps:
        claim(tmp_path, other).release()
        await leave_changes(folder, "a/x")
        folder.release()
        claim(tmp_path, other).release()
        return
    with pytest.raises(
        MountError, match=f"{other.space} overlaps {one.space}, which is in use by process {os.getpid()} "
    ):
        claim(tmp_path, other)
    await leave_changes(folder, "a/x")
    folder.release()
    with pytest.raises(MountError, match=f"not in the Space yet: run `spacesfs sync {one.space}` first$"):
        claim(tmp_path, other)
    journal = Journal.open(folder.path, one)
    await journal.commit(DropIntent("a/x"))
    await journal.aclose()
    claim(tmp_path, other).release()


def test_a_journal_that_cannot_be_read_counts_as_unfinished(tmp_path: Path) -> None:
    folder = claim(tmp_path, identity())
    (folder.path / "journal.db").write_bytes(b"no database" * 100)
    folder.release()
    assert unfinished(tmp_path) == [Unfinished(identity(), None)]
    with pytest.raises(MountError, match="spacesfs sync bucket"):
        claim(tmp_path, identity("a/"))


async def test_unfinished_journals_are_found_while_they_are_in_use(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "missing") == []
    folders = [claim(tmp_path, identity(prefix)) for prefix in ("a/", "b/", "c/")]
    await leave_changes(folders[0], "a/1", "a/2")
    await leave_changes(folders[1])
    journal = Journal.open(folders[2].path, folders[2].identity)
    await journal.commit(SaveUpload(UploadRecord("c/k", 1, "", 0.0)))
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "identity.json").write_text("[1, 2]")
    assert set(unfinished(tmp_path)) == {Unfinished(identity("a/"), 2), Unfinished(identity("c/"), 1)}
    await journal.commit(SaveIntent(present("c/k")))
    assert sum(pending or 0 for _, pending in unfinished(tmp_path)) == 4
    await journal.aclose()


def test_what_a_crash_left_is_counted(tmp_path: Path) -> None:
    folder = claim(tmp_path, identity())
    program = """
import sys, trio, os, signal
from pathlib import Path
from spacesfs.pending.journal import Journal
from spacesfs.pending.changes import SaveIntent
from tests.pending.rows import present
from spacesfs.pending.statedir import Identity
async def main():
    journal = Journal.open(Path(sys.argv[1]), Identity(*sys.argv[2:]))
    await journal.commit(SaveIntent(present("k")))
    os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""
    arguments = [sys.executable, "-c", program, str(folder.path), ENDPOINT, "bucket", ""]
    died = subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == -signal.SIGKILL
    assert unfinished(tmp_path) == [Unfinished(identity(), 1)]
    folder.release()


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MountError, match=r"can't use the state folder .*: "):
        claim(tmp_path / "file", identity())


def test_volatile() -> None:
    assert is_volatile(Path("/dev/shm"))  # noqa: S108 - the one place that is a tmpfs everywhere
    assert is_volatile(Path("/dev/shm/not/there"))  # noqa: S108 - as above
    assert not is_volatile(Path("/proc/self"))
    assert not is_volatile(Path("/usr"))


def test_of_many_that_overlap_and_start_at_once_one_gets_in(tmp_path: Path) -> None:
    processes = [hold(tmp_path, identity(prefix)) for prefix in ("", "a/", "a/b/", "a/b/c/")]
    lines = [first_line(process) for process in processes]
    assert sorted(lines) == ["", "", "", "held"]
    for process in processes:
        process.communicate("\n")
