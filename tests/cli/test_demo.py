"""``spacesfs demo``: a real mount of moto's server, and nothing left of it afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.mounting import is_mounted

pytestmark = pytest.mark.mount

DEMO = [sys.executable, "-m", "spacesfs", "demo"]
SECONDS = 120


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuse_device: Path) -> Path:
    """The folder that the demo's own files go to."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, *map(str, arguments)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def assert_nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_the_tour(temporary_files: Path) -> None:
    done = demo()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo-space is mounted on ")
    assert "$ cat trip/hello.txt\nHello from this computer.\n" in done.stdout
    assert "  pending     nothing\n" in done.stdout
    assert_nothing_left(temporary_files)


def test_a_command_runs_in_the_mount_and_its_exit_status_is_ours(temporary_files: Path) -> None:
    done = demo("--", "sh", "-c", "cat README.txt; cp README.txt copy; cmp README.txt copy && exit 7")
    assert done.returncode == 7, done.stderr
    assert "This Space lives in memory" in done.stdout
    assert_nothing_left(temporary_files)


def test_a_killed_command_and_a_missing_one_end_as_in_a_shell(temporary_files: Path) -> None:
    assert demo("--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    done = demo("--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert done.stderr == "spacesfs: no-such-command-anywhere: No such file or directory\n"
    assert_nothing_left(temporary_files)


def test_a_given_mountpoint_is_used_and_left_as_it_was(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("place")
    done = demo(place, "--", "pwd")
    assert str(place) in done.stdout.splitlines()
    assert list(place.iterdir()) == []
    assert demo(place / "new", "--", "true").returncode == 0
    assert list(place.iterdir()) == []


def test_a_mountpoint_that_can_not_be_used_is_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "something").touch()
    done = demo(place)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "is not empty" in done.stderr


def test_on_a_terminal_the_mount_stays_until_ctrl_c(
    tmp_path_factory: pytest.TempPathFactory, temporary_files: Path
) -> None:
    place = tmp_path_factory.mktemp("place")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["env", "--default-signal=INT", *DEMO, place],  # a job in the background may have been told to ignore it
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"Ctrl-C ends the demo" not in shown:
            shown += os.read(ours, 4096)
        assert subprocess.run(["cat", place / "README.txt"], check=True, capture_output=True, timeout=30).stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    os.close(ours)
    assert not is_mounted(place)
    assert_nothing_left(temporary_files)


def test_a_mount_in_use_ends_with_the_demo_anyway(temporary_files: Path) -> None:
    done = demo("--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    try:
        assert done.returncode == 0
        assert "busy" in done.stderr
        assert str(temporary_files) not in Path("/proc/self/mountinfo").read_text()
    finally:
        os.kill(int(done.stdout.split()[-1]), signal.SIGKILL)


def test_sigterm_cleans_up(temporary_files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("place")
    with subprocess.Popen([*DEMO, place, "--", "sleep", "60"], stdin=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + SECONDS
        while not is_mounted(place) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM
    assert not is_mounted(place)
    assert_nothing_left(temporary_files)


def test_without_its_server_the_demo_says_what_to_install() -> None:
    without_moto = "import sys; sys.modules['moto.server'] = None; from spacesfs.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", without_moto, "demo"], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.stderr == "spacesfs: the demo's server is missing; install it with: pip install 'spacesfs[demo]'\n"
    assert done.returncode == 1
