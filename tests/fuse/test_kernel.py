"""What the kernel is told: limits that follow from the memory, settings where they are allowed, and what to forget."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spacesfs.fuse import kernel
from spacesfs.fuse.kernel import KernelLimits, tune
from spacesfs.fuse.mountpoint import mounted_at
from tests.mount.mounting import detach

MIB = 1 << 20

# A file system of one file. Its READ waits until the inode was invalidated, which waits in the kernel for the READ.
INVALIDATING = """
import os, subprocess, sys
from contextlib import closing
import pyfuse3, trio
from spacesfs.fuse.kernel import KernelNotifier

class Operations(pyfuse3.Operations):
    def __init__(self):
        super().__init__()
        self.asked, self.answer = trio.Event(), trio.Event()

    async def getattr(self, inode, ctx):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_nlink, entry.entry_timeout, entry.attr_timeout = inode, 1, 60, 60
        entry.st_mode = 0o40755 if inode == pyfuse3.ROOT_INODE else 0o100644
        entry.st_size = 0 if inode == pyfuse3.ROOT_INODE else 1 << 20
        return entry

    async def lookup(self, parent, name, ctx):
        return await self.getattr(2, ctx)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=1, keep_cache=True)

    async def read(self, fh, offset, size):
        self.asked.set()
        await self.answer.wait()
        return b"x" * size

    async def statfs(self, ctx):
        return pyfuse3.StatvfsData()

async def command(script):
    done = await trio.run_process([sys.executable, "-c", script, sys.argv[1]], capture_stdout=True)
    print(done.stdout.decode().strip(), flush=True)

async def main():
    operations = Operations()
    pyfuse3.init(operations, sys.argv[1], {"fsname=test"})
    notifier = KernelNotifier()
    notifier.start()
    with closing(notifier):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            async with trio.open_nursery() as work:
                work.start_soon(command, "import sys; print(set(open(sys.argv[1] + '/f', 'rb').read(1 << 20)))")
                await operations.asked.wait()
                for _ in range(3):
                    notifier.invalidate_inode(2)
                notifier.invalidate_entry(pyfuse3.ROOT_INODE, b"f")
                notifier.invalidate_entry(pyfuse3.ROOT_INODE, b"never looked up")
                await command("import os, sys; print('statfs', os.statvfs(sys.argv[1]).f_namemax >= 0)")
                operations.answer.set()
            with trio.fail_after(20):
                while notifier.sent < 5:
                    await trio.sleep(0.01)
            print("sent", notifier.sent, notifier.dropped, flush=True)
            nursery.cancel_scope.cancel()
    pyfuse3.close()

trio.run(main)
"""


@pytest.mark.parametrize(
    ("memory", "tasks"),
    [(16 * MIB, 64), (64 * MIB, 128), (128 * MIB, 256), (1 << 30, 512)],
)
def test_limits_follow_from_the_memory(memory: int, tasks: int) -> None:
    limits = KernelLimits.within(memory)
    assert (limits.tasks, limits.memory_bytes) == (tasks, memory // 4)
    assert 40 < limits.background < tasks


def test_what_may_not_be_set_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proc = mounted_at(Path("/proc"))
    assert proc is not None
    monkeypatch.setattr(kernel, "_BDI", tmp_path)
    monkeypatch.setattr(kernel, "_CONNECTIONS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    notice = tune(Path("/proc"), 100)
    assert notice is not None
    assert "read_ahead_kb to 4096" in notice
    assert "max_background to 100" in notice
    assert "\n" not in notice


def test_what_may_be_set_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proc = mounted_at(Path("/proc"))
    assert proc is not None
    connection = tmp_path / proc.device.partition(":")[2]
    (tmp_path / proc.device).mkdir()
    connection.mkdir()
    monkeypatch.setattr(kernel, "_BDI", tmp_path)
    monkeypatch.setattr(kernel, "_CONNECTIONS", tmp_path)
    assert tune(Path("/proc"), 100) is None
    assert (tmp_path / proc.device / "read_ahead_kb").read_text() == "4096\n"
    assert (connection / "max_background").read_text() == "100\n"
    assert (connection / "congestion_threshold").read_text() == "75\n"


def test_nothing_waits_for_a_notification(tmp_path: Path, fuse_device: Path) -> None:
    """An inode is invalidated while a READ of it is in flight; others are served, and the READ is answered."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", INVALIDATING, tmp_path], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        detach(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["statfs True", "{120}", "sent 5 0"]
