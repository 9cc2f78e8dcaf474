"""The supervisor over real processes that end, crash, hang and refuse to start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spacesfs.cli import supervisor
from spacesfs.cli.supervisor import CRASHED, Lifeline, Supervisor

Act = Callable[[Lifeline], int]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mount is there in these tests, so say that a dead one is; and wait for nothing. We stay in our session."""
    monkeypatch.setattr(supervisor, "leave_session", lambda: None)
    monkeypatch.setattr(Supervisor, "_is_wanted", lambda _: True)
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_DELAY_SECONDS", 0.02)


def lives(
    tmp_path: Path, *acts: Act, hang_seconds: float = 0.0, load: Callable[[], object] = int
) -> tuple[int, list[str]]:
    """Run a supervisor whose workers act so, one after the other; return its exit status and what they were told."""
    told = tmp_path / "told"
    told.touch()

    def work(lifeline: Lifeline, reason: str | None) -> int:
        number = len(told.read_text().splitlines())
        with told.open("a") as file:
            file.write(f"{reason}\n")
        return acts[number](lifeline)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = Supervisor(Path("/mnt"), hang_seconds, lambda: None, work, load).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status, told.read_text().splitlines()


def end_with(status: int) -> Act:
    def act(lifeline: Lifeline) -> int:
        lifeline.ready()
        return status

    return act


def refuse(_: Lifeline) -> int:
    return 1


def be_killed(lifeline: Lifeline) -> int:
    lifeline.ready()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def raise_inside(lifeline: Lifeline) -> int:
    lifeline.ready()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its traceback is of no interest
    raise ZeroDivisionError


def hang(lifeline: Lifeline) -> int:
    lifeline.ready()
    time.sleep(60)
    return 0


def stop(lifeline: Lifeline) -> int:
    lifeline.ready()
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0


def beat(lifeline: Lifeline) -> int:
    lifeline.ready()
    for _ in range(40):
        lifeline.beat()
        time.sleep(0.02)
    return 0


@pytest.mark.parametrize("status", [0, 1])
def test_one_that_ends_by_itself_is_not_replaced(tmp_path: Path, status: int) -> None:
    assert lives(tmp_path, end_with(status)) == (status, ["None"])


def test_one_that_never_was_ready_is_not_replaced(tmp_path: Path) -> None:
    assert lives(tmp_path, refuse) == (1, ["None"])


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (be_killed, "it was killed by SIGKILL"),
        (raise_inside, "it failed inside; the log has the traceback"),
        (end_with(CRASHED), "it failed inside; the log has the traceback"),
    ],
    ids=["killed", "raised", "crashed"],
)
def test_one_that_dies_is_replaced_and_the_next_knows_why(tmp_path: Path, act: Act, reason: str) -> None:
    assert lives(tmp_path, act, end_with(0)) == (0, ["None", reason])


def test_what_the_next_needs_is_loaded_once_the_first_is_ready(tmp_path: Path) -> None:
    loaded: list[int] = []

    def look(lifeline: Lifeline) -> int:
        lifeline.ready()
        return 0 if loaded else CRASHED

    def load() -> None:
        loaded.append(1)
        raise ImportError("what was changed meanwhile")  # is told to the log; a worker will say more

    assert lives(tmp_path, look, look, load=load)[0] == 0
    assert loaded == [1, 1]


def test_nothing_is_loaded_for_one_that_never_was_ready(tmp_path: Path) -> None:
    loaded: list[int] = []
    assert lives(tmp_path, refuse, load=lambda: loaded.append(1))[0] == 1
    assert loaded == []


@pytest.mark.parametrize("act", [hang, stop])
def test_one_that_is_silent_is_replaced(tmp_path: Path, act: Act) -> None:
    status, told = lives(tmp_path, act, end_with(0), hang_seconds=1)
    assert (status, told) == (0, ["None", "it was silent for 1 s"])


def test_one_that_beats_is_left_alone(tmp_path: Path) -> None:
    assert lives(tmp_path, beat, hang_seconds=1) == (0, ["None"])


def test_one_that_reads_a_long_journal_first_is_given_time(tmp_path: Path) -> None:
    def start_slowly(lifeline: Lifeline) -> int:
        time.sleep(1)
        return beat(lifeline)

    assert lives(tmp_path, start_slowly, hang_seconds=0.5) == (0, ["None"])


def test_a_replacement_that_does_not_start_is_tried_again_with_the_same_reason(tmp_path: Path) -> None:
    """As while the Space can't be reached."""
    reason = "it was killed by SIGKILL"
    assert lives(tmp_path, be_killed, refuse, refuse, end_with(0)) == (0, ["None", reason, reason, reason])


def test_nothing_replaces_one_whose_mount_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_is_wanted", lambda _: False)
    status, told = lives(tmp_path, be_killed)
    assert status != 0
    assert told == ["None"]


def test_a_signal_is_passed_on_and_nothing_is_started_after_it(tmp_path: Path) -> None:
    def signal_supervisor(lifeline: Lifeline) -> int:
        lifeline.ready()
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
        return 0

    status, told = lives(tmp_path, signal_supervisor)
    assert status != 0
    assert told == ["None"]
