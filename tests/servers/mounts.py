"""The way out of a hung mount: break its connection, so that all who wait for it get an error."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")
CONNECTIONS = Path("/sys/fs/fuse/connections")
TYPE = "fuse.spacesfs"


def abort_mounts() -> None:
    """Break every mount of ours below the temporary folder; never one that a person works in."""
    for line in MOUNT_TABLE.read_text().splitlines():
        # 36 35 0:52 / /tmp/mount rw,nosuid shared:1 - fuse.spacesfs bucket rw      (man 5 proc_pid_mountinfo)
        fields, _, filesystem = line.partition(" - ")
        device, mountpoint = fields.split()[2], Path(fields.split()[4])
        if filesystem.split()[0] == TYPE and mountpoint.is_relative_to(tempfile.gettempdir()):
            with suppress(OSError):  # gone already, or not ours to end
                (CONNECTIONS / device.partition(":")[2] / "abort").write_text("1")
