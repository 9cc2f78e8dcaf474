"""A real kernel mount served by a process of its own, and commands run against it with deadlines.

A call into a mount whose daemon hangs cannot be interrupted: only the end of the daemon frees its caller. So everything
here that waits has a deadline, and past it the daemon is killed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# How long things may take at the very most, on a machine with other things to do: only what hangs takes longer.
START_SECONDS = 120.0
"""From starting a mount to its first answer."""
DRAIN_SECONDS = 180.0
"""From asking a mount to end to its end, everything sent."""
COMMAND_SECONDS = 120.0
"""One command against a mount."""
WAIT_SECONDS = 150.0
"""For anything that comes by itself; less than what a test has, so that it says what did not come."""

_REPEATS = re.compile(r": \d+ more since then: ")  # of what was looked at when it came first
_TROUBLE = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback \(most recent call last\)", re.IGNORECASE)


BucketMaker = Callable[[], str]
MountMaker = Callable[..., "Mount"]


@dataclass(frozen=True, slots=True)
class Account:
    """Where a Space is and who asks for it."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    ca_bundle: Path | None = None

    def trust(self) -> ssl.SSLContext:
        """Return what a program needs to speak TLS with this server."""
        return ssl.create_default_context(cafile=self.ca_bundle)

    def options(self) -> list[str]:
        """Return the mount options that lead to this server."""
        trust = ["--ca-bundle", str(self.ca_bundle)] if self.ca_bundle else []
        return ["--endpoint", self.endpoint, *trust]


def environment(home: Path, account: Account | None = None) -> dict[str, str]:
    """Return an environment with no settings or keys of the person who runs the tests, only the account's."""
    foreign = ("AWS_", "SPACES", "XDG_", "SSL_CERT")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    if account is not None:
        own |= {"SPACES_ACCESS_KEY_ID": account.access_key, "SPACES_SECRET_ACCESS_KEY": account.secret_key}
    return inherited | own


def wait_until(
    condition: Callable[[], object], why: str, *, mount: Mount | None = None, seconds: float = WAIT_SECONDS
) -> None:
    """Return as soon as a condition is true, or fail saying why it should be by now, with the end of a mount's log."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{why}\n{mount.tail()}" if mount is not None else why)
        time.sleep(0.05)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = COMMAND_SECONDS,
) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        AssertionError: It failed; the message holds its output.
    """
    done = attempt(*command, cwd=cwd, env=env, seconds=seconds)
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def attempt(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = COMMAND_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail, with nothing on its standard input."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=seconds,
        check=False,
    )


def shell(script: str, cwd: Path, seconds: float = COMMAND_SECONDS) -> str:
    """Run a bash script that stops at its first failure, pipes included; return what it printed."""
    return run("bash", "-euo", "pipefail", "-c", script, cwd=cwd, seconds=seconds)


def python(script: str, *arguments: str | Path, cwd: Path | None = None, seconds: float = COMMAND_SECONDS) -> str:
    """Run a Python script in a process of its own; return what it printed."""
    return run(sys.executable, "-c", script, *arguments, cwd=cwd, seconds=seconds)


@contextmanager
def fails_with(code: int) -> Iterator[None]:
    """Expect the block to end in an OSError with this errno."""
    try:
        yield
    except OSError as error:
        if error.errno != code:
            raise
    else:
        raise AssertionError(f"it worked, instead of failing with {errno.errorcode[code]}")


def spacesfs_command(*arguments: str | Path) -> list[str]:
    """Return the command line of our own tool."""
    return [sys.executable, "-m", "spacesfs", *(str(word) for word in arguments)]


def is_mounted(path: Path) -> bool:
    """Tell whether something is mounted on a path, without touching it."""
    return str(path) in {_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _unescaped(field_of_mountinfo: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field_of_mountinfo)


def detach(path: Path) -> None:
    """Take every mount off a path, whatever state it is in."""
    for _ in range(5):
        if not is_mounted(path):
            return
        subprocess.run(
            ["fusermount3", "-u", "-z", str(path)], check=False, capture_output=True, timeout=COMMAND_SECONDS
        )
    raise AssertionError(f"{path} is still mounted")


def daemons_of(path: Path) -> list[int]:
    """Return the ids of processes that have a mountpoint among their arguments, as a mount's daemon does."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(path) in words and b"spacesfs" in words:
                found.append(int(folder.name))
    return found


class Mount:
    """A bucket, or a prefix of one, mounted by ``spacesfs mount --foreground``.

    ``home`` is the mount's own folder: it holds the mountpoint ``mnt``, its cache and state, and ``mount.log``.
    """

    def __init__(self, account: Account, source: str, home: Path, options: Sequence[str] = ()) -> None:
        self.account = account
        self.source = source
        self.home = home
        self.path = home / "mnt"
        self.log = home / "mount.log"
        self.options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        self._expected: list[str] = []
        self._checked_bytes = 0
        self.path.mkdir(parents=True)
        self.log.touch()

    @property
    def environment(self) -> dict[str, str]:
        """What this mount's commands find in their environment."""
        return environment(self.home, self.account)

    @property
    def pid(self) -> int:
        """The id of the serving process."""
        assert self.process is not None, "not mounted"
        return self.process.pid

    def arguments(self) -> list[str]:
        """Return what follows ``spacesfs mount``, without the choice of foreground or background."""
        folders = ["--cache-dir", str(self.home / "cache"), "--state-dir", str(self.home / "state")]
        return [self.source, str(self.path), *self.account.options(), *folders, *self.options]

    def start(self) -> None:
        """Mount, and return when the mount answers. Should the tests crash, the kernel kills the daemon."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", "--", *spacesfs_command("mount", "--foreground", *self.arguments())),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, f"no mount after {START_SECONDS} s", mount=self, seconds=START_SECONDS)

    def _answers(self) -> bool:
        """Tell whether our mount is there and lists its root; a stale mount under the same path does not."""
        assert self.process is not None, "not mounted"
        ended = self.process.poll()
        assert ended is None, f"the mount ended with {ended}:\n{self.tail()}"
        if not is_mounted(self.path):
            return False
        return attempt("ls", self.path, seconds=START_SECONDS).returncode == 0

    def stop(self) -> None:
        """Unmount by ``spacesfs umount``, which waits until everything is in the Space."""
        done = self.spacesfs("umount", self.path, seconds=DRAIN_SECONDS)
        assert done.returncode == 0, f"umount ended with {done.returncode}: {done.stderr}\n{self.tail()}"
        assert self.wait() == 0, f"the mount ended with {self.wait()}:\n{self.tail()}"
        assert not is_mounted(self.path)

    def stop_in_background(self) -> None:
        """Unmount one that ``spacesfs mount`` has put into the background."""
        done = self.spacesfs("umount", self.path, seconds=DRAIN_SECONDS)
        assert done.returncode == 0, f"umount ended with {done.returncode}: {done.stderr}\n{self.tail()}"

    def wait(self, seconds: float = DRAIN_SECONDS) -> int:
        """Wait for the serving process and return its exit status."""
        assert self.process is not None, "not mounted"
        return self.process.wait(seconds)

    def remount(self) -> None:
        """Drain, unmount, forget everything cached, and mount again.

        A new mount has nothing in the kernel's caches, so emptying our own makes it cold.
        """
        self.stop()
        shutil.rmtree(self.home / "cache", ignore_errors=True)
        self.start()

    def kill(self) -> None:
        """End the serving process as a crash would: the mountpoint stays behind, dead."""
        assert self.process is not None, "not mounted"
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing running and nothing mounted, whatever happened."""
        for pid in daemons_of(self.path):
            os.kill(pid, signal.SIGKILL)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        detach(self.path)

    def spacesfs(self, *arguments: str | Path, seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run our own tool in this mount's environment."""
        return attempt(*spacesfs_command(*arguments), env=self.environment, seconds=seconds)

    def sync(self) -> None:
        """Return when every change so far is in the Space."""
        done = self.spacesfs("sync", self.path, seconds=DRAIN_SECONDS)
        assert done.returncode == 0, f"sync ended with {done.returncode}: {done.stderr}\n{self.tail()}"

    def status(self) -> Any:
        """Return what ``spacesfs status --json`` says of this mount."""
        done = self.spacesfs("status", self.path, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def peak_rss_bytes(self) -> int:
        """Return the most memory that the serving process ever held, in bytes."""
        match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def expect_log(self, pattern: str) -> None:
        """Allow log lines above INFO that match a pattern, until the next ``check_log``."""
        self._expected.append(pattern)

    def check_log(self) -> None:
        """Fail if the log has got a line above INFO, or a traceback, that no one expected since the last check."""
        with self.log.open("rb") as log:
            log.seek(self._checked_bytes)
            lines = log.read().decode(errors="replace").splitlines()
            self._checked_bytes = log.tell()
        expected, self._expected = self._expected, []
        bad = [
            line
            for line in lines
            if _TROUBLE.search(line)
            and not _REPEATS.search(line)
            and not any(re.search(pattern, line, re.IGNORECASE) for pattern in expected)
        ]
        assert not bad, "unexpected in the mount's log:\n" + "\n".join(bad) + f"\n--- the log ends:\n{self.tail()}"

    def tail(self, lines: int = 40) -> str:
        """Return the last lines of the mount's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
