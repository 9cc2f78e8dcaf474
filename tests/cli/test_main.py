"""The command as users meet it: exit statuses, one line for every failure, a quick start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from spacesfs import __version__
from spacesfs.cli.client import MountGone
from spacesfs.cli.failures import explain
from spacesfs.cli.output import counted, human_bytes, human_seconds
from spacesfs.config import OPTIONS
from tests.cli.running import complaint, spacesfs

COMMANDS = (
    *("mount", "umount", "install-unit", "list", "status", "sync", "set", "drop-cache", "warm", "config", "demo"),
    *("ls", "stat", "cat", "put", "get", "cp", "mv", "rm", "du"),
    *("acl", "share", "buckets", "uploads", "cdn", "doctor", "version"),
)


def test_version() -> None:
    done = spacesfs("--version")
    assert (done.stdout, done.returncode) == (f"spacesfs {__version__}\n", 0)


def test_help_names_every_command_and_option() -> None:
    shown = spacesfs("--help").stdout
    assert all(f"  {command} " in shown for command in COMMANDS)
    shown = spacesfs("mount", "--help").stdout
    assert all(option.flag in shown for option in OPTIONS.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = spacesfs(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: spacesfs {command}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "a command is missing"),
        (("config",), "a command is missing"),
        (("mnt",), "No such command 'mnt'"),
        (("umount",), "Missing argument 'MOUNTPOINT'"),
        (("mount", "b"), "Missing argument 'MOUNTPOINT'"),
        (("mount", "my-bucket", "/mnt", "--memry", "1G"), "Did you mean '--memory'?"),
        (("mount", "my-bucket", "/mnt", "--region", "fra1", "--memory", "lots"), "--memory: "),
        (("mount", "my-bucket:a/../b", "/mnt", "--region", "fra1"), "is not a prefix"),
        (("mount", "s3://my-bucket", "/mnt", "--region", "fra1"), "give BUCKET or BUCKET:PREFIX"),
    ],
)
def test_wrong_usage_ends_in_one_line_and_2(arguments: tuple[str, ...], words: str) -> None:
    assert words in complaint(*arguments, status=2)


@pytest.mark.parametrize("command", ["umount", "status", "sync"])
def test_a_directory_that_is_no_mount_ends_in_one_line_and_1(command: str, tmp_path: Path) -> None:
    assert str(tmp_path) in complaint(command, str(tmp_path), status=1)


def test_umount_leaves_other_file_systems_alone() -> None:
    assert complaint("umount", "/proc", status=1) == "/proc is not a Space but proc (proc); use umount"


def test_a_name_can_not_steer_the_terminal() -> None:
    line = complaint("umount", "/nowhere/\x1b]0;title\x07\u202e\n", status=1)
    assert "/nowhere/\\x1b]0;title\\x07\\u202e" in line


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    line = complaint("mount", "my-bucket", "/mnt", "--endpoint", "https://key:geheim@example.com", status=2)
    assert "geheim" not in line


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "spacesfs", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.stderr, done.returncode) == ("spacesfs: No space left on device\n", 1)


def test_a_bug_is_one_line_that_asks_for_a_report() -> None:
    failure = explain(ZeroDivisionError("division by zero"))
    assert failure == ("unexpected ZeroDivisionError: division by zero; please report this", 1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MountGone("the mount ended"), "the mount ended"),
        (PermissionError(13, "Permission denied", "/f"), "/f: Permission denied"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (click.ClickException("no server"), "no server"),
    ],
)
def test_failures_are_lines(error: Exception, line: str) -> None:
    assert explain(error) == (line, 1)


HEAVY = {"trio", "pyfuse3", "httpx", "moto", "rich", "pydantic"}
IMPORTED_BY = """
import sys
from spacesfs.cli.main import main
main(sys.argv[1:])
print("imported", *sys.modules)
"""


@pytest.mark.parametrize("arguments", [["--version"], ["list"], ["status"], ["umount", "/proc"], ["sync", "/proc"]])
def test_small_commands_start_quickly(arguments: list[str]) -> None:
    """They import none of what only a mount needs."""
    command = [sys.executable, "-c", IMPORTED_BY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_mount_loads_no_event_loop_before_it_forks() -> None:
    """Threads and wakeup descriptors do not survive a fork."""
    command = [sys.executable, "-c", IMPORTED_BY, "mount", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not {"trio", "pyfuse3", "httpx"} & set(done.stdout.splitlines()[-1].split())


def test_numbers_for_reading() -> None:
    assert [human_bytes(count) for count in (0, 1023, 1536, 5 * 2**20, 2**31, 2**42)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "2.0 GiB",
        "4.0 TiB",
    ]
    assert [human_seconds(count) for count in (0.4, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
    assert [counted(count, "change") for count in (0, 1, 2)] == ["0 changes", "1 change", "2 changes"]
