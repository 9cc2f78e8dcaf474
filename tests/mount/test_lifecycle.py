"""The life of a mount: background and foreground, drain and signals, crash and recovery, and the commands beside it."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import (
    Account,
    BucketMaker,
    Mount,
    MountMaker,
    attempt,
    fails_with,
    is_mounted,
    spacesfs_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway


@pytest.fixture
def background(account: Account, new_bucket: BucketMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount, not started yet, that will serve from the background and log to its file."""
    mount = Mount(account, new_bucket(), tmp_path_factory.mktemp("m"))
    mount.options += ["--log-file", str(mount.log)]
    yield mount
    mount.close()


def test_background_mount(s3: S3Client, background: Mount) -> None:
    """0 means: it answers. umount returns when everything is in the Space."""
    s3.put_object(Bucket=background.source, Key="there", Body=b"there")
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    assert os.listdir(background.path) == ["there"]
    (background.path / "ours").write_bytes(b"ours")
    done = background.spacesfs("umount", background.path)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(background.path)
    assert os.listdir(background.path) == []
    assert s3.get_object(Bucket=background.source, Key="ours")["Body"].read() == b"ours"
    background.check_log()
    assert background.log.stat().st_size > 0


def test_background_mount_lets_go_of_the_terminal(background: Mount) -> None:
    """A caller that reads its output sees the end of it: the daemon keeps no inherited file open."""
    script = 'out=$("$@" 2>&1); echo "done: $?"'
    command = spacesfs_command("mount", *background.arguments())
    done = attempt("bash", "-c", script, "bash", *command, env=background.environment, seconds=30)
    assert done.stdout == "done: 0\n"
    assert background.spacesfs("umount", background.path).returncode == 0


def test_mount_without_tls_on_this_machine(rgw: RadosGateway, new_mount: MountMaker) -> None:
    mount: Mount = new_mount(account=Account(rgw.endpoint, rgw.access_key, rgw.secret_key))
    (mount.path / "f").write_bytes(b"content")
    mount.remount()
    assert (mount.path / "f").read_bytes() == b"content"


def test_options_from_environment_and_file(account: Account, background: Mount) -> None:
    """The endpoint from the environment, the rest from the user's configuration file."""
    configuration = background.home / ".config" / "spacesfs" / "config.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        f'ca-bundle = "{account.ca_bundle}"\n'
        f'cache-dir = "{background.home}/cache"\n'
        f'state-dir = "{background.home}/state"\n'
        f'log-file = "{background.log}"\n'
    )
    environment = background.environment | {"SPACESFS_ENDPOINT": account.endpoint}
    done = attempt(*spacesfs_command("mount", background.source, background.path), env=environment)
    assert done.returncode == 0, done.stderr
    (background.path / "f").write_bytes(b"content")
    assert background.spacesfs("umount", background.path).returncode == 0


def test_ssl_cert_file_is_trusted(account: Account, new_mount: MountMaker, background: Mount) -> None:
    without = Account(account.endpoint, account.access_key, account.secret_key)
    background.account = without
    command = spacesfs_command("mount", *background.arguments())
    done = attempt(*command, env=background.environment | {"SSL_CERT_FILE": str(account.ca_bundle)})
    assert done.returncode == 0, done.stderr
    assert background.spacesfs("umount", background.path).returncode == 0


def test_keys_from_an_aws_profile(account: Account, background: Mount) -> None:
    credentials = background.home / ".aws" / "credentials"
    credentials.parent.mkdir()
    credentials.write_text(
        f"[default]\naws_access_key_id = NOBODY\naws_secret_access_key = nothing\n"
        f"[space]\naws_access_key_id = {account.access_key}\naws_secret_access_key = {account.secret_key}\n"
    )
    credentials.chmod(0o600)
    environment = {name: value for name, value in background.environment.items() if not name.startswith("SPACES_")}
    command = spacesfs_command("mount", "--profile", "space", *background.arguments())
    done = attempt(*command, env=environment)
    assert done.returncode == 0, done.stderr
    assert background.spacesfs("umount", background.path).returncode == 0


def test_list_status_and_sync(s3: S3Client, new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    listed = mount.spacesfs("list")
    assert listed.returncode == 0, listed.stderr
    (row,) = [line.split() for line in listed.stdout.splitlines() if str(mount.path) in line]
    assert row[:3] == [mount.source, str(mount.path), "serving"]

    (mount.path / "f").write_bytes(b"content")
    synced = mount.spacesfs("sync", mount.path / "f")
    assert synced.returncode == 0, synced.stderr
    assert s3.get_object(Bucket=mount.source, Key="f")["Body"].read() == b"content"

    status = mount.status()
    assert (status["bucket"], status["prefix"], status["mountpoint"]) == (mount.source, "", str(mount.path))
    assert (status["pid"], status["state"], status["durability"]) == (mount.pid, "serving", "journal")
    assert status["pending"] == []
    assert status["read_only"] is False
    assert status["requests"]["write"]["bytes_sent"] >= len(b"content")
    assert mount.account.secret_key not in json.dumps(status)
    shown = mount.spacesfs("status", mount.path)
    assert shown.returncode == 0, shown.stderr
    assert mount.source in shown.stdout


def test_status_and_umount_where_nothing_is_mounted(background: Mount) -> None:
    for command in ("status", "umount", "sync"):
        done = background.spacesfs(command, background.path)
        assert done.returncode in (1, 2), command
        assert len(done.stderr.strip().splitlines()) == 1
        assert str(background.path) in done.stderr


def test_umount_of_a_busy_mount(new_mount: MountMaker) -> None:
    """It says so, and the mount lives on."""
    mount: Mount = new_mount()
    (mount.path / "f").write_bytes(b"content")
    with (mount.path / "f").open("rb") as handle:
        done = mount.spacesfs("umount", mount.path)
        assert done.returncode in (1, 2)
        assert "busy" in done.stderr.lower()
        assert "Traceback" not in done.stderr
        assert handle.read() == b"content"
    mount.expect_log("busy")
    assert (mount.path / "f").read_bytes() == b"content"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_unmounts(s3: S3Client, new_mount: MountMaker, number: signal.Signals) -> None:
    mount: Mount = new_mount()
    for index in range(20):
        (mount.path / f"f{index}").write_bytes(b"%d" % index)
    os.kill(mount.pid, number)
    assert mount.wait(60) == 0
    assert not is_mounted(mount.path)
    assert os.listdir(mount.path) == []
    for index in range(20):
        assert s3.get_object(Bucket=mount.source, Key=f"f{index}")["Body"].read() == b"%d" % index


def test_stalled_server_gives_an_error_within_the_timeout(rgw: RadosGateway, new_mount: MountMaker) -> None:
    """No operation hangs: past --timeout it fails, and afterwards the mount works on."""
    with Gate(rgw.endpoint) as gate:
        account = Account(gate.url, rgw.access_key, rgw.secret_key)
        mount: Mount = new_mount(account=account, options=["--timeout", "8s", "--metadata-ttl", "0s"])
        (mount.path / "f").write_bytes(b"content")
        mount.sync()
        gate.shut()
        mount.expect_log("")
        done = attempt("cat", mount.path / "elsewhere", seconds=30)
        assert done.returncode == 1
        assert "No such file" not in done.stderr
        gate.reopen()
        assert (mount.path / "f").read_bytes() == b"content"


def test_crash_leaves_no_empty_directory_and_mounting_again_recovers(s3: S3Client, new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    (mount.path / "before").write_bytes(b"before")
    mount.sync()
    mount.kill()
    with fails_with(errno.ENOTCONN):
        os.listdir(mount.path)
    mount.expect_log("stale|recover|dead")
    logged_bytes = mount.log.stat().st_size
    mount.start()
    said = mount.log.read_text()[logged_bytes:].lower()
    assert str(mount.path).lower() in said
    assert any(word in said for word in ("stale", "dead", "recover", "crash"))
    assert (mount.path / "before").read_bytes() == b"before"
    (mount.path / "after").write_bytes(b"after")
    mount.sync()
    assert s3.get_object(Bucket=mount.source, Key="after")["Body"].read() == b"after"


def test_crash_recovered_by_a_background_mount(background: Mount) -> None:
    background.start()
    background.kill()
    done = background.spacesfs("mount", *background.arguments())
    assert done.returncode == 0, done.stderr
    assert any(word in (done.stderr + done.stdout).lower() for word in ("stale", "dead", "recover", "crash"))
    assert os.listdir(background.path) == []
    assert background.spacesfs("umount", background.path).returncode == 0
    assert not is_mounted(background.path)


def test_umount_of_a_dead_mount(background: Mount) -> None:
    """What a crash left behind can be taken away; nothing is claimed to be sent."""
    background.start()
    background.kill()
    background.spacesfs("umount", background.path)
    assert not is_mounted(background.path)


def test_two_mounts_of_one_bucket(new_mount: MountMaker) -> None:
    first: Mount = new_mount(options=["--metadata-ttl", "0s"])
    second: Mount = new_mount(first.source, options=["--metadata-ttl", "0s"])
    (first.path / "f").write_bytes(b"from the first")
    first.sync()
    assert (second.path / "f").read_bytes() == b"from the first"
    (second.path / "f").write_bytes(b"from the second, longer")
    second.sync()
    assert (first.path / "f").read_bytes() == b"from the second, longer"


def test_nothing_of_a_mount_can_be_read_by_others(new_mount: MountMaker) -> None:
    """Cache, state and sockets are for the mounting user alone."""
    mount: Mount = new_mount()
    (mount.path / "f").write_bytes(b"secret" * 1000)
    roots = [root for root in (mount.home / "cache", mount.home / "state") if root.exists()]
    assert roots
    for root in roots:
        for path in (root, *root.rglob("*")):
            assert _shared_bits(path) == 0, path


def _shared_bits(path: Path) -> int:
    """Return what group and others may do; 0 for what lies in a folder they cannot enter."""
    mode = path.lstat().st_mode & 0o077
    return 0 if any(parent.stat().st_mode & 0o077 == 0 for parent in path.parents) else mode
