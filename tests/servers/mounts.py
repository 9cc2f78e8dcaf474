"""The way out of a hung mount: break its connection, so that all who wait for it get an error."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")
CONNECTIONS = Path("/sys/fs/fuse/connections")
TYPE = "fuse.spacesfs"
UMOUNT_SECONDS = 20


def abort_mounts(below: Path) -> None:
    """Break every spacesfs mount below a folder. Asks the mounts nothing, so it does not hang with them."""
    for line in MOUNT_TABLE.read_text().splitlines():
        # 36 35 0:52 / /tmp/mount rw,nosuid shared:1 - fuse.spacesfs bucket rw      (man 5 proc_pid_mountinfo)
        fields, _, filesystem = line.partition(" - ")
        device, mountpoint = fields.split()[2], Path(fields.split()[4])
        if filesystem.split()[0] == TYPE and mountpoint.is_relative_to(below):
            abort(device.partition(":")[2], mountpoint)


def abort(connection: str, mountpoint: Path) -> None:
    """Break one mount: as the user who mounted through the control files, where those are absent by force as root."""
    try:
        (CONNECTIONS / connection / "abort").write_text("1")
    except OSError:  # containers do not mount the control files
        command = ("umount", "--force", "--lazy", "--no-canonicalize", str(mountpoint))
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, check=False, timeout=UMOUNT_SECONDS)
