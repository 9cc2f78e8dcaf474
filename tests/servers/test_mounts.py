"""A mount that answers nothing can be broken, and who waits for it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.mounts import MOUNT_TABLE, abort_mounts
from tests.servers.process import Daemon

HUNG_MOUNT = """
import sys
import pyfuse3, trio

class Hung(pyfuse3.Operations):
    async def getattr(self, inode, ctx=None):
        await trio.sleep_forever()

pyfuse3.init(Hung(), sys.argv[1], {"fsname=test", "subtype=spacesfs"})
trio.run(pyfuse3.main)
"""


def test_abort_frees_who_waits(fuse_device: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    with Daemon((sys.executable, "-c", HUNG_MOUNT, str(mountpoint)), tmp_path / "log") as mount:
        mount.wait_until(lambda: str(mountpoint) in MOUNT_TABLE.read_text(), seconds=30)
        visitor = subprocess.Popen(("stat", mountpoint), stderr=subprocess.PIPE, text=True)
        try:
            assert is_waiting(visitor)
        finally:
            abort_mounts(tmp_path)
        _, complaint = visitor.communicate(timeout=30)
        assert "connect" in complaint, "ENOTCONN or ECONNABORTED"
    subprocess.run(("umount", "--lazy", mountpoint), check=False, stderr=subprocess.DEVNULL)


def is_waiting(visitor: subprocess.Popen[str]) -> bool:
    """Tell whether a process is still there after a second."""
    try:
        visitor.wait(1)
    except subprocess.TimeoutExpired:
        return True
    return False
