"""Running the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def spacesfs(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without the configuration of who runs the tests."""
    foreign = ("AWS_", "SPACES", "SSL_CERT_FILE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"XDG_CONFIG_HOME": "/nonexistent", "HOME": "/nonexistent"} | variables
    command = [sys.executable, "-m", "spacesfs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


def complaint(*arguments: str, status: int, **variables: str) -> str:
    """Return the one line that a failing command prints."""
    done = spacesfs(*arguments, **variables)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("spacesfs: ")
    return line.removeprefix("spacesfs: ")
