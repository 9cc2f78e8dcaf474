"""How a sync is shown on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

SHOW = """
from spacesfs.cli.progress import show_sync
from spacesfs.fuse.messages import SyncProgress
steps = [SyncProgress(left, left * 1024, 4096) for left in {left}]
show_sync(steps, "/mnt/[bold]my\\x1b[31m space")
"""


def test_elsewhere_one_line_says_what_is_left() -> None:
    command = [sys.executable, "-c", SHOW.format(left=[4, 3, 1, 0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "/mnt/[bold]my\\x1b[31m space: 4 changes, 4.0 KiB left\n"


def test_nothing_to_do_is_nothing_to_say() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW.format(left=[0])], capture_output=True, check=True, timeout=30)
    assert done.stdout == b""


def test_on_a_terminal_there_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SHOW.format(left=[2, 1])]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait(30) == 0
    os.close(ours)
    text = shown.decode()
    assert "[bold]my\\x1b[31m space: 1 change left" in text
    assert "3.0/4.0 KiB" in text


def _read(terminal: int) -> bytes:
    """Read from a terminal; the kernel answers EIO when its other side is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
