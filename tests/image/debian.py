"""A Debian root file system, assembled with debootstrap, and containers over it: what an engine would do, by hand.

The way to packages that this machine is set up for (mirror, proxy, certificates) holds inside as well. Nothing here
builds or pulls an image: the steps of docker/Dockerfile run in the root file system that its base image is made of.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.mount.mounting import attempt, run

RELEASE = "bookworm"
ASSEMBLE_SECONDS = 600.0
STEP_SECONDS = 900.0
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TAKEN_OVER = ("etc/resolv.conf", "etc/hosts", "etc/pip.conf")
_PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "timeout")
_CERTIFICATES = "etc/pip-certificates.pem"  # beside what Debian's own package of certificates writes

# Becomes the root of a mount namespace of its own, in which nothing of the host is left; devices are the few that an
# engine gives, /dev/fuse open to all as udev has it, and what would set the host's kernel is read-only.
_ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount --rbind /sys sys && mount -o remount,bind,ro sys
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty autofs; do touch dev/$name && mount --bind /dev/$name dev/$name; done
mknod -m 666 dev/fuse c 10 229
mkdir dev/shm dev/pts && mount -t tmpfs tmpfs dev/shm && mount --bind /dev/pts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p .host && pivot_root . .host
cd / && umount -l /.host
exec "$@"
"""


def assemble(root: Path) -> None:
    """Make a minimal Debian in a folder that does not exist yet, able to install packages as this machine is."""
    mirror = _mirror()
    run("debootstrap", "--variant=minbase", RELEASE, root, mirror, seconds=ASSEMBLE_SECONDS)
    (root / "etc/apt/sources.list").write_text(f"deb {mirror} {RELEASE} main\n")
    for name in _TAKEN_OVER:
        source = Path("/", name)
        if source.exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).unlink(missing_ok=True)
            shutil.copyfile(source, root / name)
    for settings in Path("/etc/apt/apt.conf.d").iterdir():
        if re.search(r"^\s*Acquire", settings.read_text(errors="replace"), re.MULTILINE):
            shutil.copyfile(settings, root / "etc/apt/apt.conf.d" / settings.name)
    _set_pip(root)


def _set_pip(root: Path) -> None:
    """Write what the environment says for pip into its file, where it holds for whoever calls it inside."""
    path = root / "etc/pip.conf"
    settings = configparser.RawConfigParser()
    settings.read([path])
    if not settings.has_section("global"):
        settings.add_section("global")
    for name in _PIP_SETTINGS:
        given = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
        if given:
            settings["global"][name] = given
    certificates = os.environ.get("PIP_CERT") or settings["global"].get("cert")
    if certificates:
        shutil.copyfile(certificates, root / _CERTIFICATES)
        settings["global"]["cert"] = f"/{_CERTIFICATES}"
    with path.open("w", encoding="utf-8") as file:
        settings.write(file)


def _mirror() -> str:
    """Return where this machine has Debian's packages from."""
    sites = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    return next(site for site in sites if "security" not in site)


def copy(root: Path, target: Path) -> None:
    """Copy a root file system, quickly where the disk can share blocks."""
    run("cp", "-a", "--reflink=auto", root, target, seconds=STEP_SECONDS)


class Container:
    """Namespaces of mounts and processes with a root file system of their own; the network is the host's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = root.with_name(f"{root.name}.log")
        self._outer: subprocess.Popen[bytes] | None = None

    def step(self, script: str, *, environment: Mapping[str, str] | None = None, folder: str = "/") -> str:
        """Run a shell script in a container of its own, to its end; return what it printed.

        Raises:
            AssertionError: It failed.
        """
        words = self._command("sh", "-ec", f"cd {folder}\n{script}", environment=environment)
        return run(*words, seconds=STEP_SECONDS)

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the container's first process; what it says goes to ``output``."""
        with self.output.open("ab") as output:
            self._outer = subprocess.Popen(
                self._command(*command, environment=environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def execute(self, *command: str | Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command beside the first process, as ``docker exec`` does, with its environment."""
        pid = self.first_process()
        given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        words = (os.fsdecode(word) for word in given if word)
        return attempt(
            *("nsenter", "-t", str(pid), "-m", "-p", "-r", "-w", "--", "env", "-i", *words, *command), seconds=seconds
        )

    def signal(self, number: int) -> None:
        """Send the first process a signal."""
        os.kill(self.first_process(), number)

    def wait(self, seconds: float) -> int:
        """Wait for the first process; return its exit status."""
        assert self._outer is not None
        return self._outer.wait(seconds)

    def stop(self) -> None:
        """End all that runs in it."""
        if self._outer is not None and self._outer.poll() is None:
            self._outer.kill()  # unshare has its child killed, and with its first process go all others
            self._outer.wait()

    def first_process(self) -> int:
        """Return the id of the first process, as we see it."""
        assert self._outer is not None
        while self._outer.poll() is None:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.1)
        raise AssertionError(f"the container ended:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of what it said."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-40:])

    def _command(self, *command: str, environment: Mapping[str, str] | None) -> list[str]:
        given = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"} | dict(environment or {})
        unshared = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
        words = [f"{name}={value}" for name, value in given.items()]
        return [*unshared, "sh", "-c", _ENTER, "enter", str(self.root), "/usr/bin/env", "-i", *words, *command]
