"""The units and the fstab lines of docs/running.md under a real systemd, and what another process sees of the Space."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spacesfs.cli.unit import unit_text
from tests.mount.mounting import Account, BucketMaker, wait_until
from tests.mount.systemd import Systemd

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root boots a systemd"),
    pytest.mark.deadline(240),
]
COMMAND = Path(sys.executable).with_name("spacesfs")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Systemd]:
    system = Systemd(tmp_path / "system")
    yield system
    system.stop()


@pytest.fixture
def keys(account: Account, tmp_path: Path) -> Path:
    """The file with the keys and what leads to the server."""
    path = tmp_path / "keys.env"
    lines = {
        "SPACES_ACCESS_KEY_ID": account.access_key,
        "SPACES_SECRET_ACCESS_KEY": account.secret_key,
        "SPACESFS_ENDPOINT": account.endpoint,
        "SPACESFS_CA_BUNDLE": str(account.ca_bundle),
        "SPACESFS_STATE_DIR": str(tmp_path / "state"),
        "SPACESFS_CACHE_DIR": str(tmp_path / "cache"),
    }
    path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    path.chmod(0o600)
    return path


def eventually(is_so: Callable[[], bool], what: str) -> None:
    wait_until(is_so, what)


def stored(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_the_service_mounts_heals_and_drains(
    s3: S3Client, system: Systemd, keys: Path, new_bucket: BucketMaker, tmp_path: Path
) -> None:
    bucket = new_bucket()
    place = tmp_path / "a b%i$HOME"
    service = "spacesfs-test.service"
    text = unit_text(bucket, place, str(COMMAND)).replace(f"/etc/spacesfs/{bucket}.env", str(keys))
    (system.units / service).write_text(text.replace("WatchdogSec=30", "WatchdogSec=3"))
    system.start()

    started = system.systemctl("start", service)
    assert started.returncode == 0, started.stderr
    assert system.property(service, "StatusText") == f"{bucket} is mounted on {place}"
    assert system.run("sh", "-c", f"echo content > '{place!s}/f'").returncode == 0
    assert system.run("cat", place / "f").stdout == "content\n"

    for number in ("KILL", "STOP"):
        pid = system.property(service, "MainPID")
        assert system.run("kill", f"-{number}", pid).returncode == 0
        eventually(lambda pid=pid: _is_served_by_another(system, service, place, pid), f"no life after {number}")  # type: ignore[misc]
        status = system.run(COMMAND, "status", place).stdout
        assert "an earlier process died and left its mount" in status

    assert system.run("sh", "-c", f"echo last > '{place}/g'").returncode == 0
    assert system.systemctl("stop", service).returncode == 0
    assert system.property(service, "Result") == "success"
    assert system.run("ls", place).stdout == ""
    assert stored(s3, bucket, "f") == b"content\n"
    assert stored(s3, bucket, "g") == b"last\n"


def _is_served_by_another(system: Systemd, service: str, place: Path, pid: str) -> bool:
    if system.property(service, "ActiveState") != "active" or system.property(service, "MainPID") == pid:
        return False
    return system.run("cat", place / "f").stdout == "content\n"


@pytest.mark.parametrize("is_automatic", [False, True], ids=["mount", "automount"])
def test_a_line_of_fstab(
    s3: S3Client, system: Systemd, keys: Path, new_bucket: BucketMaker, tmp_path: Path, *, is_automatic: bool
) -> None:
    """The helper lies in /sbin, where mount(8) looks for it; here it is put there inside the system only."""
    bucket, place = new_bucket(), tmp_path / "mnt"
    place.mkdir()
    options = f"_netdev,nofail,metadata-ttl=2s,environment-file={keys}" + ",x-systemd.automount" * is_automatic
    system.fstab.write_text(f"{bucket} {place} spacesfs {options} 0 0\n")
    system.start()
    helper = COMMAND.with_name("mount.spacesfs")
    assert helper.exists()
    sbin = "mkdir /run/sbin && cp -a /sbin/mount* /sbin/fsck* /run/sbin && ln -s {} /run/sbin/mount.spacesfs && {}"
    done = system.run("sh", "-ec", sbin.format(helper, "mount --bind /run/sbin /usr/sbin"))
    assert done.returncode == 0, done.stderr
    unit = system.run("systemd-escape", "--path", str(place)).stdout.strip()
    kind = "automount" if is_automatic else "mount"
    done = system.systemctl("start", f"{unit}.{kind}")
    assert done.returncode == 0, done.stderr + system.systemctl("status", f"{unit}.mount").stdout
    done = system.run("sh", "-c", f"echo content > '{place}/f'")
    assert done.returncode == 0, done.stderr + system.systemctl("status", f"{unit}.mount").stdout
    assert system.property(f"{unit}.mount", "ActiveState") == "active"
    done = system.systemctl("stop", *[f"{unit}.automount"] * is_automatic, f"{unit}.mount")
    assert done.returncode == 0, done.stderr
    eventually(lambda: s3.list_objects_v2(Bucket=bucket).get("KeyCount") == 1, "what was written is not in the Space")
    assert stored(s3, bucket, "f") == b"content\n"
