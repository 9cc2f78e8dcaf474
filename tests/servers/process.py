"""Daemons that a test run starts: ports, log files, waiting until ready, and a certain end.

Every daemon runs in the foreground as our child under ``setpriv --pdeathsig KILL``: the kernel kills it when this
process dies, whatever the reason, so that an interrupted or crashed test run leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.05
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))  # users lack sbin on Debian


class ServerError(Exception):
    """A test server is missing, did not start, or died."""


def require_programs(packages: Mapping[str, str]) -> None:
    """Check that programs are installed.

    Args:
        packages: Program name to the Debian package that holds it.

    Raises:
        ServerError: Some are missing; the message is the command that installs them.
    """
    missing = {package for program, package in packages.items() if not shutil.which(program, path=SEARCH_PATH)}
    if missing:
        raise ServerError(f"the tests need more programs; run: apt-get install -y {' '.join(sorted(missing))}")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Daemon:
    """One foreground child process, its output in a log file; dies with this process."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            command: Program and arguments; the program must not fork itself away.
            log: File that gets its stdout and stderr, appended.
            environment: Variables beside our own.
        """
        self.name = command[0]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", "--", *command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",  # as daemons do; Ceph 18 of Debian 13 looks for its object classes relative to it
                env={**os.environ, "PATH": SEARCH_PATH, **(environment or {})},
                start_new_session=True,  # Ctrl-C goes to us alone, and we stop it in order
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_alive(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Return when it is ready.

        Raises:
            ServerError: It ended, or was not ready after that many seconds; the message holds the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_alive:
                raise ServerError(f"{self.name} ended with status {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready after {seconds:g} s:\n{self._log_tail()}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it at once, as a power cut would. Nothing to do if it has ended."""
        if self.is_alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """Stop it without ending it: connections stay open and nothing answers. Returns when it has stopped."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
