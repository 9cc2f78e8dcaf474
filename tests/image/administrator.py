"""A new administrator on a fresh Debian, who does what the documents say, word for word.

Installs, mounts by hand and at boot, reboots, loses the network and the process, upgrades, drains, removes. ``make
image-test``. The server is this host's: where it is stands in the files that the documents have for options and keys.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import ContainerMaker
from tests.image.debian import Container
from tests.mount.gate import Gate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

ROOT = Path(__file__).parents[2]
CLONE = "/root/spacesfs"
BUCKET = "my-bucket"  # as in the documents
SERVICE = f"spacesfs@{BUCKET}"
PLACE = f"/mnt/{BUCKET}"
BOOT_SECONDS = 90.0
WAIT_SECONDS = 60.0


def block(document: str, title: str, number: int = 0) -> str:
    """Return a fenced block of commands below a heading."""
    section = (ROOT / "docs" / document).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return blocks[number]


@pytest.fixture
def space(s3: S3Client) -> str:
    s3.create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture
def machine(fresh: Path, container: ContainerMaker) -> Container:
    """A fresh Debian with a clone of this repository and a systemd, as people have it."""
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], stdout=subprocess.PIPE, check=True, timeout=WAIT_SECONDS
    )
    clone = fresh / CLONE.lstrip("/")
    clone.mkdir(parents=True)
    subprocess.run(
        ["cp", "--parents", "-t", clone, "--", *files.stdout.decode().rstrip("\0").split("\0")],
        cwd=ROOT,
        check=True,
        timeout=WAIT_SECONDS,
    )
    made = container(fresh)
    made.step("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q systemd systemd-sysv dbus")
    return made


def boot(machine: Container) -> None:
    machine.start("/lib/systemd/systemd", environment={"container": "lxc"})
    eventually(
        lambda: machine.execute("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"},
        machine,
        "systemd did not boot",
        BOOT_SECONDS,
    )


def eventually(is_so: Callable[[], bool], machine: Container, what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}\n{machine.execute('journalctl', '--no-pager', '-n', '60').stdout}"
        time.sleep(0.5)


def do(machine: Container, script: str, seconds: float = WAIT_SECONDS) -> str:
    """Type commands at root's shell, in the clone."""
    done = machine.execute("sh", "-ec", f"cd {CLONE}\n{script}", seconds=seconds)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def body(s3: S3Client, key: str) -> bytes:
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def pid(machine: Container) -> str:
    return machine.execute("systemctl", "show", "--value", "-p", "MainPID", SERVICE).stdout.strip()


def test_from_install_to_remove(machine: Container, space: str, rgw: RadosGateway, s3: S3Client) -> None:
    machine.step(block("start.md", "Install"), folder=CLONE)
    with Gate(rgw.endpoint) as gate:
        boot(machine)
        assert "spacesfs" in do(machine, "spacesfs version")

        # At boot, as a service.
        service = block("running.md", "At boot: systemd").splitlines()
        do(machine, "\n".join(service[:3]))
        keys = machine.root / f"etc/spacesfs/{BUCKET}.env"
        assert keys.stat().st_mode & 0o777 == 0o600
        options = {
            "SPACES_ACCESS_KEY_ID": rgw.access_key,
            "SPACES_SECRET_ACCESS_KEY": rgw.secret_key,
            "SPACESFS_ENDPOINT": gate.url,
            "SPACESFS_TIMEOUT": "5s",
        }
        keys.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        do(machine, "\n".join(service[3:]))
        assert f"{BUCKET} is mounted on {PLACE}" in do(machine, f"systemctl status {SERVICE}")
        do(machine, f"echo one > {PLACE}/one && spacesfs sync {PLACE}")
        assert body(s3, "one") == b"one\n"

        # A reboot.
        machine.stop()
        boot(machine)
        eventually(lambda: machine.execute("cat", f"{PLACE}/one").stdout == "one\n", machine, "no mount at boot")
        status = json.loads(do(machine, f"spacesfs status {PLACE} --json"))
        assert (status["bucket"], status["state"]) == (BUCKET, "serving")
        assert do(machine, "spacesfs list")

        # The network goes, and then the process.
        do(machine, f"echo two > {PLACE}/two && cat {PLACE}/two")
        gate.shut()
        do(machine, f"echo changed > {PLACE}/two")
        before = pid(machine)
        do(machine, f"kill -9 {before}")
        eventually(
            lambda: pid(machine) not in {before, "0"} and machine.execute("cat", f"{PLACE}/two").stdout == "changed\n",
            machine,
            "it does not come back while the Space is away",
        )
        gate.reopen()
        eventually(lambda: machine.execute("ls", PLACE).stdout == "one\ntwo\n", machine, "the Space is not back")
        do(machine, f"spacesfs sync {PLACE}")
        assert body(s3, "two") == b"changed\n"

        _use_as_somebody_else(machine, rgw, s3)

        # Upgrade, drain, remove.
        do(machine, block("start.md", "Upgrade"), seconds=600)
        do(machine, f"systemctl restart {SERVICE} && cat {PLACE}/one")
        do(machine, f"echo three > {PLACE}/three && systemctl stop {SERVICE}")
        assert body(s3, "three") == b"three\n"
        assert do(machine, f"ls {PLACE}") == ""
        do(machine, f"systemctl disable {SERVICE}")
        _use_fstab(machine, s3)
        do(machine, block("start.md", "Remove"))
        assert machine.execute("sh", "-c", "command -v spacesfs").returncode != 0


def _use_as_somebody_else(machine: Container, rgw: RadosGateway, s3: S3Client) -> None:
    """Mount by hand as the start page says, without root."""
    do(machine, "useradd --create-home alice && echo report > /home/alice/report.pdf")
    keys = f"SPACES_ACCESS_KEY_ID={rgw.access_key} SPACES_SECRET_ACCESS_KEY={rgw.secret_key}"
    script = block("start.md", "The first mount")
    assert "SPACES_ACCESS_KEY_ID=... SPACES_SECRET_ACCESS_KEY=..." in script
    script = script.replace("SPACES_ACCESS_KEY_ID=... SPACES_SECRET_ACCESS_KEY=...", keys)
    done = machine.execute(
        *("runuser", "-u", "alice", "--", "env", "HOME=/home/alice", f"SPACESFS_ENDPOINT={rgw.endpoint}"),
        *("sh", "-ec", f"cd ~\n{script}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FIX" not in done.stdout
    assert body(s3, "report.pdf") == b"report\n"


def _use_fstab(machine: Container, s3: S3Client) -> None:
    """Mount at the first access, by a line of fstab as in the documents."""
    do(machine, block("running.md", "At boot: fstab"))
    section = (ROOT / "docs" / "running.md").read_text().partition("## At boot: fstab")[2]
    line = next(line for line in section.splitlines() if line.startswith(f"{BUCKET}:photos")).replace(
        "region=fra1,ro", "metadata-ttl=2s"
    )
    (machine.root / "etc/fstab").write_text(f"{line}\n")
    do(machine, "mkdir -p /srv/photos && systemctl daemon-reload && systemctl start srv-photos.automount")
    do(machine, "echo photo > /srv/photos/p && spacesfs umount /srv/photos")
    assert body(s3, "photos/p") == b"photo\n"
    do(machine, "systemctl stop srv-photos.automount srv-photos.mount")
    (machine.root / "etc/fstab").write_text("")
    do(machine, "systemctl daemon-reload")
