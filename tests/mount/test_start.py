"""How a mount begins where another process was: waiting, taking over, refusing, and what it tells about that."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import (
    Account,
    BucketMaker,
    Mount,
    MountMaker,
    attempt,
    daemons_of,
    is_mounted,
    spacesfs_command,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

HOLD = """
import sys
from pathlib import Path
from spacesfs.pending.statedir import Identity, StateFolder
folder = StateFolder.claim(Path(sys.argv[1]), Identity(*sys.argv[2:5]), print, None)
folder.note("bringing the last changes to the Space")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def background(account: Account, new_bucket: BucketMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount, not started yet, that will serve from the background and log to its file."""
    mount = Mount(account, new_bucket(), tmp_path_factory.mktemp("m"))
    mount.options += ["--log-file", str(mount.log)]
    yield mount
    mount.close()


@pytest.fixture
def holder(background: Mount) -> Iterator[subprocess.Popen[str]]:
    """A process that has the state folder, as one that still drains."""
    arguments = (str(background.home / "state"), background.account.endpoint, background.source, "")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def begin(mount: Mount) -> subprocess.Popen[str]:
    """Run ``spacesfs mount``, which will wait."""
    command = spacesfs_command("mount", *mount.arguments())
    return subprocess.Popen(
        command, env=mount.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


def waiting_line(command: subprocess.Popen[str]) -> str:
    """Return the first line of a mount that waits."""
    assert command.stdout is not None
    return command.stdout.readline()


def state_of(mount: Mount) -> Path:
    """Return the folder of the mount's journal."""
    (path,) = (mount.home / "state").glob("*/journal.db")
    return path.parent


def leave_unsent(mount: Mount) -> None:
    """Close two files and kill the mount before anything is sent."""
    mount.options += ["--grace", "1h"]
    mount.start()
    (mount.path / "one").write_bytes(b"1")
    (mount.path / "two").write_bytes(b"22")
    mount.kill()
    mount.options = mount.options[:-2]


@pytest.mark.parametrize("end", ["release", "kill -9"])
def test_a_mount_waits_for_a_process_that_drains(background: Mount, holder: subprocess.Popen[str], end: str) -> None:
    with begin(background) as command:
        doing = "bringing the last changes to the Space"
        assert waiting_line(command) == f"waiting for {background.source}, held by process {holder.pid} ({doing})\n"
        assert not is_mounted(background.path)
        if end == "release":
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.close()
        else:
            holder.kill()
        said, complained = command.communicate(timeout=30)
    assert (command.returncode, complained) == (0, "")
    assert said == f"{background.source} is mounted on {background.path}\n"
    background.stop_in_background()


def test_ctrl_c_ends_the_waiting(background: Mount, holder: subprocess.Popen[str]) -> None:
    with begin(background) as command:
        assert waiting_line(command).startswith("waiting")
        os.killpg(command.pid, signal.SIGINT)
        _, complained = command.communicate(timeout=30)
    assert command.returncode == 130
    assert "Traceback" not in complained
    assert daemons_of(background.path) == []
    assert holder.poll() is None


def test_what_a_crash_left_is_announced_and_sent(s3: S3Client, background: Mount) -> None:
    leave_unsent(background)
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    line = "an earlier process left 2 changes, 3 bytes: they go to the Space now"
    assert line in done.stdout.splitlines()
    assert line in background.status()["notices"]
    assert line in background.log.read_text()
    assert (background.path / "two").read_bytes() == b"22"
    background.sync()
    assert s3.get_object(Bucket=background.source, Key="two")["Body"].read() == b"22"
    background.stop_in_background()


def test_one_journal_has_one_mount(background: Mount, new_mount: MountMaker) -> None:
    """The same Space again, or one that overlaps, is refused while the first serves."""
    mount: Mount = new_mount(background.source)
    for source, word in (
        (mount.source, f"use by process {mount.pid} (mounted on {mount.path})"),
        (f"{mount.source}:some/prefix", "overlaps"),
    ):
        arguments = [source, str(background.path), *background.account.options()]
        done = background.spacesfs("mount", *arguments, "--state-dir", str(mount.home / "state"))
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert word in line
        assert done.stdout == ""
        assert not is_mounted(background.path)


def test_unsent_changes_keep_others_out(background: Mount) -> None:
    leave_unsent(background)
    other = [f"{background.source}:some/prefix", *background.arguments()[1:]]
    done = background.spacesfs("mount", *other)
    assert done.returncode == 1
    assert f"`spacesfs sync {background.source}` first" in done.stderr


@pytest.fixture
def volatile() -> Iterator[Path]:
    """A folder in memory."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def test_a_journal_in_memory_makes_closes_mean_the_space(s3: S3Client, background: Mount, volatile: Path) -> None:
    background.options += ["--state-dir", str(volatile)]
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    assert f"the state folder {volatile} is in memory" in done.stdout
    assert "(durability space)" in done.stdout
    assert background.status()["durability"] == "space"
    (background.path / "f").write_bytes(b"content")
    assert s3.get_object(Bucket=background.source, Key="f")["Body"].read() == b"content"
    background.stop_in_background()


def test_a_journal_in_memory_that_was_asked_for(background: Mount, volatile: Path) -> None:
    background.options += ["--state-dir", str(volatile), "--durability", "journal"]
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    assert f"the state folder {volatile} is in memory" in done.stdout
    status = background.status()
    assert status["durability"] == "journal"
    assert any("is in memory" in notice for notice in status["notices"])
    background.stop_in_background()


def test_a_newer_journal_is_refused(background: Mount) -> None:
    leave_unsent(background)
    path = state_of(background) / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    for mode in ([], ["--foreground"]):
        done = attempt(*spacesfs_command("mount", *mode, *background.arguments()), env=background.environment)
        assert done.returncode == 1
        assert "schema version 999" in (done.stderr + background.log.read_text())
        assert "Traceback" not in done.stderr
    assert path.exists()


def test_a_damaged_journal_is_set_aside(background: Mount) -> None:
    leave_unsent(background)
    folder = state_of(background)
    for suffix in ("-wal", "-shm"):
        (folder / f"journal.db{suffix}").unlink(missing_ok=True)
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    (aside,) = folder.glob("journal.db.damaged-*")
    (notice,) = [line for line in done.stdout.splitlines() if "damaged" in line]
    assert str(aside) in notice
    assert notice in background.status()["notices"]
    background.stop_in_background()
