"""What the kernel is told beside its answers: how far to read ahead, how much to ask at once, and what to forget."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyfuse3
import trio

from spacesfs.fuse.mountpoint import mounted_at
from spacesfs.fuse.programs import bare_environment

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 4096  # 128 by default, and then a request has 128 KiB; so it has the most there is, 1 MiB
MAX_QUEUED = 100_000  # notifications; what is lost is believed until its time-out

_BDI = Path("/sys/class/bdi")
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_CONTROL_SECONDS = 10.0
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """How many requests of the kernel are served at once.

    Each has a task and a buffer of 1 MiB. A READ that waits touches 8 KiB of its buffer and a WRITE all of it, but a
    WRITE does not wait for the Space: a quarter of the memory is set aside for all of them.

    Attributes:
        memory_bytes: What the buffers may take.
        tasks: How many requests there are at most.
        background: How many of them may be READs of the page cache; the others are for those that wait for nothing.
    """

    memory_bytes: int
    tasks: int
    background: int

    @classmethod
    def within(cls, memory_bytes: int) -> Self:
        """Return the limits of a mount that may use so much memory in all."""
        tasks = min(max(memory_bytes // _BYTES_PER_TASK, _LEAST_TASKS), _MOST_TASKS)
        return cls(memory_bytes // 4, tasks, tasks - _FOREGROUND_TASKS)


_BYTES_PER_TASK = 512 << 10
_LEAST_TASKS, _MOST_TASKS = 64, 512
_FOREGROUND_TASKS = 16


def tune(mountpoint: Path, background: int) -> str | None:
    """Let the kernel read further ahead and ask for more at once; return a line about what it does not let us do.

    Only root may, and only where ``/sys`` can be written. Touches no file of the mount itself.
    """
    mount = mounted_at(mountpoint)
    if mount is None:
        return f"nothing is mounted on {mountpoint}"
    refused = []
    if not _write(_BDI / mount.device / "read_ahead_kb", READ_AHEAD_KIB):
        refused.append(f"/sys/class/bdi/{mount.device}/read_ahead_kb to {READ_AHEAD_KIB}")
    connection = mount.device.partition(":")[2]
    if not _set_background(connection, background):
        refused.append(f"{_CONNECTIONS}/{connection}/max_background to {background}")
    if not refused:
        return None
    return f"reading would be faster if root set {' and '.join(refused)}"


def _write(path: Path, value: int) -> bool:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        log.debug("%s: %s", path, error)
        return False
    return True


def _set_background(connection: str, background: int) -> bool:
    """Set what the kernel may ask at once; where its control file system is not mounted, through one of our own."""
    folder = _CONNECTIONS / connection
    if folder.exists():
        _write(folder / "congestion_threshold", background * 3 // 4)
        return _write(folder / "max_background", background)
    if os.geteuid() != 0:
        return False
    script = f"mount -t fusectl none {_CONNECTIONS} && cd {folder} && echo {background} > max_background"
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", f"{script} && echo {background * 3 // 4} > congestion_threshold"],
            stdin=subprocess.DEVNULL,
            env=bare_environment(),
            capture_output=True,
            timeout=_CONTROL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("max_background: %s", error)
        return False
    return done.returncode == 0


class KernelNotifier:
    """Tells the kernel what to forget. The methods return at once, and may be called from anywhere.

    A notification waits in the kernel for requests in flight that concern the same inode, and those wait for us. So one
    thread of its own sends them all, in order; nobody ever waits for it.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_QUEUED)
        self._is_over = False
        self._telling = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kernel-notifier", daemon=True)
        self.sent = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin, once the kernel is there to be told."""
        self._thread.start()

    def close(self) -> None:
        """Tell no more: the kernel goes. A notification that hangs is left alone: it ends with the mount."""
        self._is_over = True
        self._put(None)
        if self._telling.acquire(timeout=_STOP_SECONDS):
            self._telling.release()

    def invalidate_inode(self, inode: int, *, attributes_only: bool = False) -> None:
        """Forget an inode's attributes and, unless told otherwise, its pages."""
        self._put(lambda: pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=attributes_only))

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Forget what stands under a name."""
        self._put(lambda: pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), pyfuse3.FileNameT(name)))

    async def settle(self, seconds: float) -> bool:
        """Return when all was told so far, or after some time; say which. Not for who answers a request."""
        token, told = trio.lowlevel.current_trio_token(), trio.Event()

        def tell() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(told.set)

        self._put(tell)
        with trio.move_on_after(seconds):
            await told.wait()
        return told.is_set()

    def _put(self, notify: Callable[[], None] | None) -> None:
        try:
            self._queue.put_nowait(notify)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while (notify := self._queue.get()) is not None:
            try:
                with self._telling:
                    if not self._is_over:
                        notify()
            except OSError as error:  # the kernel does not know it, or the mount is gone
                log.debug("notification: %s", error)
            self.sent += 1
