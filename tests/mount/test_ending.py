"""The end of a mount: programs are answered to the last, everything goes to the Space, and what can't is kept."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, Mount, MountMaker, fails_with, is_mounted, run, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway


@pytest.fixture
def gate(rgw: RadosGateway) -> Iterator[Gate]:
    with Gate(rgw.endpoint) as gate:
        yield gate


@pytest.fixture
def mount(rgw: RadosGateway, gate: Gate, new_mount: MountMaker) -> Mount:
    """A mount behind the gate, which is shut when one file is acknowledged and not sent."""
    mount: Mount = new_mount(account=Account(gate.url, rgw.access_key, rgw.secret_key), options=["--grace", "1h"])
    (mount.path / "unsent").write_bytes(b"acknowledged")
    gate.shut()
    return mount


def stored(s3: S3Client, mount: Mount, key: str) -> bytes:
    return s3.get_object(Bucket=mount.source, Key=key)["Body"].read()


def is_draining(mount: Mount) -> Callable[[], bool]:
    return lambda: mount.status()["state"] == "draining"


def test_programs_are_answered_while_the_mount_drains(s3: S3Client, gate: Gate, mount: Mount) -> None:
    os.kill(mount.pid, signal.SIGTERM)
    wait_until(is_draining(mount), "it does not drain")
    assert (mount.path / "unsent").read_bytes() == b"acknowledged"
    with (mount.path / "unsent").open("ab") as file:
        file.write(b", and more")
    assert is_mounted(mount.path)
    gate.reopen()
    assert mount.wait() == 0
    assert not is_mounted(mount.path)
    assert stored(s3, mount, "unsent") == b"acknowledged, and more"


def test_a_second_signal_ends_at_once_and_the_next_mount_sends(s3: S3Client, gate: Gate, mount: Mount) -> None:
    file = os.open(mount.path / "unsent", os.O_WRONLY | os.O_APPEND)
    os.write(file, b", and what no close acknowledged")
    os.kill(mount.pid, signal.SIGTERM)
    wait_until(is_draining(mount), "it does not drain")
    os.kill(mount.pid, signal.SIGTERM)
    assert mount.wait(20) == 1
    with fails_with(errno.ENOTCONN):
        os.close(file)
    said = mount.log.read_text()
    assert "not in the Space, but safe in the journal: 1 changes" in said
    assert f"(unsent); the next mount sends them, or: spacesfs sync {mount.source}" in said
    assert "Traceback" not in said
    assert not is_mounted(mount.path)
    gate.reopen()
    mount.start()
    mount.sync()
    assert stored(s3, mount, "unsent") == b"acknowledged, and what no close acknowledged"


def test_a_removed_file_that_is_still_read_goes_with_the_mount(s3: S3Client, new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    (mount.path / "f").write_bytes(b"content")
    mount.sync()
    file = os.open(mount.path / "f", os.O_RDONLY)
    (mount.path / "f").unlink()
    os.kill(mount.pid, signal.SIGTERM)
    assert mount.wait() == 0
    with fails_with(errno.ENOTCONN):
        os.close(file)
    assert "Contents" not in s3.list_objects_v2(Bucket=mount.source)


def test_umount_8_returns_and_the_process_drains(s3: S3Client, gate: Gate, mount: Mount) -> None:
    mount.expect_log("fuse_reply")  # of a release that the unmount overtook
    run("fusermount3", "-u", mount.path)
    assert not is_mounted(mount.path)
    assert mount.process is not None
    with pytest.raises(subprocess.TimeoutExpired):
        mount.process.wait(1)
    gate.reopen()
    assert mount.wait() == 0
    assert stored(s3, mount, "unsent") == b"acknowledged"


def test_umount_8_while_it_drains(s3: S3Client, gate: Gate, mount: Mount) -> None:
    os.kill(mount.pid, signal.SIGTERM)
    wait_until(is_draining(mount), "it does not drain")
    mount.expect_log("fuse_reply")  # of a release that the unmount overtook
    run("fusermount3", "-u", mount.path)
    gate.reopen()
    assert mount.wait() == 0
    assert stored(s3, mount, "unsent") == b"acknowledged"


def test_a_space_that_cannot_be_reached_keeps_nobody(s3: S3Client, rgw: RadosGateway, new_mount: MountMaker) -> None:
    with Gate(rgw.endpoint) as gate:
        account = Account(gate.url, rgw.access_key, rgw.secret_key)
        mount: Mount = new_mount(account=account, options=["--grace", "1h", "--timeout", "8s"])
        mount.expect_log("not in the Space|can't be reached|no complete answer")
        (mount.path / "unsent").write_bytes(b"acknowledged")
        gate.shut()
        os.kill(mount.pid, signal.SIGTERM)
        assert mount.wait(60) == 1
        assert "safe in the journal" in mount.log.read_text()
        gate.reopen()
        mount.start()
        mount.sync()
        assert stored(s3, mount, "unsent") == b"acknowledged"
        mount.stop()


def test_umount_refuses_while_the_space_cannot_be_reached(rgw: RadosGateway, new_mount: MountMaker) -> None:
    with Gate(rgw.endpoint) as gate:
        account = Account(gate.url, rgw.access_key, rgw.secret_key)
        mount: Mount = new_mount(account=account, options=["--grace", "1h", "--timeout", "8s"])
        mount.expect_log("not in the Space|can't be reached|no complete answer")
        (mount.path / "unsent").write_bytes(b"acknowledged")
        gate.shut()
        done = mount.spacesfs("umount", mount.path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"{mount.path} stays mounted, and what waits is safe in its journal" in line
        assert is_mounted(mount.path)
        gate.reopen()
        mount.stop()
