"""A real systemd as process 1 of namespaces of its own, which knows only the units that a test wrote."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.mount.mounting import attempt, wait_until

SYSTEMD = Path("/lib/systemd/systemd")
GENERATOR = Path("/lib/systemd/system-generators/systemd-fstab-generator")

# Mounts of others would live on in our namespace, so they go first. The folder of the test stays as it is.
_BOOT = """
set -e
mount --make-rprivate /
findmnt -rno TARGET -t fuse.spacesfs,fuse,fusectl | tac | while read -r target; do umount -l "$target" || true; done
mount -t tmpfs -o mode=755 tmpfs /run
export container=lxc SYSTEMD_UNIT_PATH="$1/units:/run/systemd/generator"
export SYSTEMD_GENERATOR_PATH="$1/generators" SYSTEMD_FSTAB="$1/fstab"
exec "$2" --system --unit=test.target --log-target=kmsg --show-status=no
"""


class Systemd:
    """Boots with `start`; its units are files in ``units``, and ``fstab`` is its fstab.

    ``home`` holds these, and is the same inside and outside.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.units = home / "units"
        self.fstab = home / "fstab"
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.units.mkdir(parents=True)
        self.fstab.touch()
        (home / "generators").mkdir()
        (home / "generators" / "fstab").symlink_to(GENERATOR)
        (self.units / "test.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for target in ("sysinit", "basic", "network-online", "remote-fs", "remote-fs-pre", "umount", "shutdown"):
            (self.units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")

    def start(self) -> None:
        """Boot, and return when units can be started."""
        namespaces = ("--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc", "--uts")
        self._outer = subprocess.Popen(
            ("unshare", *namespaces, "bash", "-c", _BOOT, "boot", str(self.home), str(SYSTEMD)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._has_booted, "systemd did not boot")

    def _has_booted(self) -> bool:
        return self.systemctl("is-active", "test.target").stdout.strip() == "active"

    def stop(self) -> None:
        """End it and all that it started."""
        if self._outer is not None:
            if self._find():
                os.kill(self._pid, signal.SIGKILL)
            self._outer.kill()
            self._outer.wait()

    def run(self, *command: str | Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command as any other process of that system: outside of every unit, in its namespaces."""
        self._find()
        return attempt("nsenter", "-t", str(self._pid), "-m", "-p", "--", *command, seconds=seconds)

    def systemctl(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        return self.run("systemctl", "--no-pager", *words, seconds=seconds)

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def _find(self) -> bool:
        """Learn the id of the inner process 1 as we see it."""
        assert self._outer is not None
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        if children:
            self._pid = int(children[0])
        return bool(children)
