"""Locks between processes of one mount."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Any

from tests.posix.comparing import compared, in_child, make, told


def _flock(flags: int) -> Any:
    handle = os.open("f", os.O_RDWR)
    try:
        return told(fcntl.flock, handle, flags | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def _lockf(flags: int, length: int = 0, start: int = 0) -> Any:
    handle = os.open("f", os.O_RDWR)
    try:
        return told(fcntl.lockf, handle, flags | fcntl.LOCK_NB, length, start)
    finally:
        os.close(handle)


@compared
def test_flock() -> Any:
    make("f", b"x")
    seen = []
    for held in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        handle = os.open("f", os.O_RDWR)
        fcntl.flock(handle, held)
        seen += [
            in_child(lambda: _flock(fcntl.LOCK_SH)),
            in_child(lambda: _flock(fcntl.LOCK_EX)),
            _flock(fcntl.LOCK_EX),
        ]
        fcntl.flock(handle, fcntl.LOCK_UN)
        seen.append(in_child(lambda: _flock(fcntl.LOCK_EX)))
        fcntl.flock(handle, held)
        os.close(handle)
        seen.append(in_child(lambda: _flock(fcntl.LOCK_EX)))
    return seen


@compared
def test_record_locks() -> Any:
    make("f", b"x" * 100)
    handle = os.open("f", os.O_RDWR)
    fcntl.lockf(handle, fcntl.LOCK_EX, 10, 20)
    seen = [
        in_child(lambda: _lockf(fcntl.LOCK_EX, 10, 0)),
        in_child(lambda: _lockf(fcntl.LOCK_EX, 11, 10)),
        in_child(lambda: _lockf(fcntl.LOCK_SH, 1, 29)),
        in_child(lambda: _lockf(fcntl.LOCK_SH, 1, 30)),
        in_child(_who_holds),
    ]
    fcntl.lockf(handle, fcntl.LOCK_SH, 5, 20)
    seen += [in_child(lambda: _lockf(fcntl.LOCK_SH, 5, 20)), in_child(lambda: _lockf(fcntl.LOCK_SH, 6, 20))]
    os.close(os.open("f", os.O_RDONLY))  # POSIX: any close of the file by the process drops its locks
    seen.append(in_child(lambda: _lockf(fcntl.LOCK_EX, 10, 20)))
    os.close(handle)
    return seen


def _who_holds() -> Any:
    handle = os.open("f", os.O_RDWR)
    asked = struct.pack("hhlli4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, start, length, pid = struct.unpack("hhlli4x", fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    os.close(handle)
    return [kind, start, length, pid == os.getppid()]


@compared
def test_a_waiting_lock_is_granted() -> Any:
    make("f", b"x")
    handle = os.open("f", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        own = os.open("f", os.O_RDWR)
        os.write(writing, b"w")
        fcntl.flock(own, fcntl.LOCK_EX)
        os.write(writing, b"g")
        os._exit(0)
    seen = [os.read(reading, 1)]
    fcntl.flock(handle, fcntl.LOCK_UN)
    seen.append(os.read(reading, 1))
    os.waitpid(pid, 0)
    os.close(handle)
    return seen


@compared
def test_locks_end_with_their_process() -> Any:
    make("f", b"x")

    def hold() -> None:
        fcntl.lockf(os.open("f", os.O_RDWR), fcntl.LOCK_EX)
        fcntl.flock(os.open("f", os.O_RDWR), fcntl.LOCK_EX)

    in_child(hold)
    return [_lockf(fcntl.LOCK_EX), _flock(fcntl.LOCK_EX)]
