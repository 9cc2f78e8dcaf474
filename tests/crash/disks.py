"""Disks for a mount's state folder that can be small, and that can lose their power.

A power cut is simulated below the file system: ext4 on a loop device whose backing file, in memory, stands for the
platter. What a program wrote and did not fsync is in the kernel's page cache and not in that file; so right after the
mount was killed the file is copied, and the copy is what the power cut left: its ext4 is mounted again, which replays
the file system's own journal, and the old one is thrown away. What the kernel wrote back by itself before survives, as
it may; the mount options make that rare (no commit of ext4's for five minutes). The copy takes milliseconds and nobody
fsyncs meanwhile, for the only program that does is dead. Limits: a sector is never torn, and on ext4 the fsync of a
file also keeps its name, so a folder that was not synced goes unnoticed here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Self


class Disk:
    """An ext4 file system at a mountpoint, its backing file in memory, for the time of a ``with`` block."""

    def __init__(self, home: Path, mountpoint: Path, mebibytes: int) -> None:
        self._platters = home / "platters"
        self.mountpoint = mountpoint
        self._mebibytes = mebibytes
        self._cuts = 0

    def __enter__(self) -> Self:
        self._platters.mkdir()
        self.mountpoint.mkdir(exist_ok=True)
        size = f"size={self._mebibytes * 2 + 16}m"
        _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", self._platters)
        _run("truncate", "-s", f"{self._mebibytes}M", self._image)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", "--lazy", self.mountpoint)
        _run("umount", "--lazy", self._platters)

    @property
    def _image(self) -> Path:
        return self._platters / f"{self._cuts}.img"

    def cut_power(self) -> None:
        """Lose what is not on the platter, and come up again. Nobody may have a file open."""
        old = self._image
        self._cuts += 1
        shutil.copyfile(old, self._image)
        _run("umount", self.mountpoint)
        old.unlink()
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,commit=300", self._image, self.mountpoint)
        self.mountpoint.chmod(0o700)


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)
