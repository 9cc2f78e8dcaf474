"""Crash rounds: programs work on a mount, the mount is killed, mounted again and drained, and the Space is looked at.

A round works on what the last one left, in one bucket, so that there are objects of every size to be overwritten,
patched and renamed. What is looked at is the Space itself, through another client, and what is left on the mount's own
disk.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tests.crash.calls import Begun, Call, Rename, read_log
from tests.crash.disks import Disk
from tests.crash.oracle import Node, Oracle, Tree
from tests.mount.mounting import Account, Mount, attempt, spacesfs_command

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
PROGRAMS = 4
FIRST_LINES = 10
BEGIN_SECONDS = 60.0
"""For the programs to write that many lines to their logs."""
PENDING_SECONDS = 60.0
"""For something acknowledged to be on its way when the time of the kill has come."""
DRAIN_SECONDS = 150.0
TIDY_SECONDS = 20.0
"""For what goes on after the last change is in the Space: the abortion of uploads, the deletion of staged files."""


Trouble: TypeAlias = tuple[Callable[[], None], Callable[[], None]]
"""What begins something bad, and what ends it."""


class CrashFound(AssertionError):
    """A round went wrong; the message says how, and how to see it again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to a mount in a round.

    Attributes:
        options: Of the mount.
        lines: The programs have logged a number of lines between these, about two a call, when the mount is killed.
        work_seconds: The longest that they work, if something keeps them from it.
        trouble: Begins while the programs work, and ends before or after the kill, but before the next mount. Made of
            the state folder.
        kills_while_recovering: How often the mount is killed again before it answers.
        kills_while_draining: How often the mount is killed again while it is asked to send all.
        disk_mebibytes: The state folder is on a disk of this size; 0: on that of the test.
        cuts_power: That disk loses what was not fsynced.
        is_pending: Something acknowledged must be on its way at the kill, which waits for that.
        wanted_errors: What programs must have been told at some time, or the rounds show nothing.
        programs: How many work side by side.
    """

    options: Sequence[str] = ()
    lines: tuple[int, int] = (30, 500)
    work_seconds: float = 8.0
    trouble: Callable[[Path], Trouble] | None = None
    kills_while_recovering: int = 0
    kills_while_draining: int = 0
    disk_mebibytes: int = 0
    cuts_power: bool = False
    is_pending: bool = True
    wanted_errors: tuple[str, ...] = ()
    programs: int = PROGRAMS


@dataclass(slots=True)
class Tally:
    """What rounds amounted to."""

    rounds: int = 0
    acknowledged: int = 0
    pending_at_kill: int = 0
    kills: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take in another."""
        self.rounds += other.rounds
        self.acknowledged += other.acknowledged
        self.pending_at_kill += other.pending_at_kill
        self.kills += other.kills
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count


class Campaign:
    """Rounds on one bucket, which is empty at first. ``home`` holds the mount and the logs."""

    def __init__(self, account: Account, s3: S3Client, bucket: str, *, home: Path, plan: Plan, seed: int) -> None:
        self._s3, self._bucket = s3, bucket
        self._home, self._plan, self._seed = home, plan, seed
        self._chance = random.Random(seed)
        self._oracle = Oracle()
        self._folders = [f"p{number}" for number in range(plan.programs)]
        self._seen: dict[str, tuple[str, Node]] = {}
        self._stack = ExitStack()
        self.mount = Mount(account, bucket, home, plan.options)
        self.tally = Tally()
        self._disk: Disk | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._plan.disk_mebibytes:
                self._disk = stack.enter_context(Disk(self._home, self._home / "state", self._plan.disk_mebibytes))
            stack.callback(self.mount.close)
            self.mount.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- a round

    def round(self) -> None:
        """Work, kill, mount again, drain, compare.

        Raises:
            CrashFound: Something acknowledged is missing, stale or torn, or something is left that should not.
        """
        self.tally.rounds += 1
        before = self._oracle.acknowledged
        self._work_until_killed()
        pending = self._pending_keys()
        in_doubt = {f"{name}/{path}" for name, folder in self._oracle.folders.items() for path in folder.in_doubt()}
        settled = {key for key in pending if not in_doubt & {key, key.rstrip("/")}}
        self.tally.pending_at_kill += len(settled)
        self.tally.acknowledged += self._oracle.acknowledged - before
        if self._plan.is_pending and not settled:
            raise self._found("nothing acknowledged was pending at the kill, so the round shows nothing")
        for error in self._oracle.errors:
            self.tally.errors[error] = self.tally.errors.get(error, 0) + 1
        self._oracle.errors.clear()
        self._come_back()
        self._drain()
        found = self._look()
        wrong = self._oracle.complaints(found)
        wrong += self._leftovers()
        if wrong:
            raise self._found("\n".join(wrong[:20]))
        self._oracle.adopt(found)

    def end(self) -> None:
        """Unmount, and look a last time.

        Raises:
            CrashFound: As `round`; or the rounds did not show what they were for.
        """
        self.mount.stop()
        wrong = self._oracle.complaints(self._look()) + self._leftovers()
        wrong += [f"no program was told {name}" for name in self._plan.wanted_errors if name not in self.tally.errors]
        if wrong:
            raise self._found("\n".join(wrong))

    def _work_until_killed(self) -> None:
        logs = []
        with ExitStack() as stack:
            for index, folder in enumerate(self._folders):
                log = self._home / f"round-{self.tally.rounds}-{index}.log"
                log.touch()
                logs.append(log)
                stack.enter_context(self._program(folder, log))
            with self._trouble() as proceed:
                self._wait_for_lines(logs, proceed)
                self._kill()
        for log in logs:
            self._oracle.read(read_log(log))

    @contextmanager
    def _trouble(self) -> Iterator[Callable[[float], None]]:
        """Make what is called with the share of the work that is done, and begins and ends the trouble by that.

        All in this thread, for the kernel ends a server with the thread that started it.
        """
        if self._plan.trouble is None:
            yield lambda _: None
            return
        left = list(
            zip(
                self._plan.trouble(self._home / "state"),
                (self._chance.uniform(0, 0.6), self._chance.uniform(0.6, 1.4)),
                strict=True,
            )
        )

        def proceed(share: float) -> None:
            while left and left[0][1] <= share:
                left.pop(0)[0]()

        try:
            yield proceed
        finally:
            proceed(2.0)

    def _wait_for_lines(self, logs: list[Path], proceed: Callable[[float], None]) -> None:
        """Wait for a number of lines, and a moment: a count makes rounds worth the same on a busy machine."""
        wanted, started = self._chance.randint(*self._plan.lines), time.monotonic()
        while _lines(logs) < FIRST_LINES:  # before any trouble, or the round may show nothing
            if time.monotonic() > started + BEGIN_SECONDS:
                raise self._found("the programs do not begin")
            time.sleep(0.02)
        begun = time.monotonic()

        def share() -> float:
            return max(_lines(logs) / wanted, (time.monotonic() - begun) / self._plan.work_seconds)

        while (done := share()) < 1:
            proceed(done)
            time.sleep(0.02)
        proceed(1.0)
        time.sleep(self._chance.uniform(0, 0.2))
        if self._plan.is_pending:
            self._stop_while_pending(logs, lambda: proceed(share()))

    def _stop_while_pending(self, logs: list[Path], go_on: Callable[[], None]) -> None:
        """Stop the mount's processes at a moment at which something acknowledged is on its way.

        While a disk is full, or a busy machine lets the programs do little, all may have been sent. Then they work on,
        and trouble comes to its end.
        """
        assert self.mount.process is not None
        group, deadline = self.mount.process.pid, time.monotonic() + PENDING_SECONDS
        while True:
            os.killpg(group, signal.SIGSTOP)
            time.sleep(0.05)  # for the programs to note what was answered, and to run into the next call
            if self._settled_keys(logs) or time.monotonic() > deadline:
                return
            os.killpg(group, signal.SIGCONT)
            time.sleep(0.05)
            go_on()

    def _settled_keys(self, logs: list[Path]) -> set[str]:
        """Return the pending keys that the last call of no program has to do with."""
        begun = [[line for line in read_log(log) if isinstance(line, Begun)] for log in logs]
        last = [lines[-1] for lines in begun if lines]
        roots = tuple(f"{line.folder}/{path}".rstrip("/") + "/" for line in last for path in _paths(line.call))
        return {key for key in self._pending_keys() if not f"{key.rstrip('/')}/".startswith(roots)}

    @contextmanager
    def _program(self, folder: str, log: Path) -> Iterator[None]:
        """Run a program on the mount; at the end of the block the mount is dead, and so it ends."""
        seed = str(self._chance.randrange(1 << 30))
        command = [sys.executable, "-m", "tests.crash.workload", str(self.mount.path), folder, str(log), seed]
        output = log.with_suffix(".out").open("wb")
        with (
            output,
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as program,
        ):
            try:
                yield
                ended = program.wait(60)
            except BaseException:
                self.mount.close()  # frees it
                program.kill()
                raise
        if ended not in {0, -signal.SIGBUS}:  # a mapping of a mount that is gone
            raise self._found(f"a program ended with {ended}: {log.with_suffix('.out').read_text()[-2000:]}")

    def _kill(self) -> None:
        """End the mount's process group at once."""
        process = self.mount.process
        assert process is not None
        if process.poll() is not None:
            raise self._found(f"the mount ended by itself, with {process.returncode}")
        self.tally.kills += 1
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._disk is not None and self._plan.cuts_power:
            self._disk.cut_power()

    def _pending_keys(self) -> set[str]:
        """Return the keys in the journal of the dead mount."""
        return {str(row[0]) for row in self._rows("SELECT key FROM intents")}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask a copy of the journal: SQLite would change the original."""
        (journal,) = (self._home / "state").glob("*/journal.db")
        with tempfile.TemporaryDirectory() as copy:
            for name in ("journal.db", "journal.db-wal"):
                with suppress(FileNotFoundError):
                    shutil.copy(journal.with_name(name), copy)
            with closing(sqlite3.connect(Path(copy) / "journal.db")) as connection:
                return connection.execute(query).fetchall()

    def _come_back(self) -> None:
        for _ in range(self._plan.kills_while_recovering):
            timer = Timer(self._chance.uniform(0.2, 2.5), self._kill)
            timer.start()
            with suppress(AssertionError):
                self.mount.start()
            timer.join()
        self.mount.start()
        for _ in range(self._plan.kills_while_draining):
            command = spacesfs_command("sync", self.mount.path)
            with subprocess.Popen(command, env=self.mount.environment, stderr=subprocess.DEVNULL) as sync:
                time.sleep(self._chance.uniform(0.1, 1.2))
                self._kill()
                sync.wait(60)
            self.mount.start()

    def _drain(self) -> None:
        """Sync until it works: with requests that fail it may take more than one."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while True:
            done = attempt(
                *spacesfs_command("sync", self.mount.path), env=self.mount.environment, seconds=DRAIN_SECONDS
            )
            if done.returncode == 0 and not self.mount.status()["pending"]:
                return
            if time.monotonic() > deadline:
                raise self._found(f"not drained: {done.stderr[-500:]}; {self.mount.status()['pending'][:3]}")
            time.sleep(0.2)

    # --- the Space

    def _look(self) -> dict[str, Tree]:
        """Return what the Space holds, by folder."""
        entries = [
            (entry["Key"], f"{entry['ETag']} {entry['LastModified']}")
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
            for entry in page.get("Contents", ())
        ]
        new = [(key, mark) for key, mark in entries if key not in self._seen or self._seen[key][0] != mark]
        with ThreadPoolExecutor(8) as pool:
            nodes = dict(zip((key for key, _ in new), pool.map(self._node, (key for key, _ in new)), strict=True))
        marks = dict(entries)
        self._seen = {key: (mark, nodes.get(key) or self._seen[key][1]) for key, mark in marks.items()}
        found: dict[str, Tree] = {}
        for key, (_, node) in self._seen.items():
            folder, _, path = key.rstrip("/").partition("/")
            found.setdefault(folder, {})[path] = node
        return found

    def _node(self, key: str) -> Node:
        reply = self._s3.get_object(Bucket=self._bucket, Key=key)
        metadata, content = reply["Metadata"], reply["Body"].read()
        mode = int(metadata["mode"]) if "mode" in metadata else None
        if key.endswith("/"):
            return Node("directory", content, None if mode is None else stat.S_IMODE(mode))
        if mode is not None and stat.S_ISLNK(mode):
            return Node("link", content)
        seconds, _, fraction = metadata.get("mtime", "0.0").partition(".")
        mtime_ns = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
        return Node("file", content, None if mode is None else stat.S_IMODE(mode), mtime_ns)

    def _leftovers(self) -> list[str]:
        """Say what is left over, here and there, though nothing is to be done any more."""
        deadline = time.monotonic() + TIDY_SECONDS
        while True:
            uploads = self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
            left = [f"an upload of {upload['Key']} was left open" for upload in uploads]
            for table in ("intents", "contents", "uploads", "damaged"):
                left += [f"in the journal: {table} {row}" for row in self._rows(f"SELECT * FROM {table}")]  # noqa: S608
            left += [f"on the disk: {path}" for path in (self._home / "state").glob("*/staged/*")]
            if not left or time.monotonic() > deadline:
                return left + self._said()
            time.sleep(0.2)

    def _said(self) -> list[str]:
        text = self.mount.log.read_text(errors="replace")
        return ["a traceback in the log"] if "Traceback" in text else []

    def _found(self, text: str) -> CrashFound:
        return CrashFound(
            f"round {self.tally.rounds} of seed {self._seed}, logs in {self._home}:\n{text}\n"
            f"--- the mount's log ends:\n{self.mount.tail()}"
        )


def _lines(logs: list[Path]) -> int:
    return sum(log.read_bytes().count(b"\n") for log in logs)


def _paths(call: Call) -> set[str]:
    return {call.path, call.new_path} if isinstance(call, Rename) else {call.path}
