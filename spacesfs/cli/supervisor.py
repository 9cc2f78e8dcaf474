"""What stands over a background mount: it starts the process that serves, and a fresh one when that dies or hangs.

The supervisor has no event loop and no threads and runs nothing that serves, so little can befall it, and it may fork.
Once its first worker answers it loads what the next one needs: that is there at once, and of the same version.

A worker sends a byte about every second for as long as its event loop turns. One that ends by itself has done what it
was told; one that is killed, crashes or falls silent is replaced while its dead mount is still there: the fresh one is
mounted aside, takes the dead one's place (`spacesfs.fuse.place`) and goes on with the journal::

    forked ──> starting ──ready──> serving ──exit 0, 1──────────────────> the supervisor ends likewise
                  │                   └─────killed, crashed, silent──┐
                  └──────── the first: the supervisor ends likewise  │
                            a later one: again, after a while  <─────┘

Under systemd, in containers and on terminals the mount is in the foreground and has no supervisor: they have their own.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from spacesfs.fuse.mountpoint import is_dead

log = logging.getLogger(__name__)

CRASHED = 70  # sysexits.h, EX_SOFTWARE: what a worker ends with that failed inside
BEAT_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
_FIRST_DELAY_SECONDS = 1.0
_STEADY_SECONDS = 5.0  # a worker that served so long is replaced at once: at worst that is twelve times a minute
_START_FACTOR = 10
"""So many times longer may a worker be silent before it is ready: it reads the journal in one go."""
_READY, _BEAT = b"R", b"."


def leave_session() -> None:
    """Have no part in the caller's terminal and process group any more.

    Not before the mount answers: while systemd mounts on an autofs, the kernel lets only its own process group through.
    """
    with suppress(PermissionError):  # it leads a session already
        os.setsid()


class Lifeline:
    """The worker's end of the line to its supervisor. It works on without a supervisor, should that be gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def beat(self) -> None:
        """Say that the event loop turns."""
        self._send(_BEAT)

    def ready(self) -> None:
        """Say that the mount answers."""
        self._send(_READY)

    def _send(self, word: bytes) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._descriptor, word)


class Life(NamedTuple):
    """How one worker fared: ``reason`` is why it has to be replaced, or None if it ended by itself with ``status``."""

    status: int
    reason: str | None
    was_ready: bool
    seconds: float


Work = Callable[[Lifeline, str | None], int]
"""Serve; told why it replaces an earlier worker, or None. Returns the exit status."""


@dataclass(slots=True)
class Supervisor:
    """Keeps one mount served.

    Attributes:
        mountpoint: Absolute, links resolved.
        hang_seconds: How long a worker may be silent; 0 for ever.
        open_log: Opens the log anew: a worker may have rotated it.
        work: What a worker does, in a process forked from this one.
        load: Imports what a worker needs.
    """

    mountpoint: Path
    hang_seconds: float
    open_log: Callable[[], object]
    work: Work
    load: Callable[[], object]
    _worker: int = 0
    _is_told_to_end: bool = False

    def run(self) -> int:
        """Return the exit status of the last worker, when it needs no other."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        reason, delay, is_first = None, 0.0, True
        while True:
            life = self._live(reason)
            if self._is_told_to_end or (is_first and not life.was_ready) or (life.was_ready and life.reason is None):
                if life.reason is not None:
                    log.error("the mount's process on %s ended: %s", self.mountpoint, life.reason)
                return life.status
            is_first = False
            reason = life.reason if life.was_ready or reason is None else reason
            if life.was_ready and life.seconds >= _STEADY_SECONDS:
                delay = 0.0
            log.error("the mount's process on %s is replaced: %s", self.mountpoint, life.reason or "it did not start")
            if not self._pause(delay):
                return life.status
            delay = min(max(2 * delay, _FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
            if not self._is_wanted():
                log.error("%s was unmounted; what waits is safe in the journal", self.mountpoint)
                return life.status

    def _is_wanted(self) -> bool:
        """Say whether the dead mount is still there; if not, somebody has unmounted it and wants no other."""
        return is_dead(self.mountpoint)

    def _pause(self, seconds: float) -> bool:
        """Wait; return False if told to end meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._is_told_to_end and time.monotonic() < deadline:
            time.sleep(min(0.1, seconds))
        return not self._is_told_to_end

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        """Hand a signal to the worker, which knows what to do; none is started after it."""
        self._is_told_to_end = True
        if self._worker:
            with suppress(ProcessLookupError):
                os.kill(self._worker, number)

    def _live(self, reason: str | None) -> Life:
        began = time.monotonic()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        if self._is_told_to_end:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            return Life(1, None, was_ready=False, seconds=0.0)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._worker = os.fork()
        if self._worker == 0:
            self._be_worker(reader, Lifeline(writer), reason, blocked)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writer)
        try:
            was_ready, is_silent = self._listen(reader)
        finally:
            os.close(reader)
        if is_silent:
            os.kill(self._worker, signal.SIGKILL)  # also one that is stopped
        _, wait_status = os.waitpid(self._worker, 0)
        self._worker = 0
        self.open_log()
        status = os.waitstatus_to_exitcode(wait_status)
        return Life(max(status, 1) if status else 0, self._why(status, is_silent), was_ready, time.monotonic() - began)

    def _be_worker(self, reader: int, lifeline: Lifeline, reason: str | None, mask: set[int | signal.Signals]) -> None:
        """Serve, in the forked process, and end it."""
        status = CRASHED
        try:
            os.close(reader)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = self.work(lifeline, reason)
        finally:
            os._exit(status)

    def _listen(self, reader: int) -> tuple[bool, bool]:
        """Follow a worker to its end or until it is silent; return whether it was ever ready, and whether it is silent.

        Silence is counted in looks: when this process was stopped as well, as on a host that sleeps, it is not held
        against the worker.
        """
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        was_ready, looks = False, 0
        most = max(self.hang_seconds / BEAT_SECONDS, 1) if self.hang_seconds else float("inf")
        while looks < (most if was_ready else _START_FACTOR * most):
            if not poll.poll(BEAT_SECONDS * 1000):
                looks += 1
                continue
            words = os.read(reader, 4096)
            if not words:
                return was_ready, False
            looks = 0
            if not was_ready and _READY in words:
                was_ready = True
                leave_session()
                self._load()
        return was_ready, True

    def _load(self) -> None:
        """Load what the next worker needs; where that fails, it fails itself, and says so."""
        try:
            self.load()
        except Exception as error:  # noqa: BLE001 - whatever a module does that was changed under our feet
            log.warning("what a fresh process needs can't be loaded: %s", error)
        gc.collect()
        gc.freeze()  # what is shared with the workers stays shared

    def _why(self, status: int, is_silent: bool) -> str | None:
        if is_silent:
            return f"it was silent for {self.hang_seconds:.0f} s"
        if status < 0:
            return f"it was killed by {signal.Signals(-status).name}"
        return "it failed inside; the log has the traceback" if status == CRASHED else None
