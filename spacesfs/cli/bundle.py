"""``spacesfs doctor --bundle``: one archive with what somebody who helps will ask for, and no secret in it.

Each part is gathered by itself: what can't be had says why, in its place. All goes through the scrubber of the log.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from spacesfs.cli.checks import Finding
from spacesfs.cli.client import all_statuses
from spacesfs.cli.journals import waiting_unmounted
from spacesfs.cli.layers import collect
from spacesfs.cli.output import counted
from spacesfs.cli.settings import option_rows
from spacesfs.cli.version import facts
from spacesfs.config import Options
from spacesfs.errors import MountError
from spacesfs.fuse.programs import bare_environment
from spacesfs.logs import hide_secret, one_line, scrub
from spacesfs.pending.statedir import pending_in

_MOST_LOG_LINES = 2000  # of each log
_JOURNAL_SECONDS = 20.0
_OURS = re.compile(r"^(SPACES|AWS_|DIGITALOCEAN|XDG_|JOURNAL_STREAM|NOTIFY_SOCKET|SSL_CERT|\w*_proxy$)", re.IGNORECASE)
_SECRET = re.compile(r"SECRET|TOKEN|PASS|_KEY$", re.IGNORECASE)
_KERNEL_FILES = (
    "/etc/fuse.conf",
    "/proc/version",
    "/proc/meminfo",
    "/proc/sys/fs/fuse/max_pages_limit",
    "/proc/sys/fs/file-nr",
    "/proc/pressure/io",
    "/proc/pressure/memory",
)

Part = Callable[[], str]


def write_bundle(path: Path, flags: Mapping[str, object], findings: Sequence[Finding]) -> None:
    """Write the archive, for its owner alone.

    Args:
        path: The file to make; it must not be there.
        flags: Options of the command line, by field name.
        findings: What the checks have found.

    Raises:
        MountError: It can't be written, or is there.
    """
    for name, value in os.environ.items():
        if _SECRET.search(name):
            hide_secret(value)
    parts: dict[str, Part] = {
        "version.json": lambda: json.dumps(facts(), indent=2),
        "doctor.json": lambda: json.dumps([asdict(finding) for finding in findings], indent=2),
        "config.txt": lambda: _lines(_config(flags)),
        "environment.txt": lambda: _lines(sorted(filter(_OURS.match, os.environ))),
        "status.json": lambda: msgspec.json.format(msgspec.json.encode(all_statuses()), indent=2).decode(),
        "journals.txt": lambda: _lines(_journals(flags)),
        "mounts.txt": lambda: _lines(_mounts()),
        "kernel.txt": lambda: _lines(_kernel()),
        "system-log.txt": _system_log,
        **{f"log/{log.name}": lambda log=log: _tail(log) for log in _log_files(flags)},  # type: ignore[misc]  # bound
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, part in parts.items():
                _add(archive, f"{path.name.partition('.')[0]}/{name}", _gathered(part))
    except OSError as error:
        raise MountError(f"{path} can't be written: {error.strerror or error}") from error


def _gathered(part: Part) -> bytes:
    try:
        text = part()
    except Exception as error:  # noqa: BLE001 - a bundle is for when something is wrong
        text = f"not known: {type(error).__name__}: {error}"
    return scrub(text).encode("utf-8", "backslashreplace")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{one_line(line)}\n" for line in lines)


def _config(flags: Mapping[str, object]) -> Iterator[str]:
    """Yield each option, its value and where it came from; of a command only the program, its words may be secret."""
    collected = collect(flags, None)
    for name, value, origin in option_rows(collected.check(Options), collected):
        words = value.split()
        yield f"{name} = {words[0] + ' [...]' if name == 'credential-command' and words[1:] else value} ({origin})"


def _journals(flags: Mapping[str, object]) -> Iterator[str]:
    state_dir = collect(flags, None).check(Options).state_dir
    for journal in waiting_unmounted(state_dir):
        waiting = pending_in(journal.path)
        yield f"{journal.title}: {'damaged' if waiting is None else counted(waiting, 'change')}, in {journal.path}"


def _mounts() -> Iterator[str]:
    """Yield the lines of the mount table that have to do with FUSE."""
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return (line for line in table.splitlines() if "fuse" in line)


def _kernel() -> Iterator[str]:
    yield " ".join(platform.uname())
    for name in ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
        yield f"{name}: {resource.getrlimit(getattr(resource, name))}"
    for path in (*map(Path, _KERNEL_FILES), *Path("/sys/fs/fuse/connections").glob("*/waiting")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            lines = [error.strerror or str(error)]
        yield from (f"{path}: {line}" for line in lines)


def _log_files(flags: Mapping[str, object]) -> list[Path]:
    """Return the logs that mounts with these options write, as far as they are files."""
    try:
        options = collect(flags, None).check(Options)
    except Exception:  # noqa: BLE001 - config.txt says what is wrong with them
        return []
    named = [options.log_file] if options.log_file is not None else []
    return [path for path in (*named, *sorted((options.state_dir / "log").glob("*.log"))) if path.is_file()]


def _tail(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, _MOST_LOG_LINES))


def _system_log() -> str:
    """Return what the journal has of us; where there is none, that."""
    if shutil.which("journalctl") is None:
        return "this host has no journal\n"
    command = ["journalctl", "--no-pager", "-q", "-n", str(_MOST_LOG_LINES), "-t", "spacesfs"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        env=bare_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_JOURNAL_SECONDS,
        check=False,
    )
    return done.stdout + done.stderr
