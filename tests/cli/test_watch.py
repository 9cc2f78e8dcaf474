"""The live view of a mount: rates, and lines that no name can steer."""

from __future__ import annotations

import io
import sys
from collections import deque
from typing import Any

import pytest
from rich.console import Console

from spacesfs.cli import watch as watching
from spacesfs.cli.inspect import status_lines
from spacesfs.cli.watch import Rates, sparkline, watch
from spacesfs.fuse.messages import MountStatus, PendingChange, RequestCounts, Usage


def status(down: int = 0, sent: int = 0, pid: int = 7) -> MountStatus:
    return MountStatus(
        bucket="my-bucket",
        prefix="",
        mountpoint="/mnt/a",
        endpoint="https://fra1.digitaloceanspaces.com",
        pid=pid,
        version="1",
        state="serving",
        since=0.0,
        durability="journal",
        read_only=False,
        read_only_reason=None,
        pending=[PendingChange("[bold]\x1b[31m\u202e", "write", 1, 1.0)],
        pending_changes=1,
        pending_bytes=1,
        memory=Usage(0, 1),
        staging=Usage(0, 1),
        requests={"read": RequestCounts(sent=sent, bytes_received=down)},
        notices=[],
        limit_down=1 << 20,
    )


def test_rates_are_what_was_added_in_between() -> None:
    rates = Rates()
    rates.add(status(0, 0), 10.0)
    rates.add(status(4096, 6), 12.0)
    assert (list(rates.down), list(rates.requests), list(rates.up)) == ([2048.0], [3.0], [0.0])
    down, _, requests = rates.lines()
    assert down.split() == ["down", "2.0", "KiB/s", "█"]
    assert requests.split() == ["requests", "3/s", "█"]


def test_a_fresh_process_counts_anew() -> None:
    rates = Rates()
    rates.add(status(4096, pid=7), 10.0)
    rates.add(status(100, pid=8), 11.0)
    assert not rates.down
    rates.add(status(200, pid=8), 12.0)
    assert list(rates.down) == [100.0]


@pytest.mark.parametrize(("values", "drawn"), [([], ""), ([0.0, 0.0], "  "), ([0.0, 1.0, 2.0, 4.0], " ▂▄█")])
def test_sparklines(values: list[float], drawn: str) -> None:
    assert sparkline(deque(values)) == drawn


class Enough(Exception):
    """There are no more statuses."""


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three statuses, and then an end."""
    monkeypatch.setattr(watching, "_SECONDS", 0.0)
    answers = iter([status(0), status(1000), status(2000)])

    def ask() -> MountStatus:
        try:
            return next(answers)
        except StopIteration:
            raise Enough from None

    return ask


def test_without_a_terminal_it_is_a_line_a_second(three: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Enough):
        watch(three, status_lines)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("down ") and "up 0 B/s" in line for line in lines)


def test_on_a_terminal_no_name_steers_it(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, height=60)
    monkeypatch.setattr("rich.live.get_console", lambda: console)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(Enough):
        watch(three, status_lines)
    shown = written.getvalue()
    assert "[bold]\\x1b[31m\\u202e" in shown
    assert "\x1b[31m" not in shown
    assert "limit down  1.0 MiB a second" in shown
