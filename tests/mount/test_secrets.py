"""Secrets are nowhere but in memory, and nobody else reaches what is a mount's own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

import pytest

from tests.mount.mounting import Account, Mount, MountMaker, attempt, spacesfs_command

NOBODY = 65534

# Tries everything that it is given as another user; prints what it could get at.
INTRUDE = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    for name, act in (
        ("list", os.listdir),
        ("read", lambda path: open(path, "rb").read(1)),
        ("write", lambda path: open(path, "ab").close()),
        ("connect", lambda path: socket.socket(socket.AF_UNIX).connect(path)),
    ):
        try:
            act(path)
        except OSError:
            continue
        print(name, path)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_in_any_output(new_mount: MountMaker, log_format: str) -> None:
    """Log at its loudest, status, metrics, pending, config, bundle, command lines, cache, journal."""
    port = free_port()
    loudest = ["--log-level", "debug", "--log-format", log_format]
    mount: Mount = new_mount(options=[*loudest, "--metrics-listen", f"127.0.0.1:{port}"])
    (mount.path / "f").write_bytes(b"content" * 1000)
    assert (mount.path / "f").read_bytes()
    with pytest.raises(FileNotFoundError):
        (mount.path / "missing").read_bytes()
    mount.sync()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        metrics = reply.read().decode()
    assert "spacesfs_requests_total" in metrics
    outputs = {"metrics": metrics}
    commands = (
        ["status", mount.path],
        ["status", mount.path, "--json"],
        ["list", "--json"],
        ["pending", "list", "--state-dir", mount.home / "state"],
        ["config", "show"],
        ["doctor", mount.source, *mount.account.options()],
        ["version", "--json"],
        ["warm", mount.path / "f"],
        ["refresh", mount.path],
        ["drop-cache", mount.path],
        ["set", mount.path, "--limit-up", "0"],
        ["mount", *mount.arguments()],  # refused: it is mounted
    )
    for command in commands:
        done = attempt(*spacesfs_command(*command), env=mount.environment)
        outputs[str(command)] = done.stdout + done.stderr
    bundle = mount.home / "help.tar.gz"
    attempt(*spacesfs_command("doctor", "--bundle", bundle), env=mount.environment)
    with tarfile.open(bundle) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        outputs |= {name: file.read().decode() for name, file in files.items() if file is not None}
    assert str(mount.path) in outputs["help/status.json"]
    assert str(mount.path) in outputs["help/mounts.txt"]
    outputs["command line"] = Path(f"/proc/{mount.pid}/cmdline").read_text()
    outputs["log"] = mount.log.read_text()
    assert "debug" in outputs["log"].lower(), "it is not at its loudest"
    if log_format == "json":
        assert all(json.loads(line)["message"] for line in outputs["log"].splitlines())
    secret = mount.account.secret_key
    assert [name for name, text in outputs.items() if secret in text or "Signature=" in text] == []
    for folder in ("cache", "state"):
        for file in (mount.home / folder).rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can put a program in another one's place, for itself alone")
def test_fusermount_sees_no_secret(account: Account, bucket: str, tmp_path: Path) -> None:
    """A process that may not mount has libfuse call fusermount3; here that tells what it was given, and refuses."""
    fusermount, seen = shutil.which("fusermount3"), tmp_path / "seen"
    assert fusermount is not None
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\nenv >> {seen}\nprintf '%s\\n' \"$@\" >> {seen}\nexit 1\n")
    spy.chmod(0o755)
    mount = Mount(account, bucket, tmp_path / "m")
    in_place = 'mount --bind "$1" "$2" && shift 2 && exec setpriv --bounding-set -sys_admin -- "$@"'
    command = spacesfs_command("mount", "--foreground", *mount.arguments())
    done = attempt(
        *("unshare", "--mount", "sh", "-ec", in_place, "sh", str(spy), fusermount, *command),
        env=mount.environment | {"AWS_SECRET_ACCESS_KEY": "another-s3cr3t", "VAULT_TOKEN": "another-s3cr3t"},
    )
    assert done.returncode == 1, done.stderr
    text = seen.read_text()
    assert "PATH=" in text
    assert str(mount.path) in text
    assert account.secret_key not in text
    assert "s3cr3t" not in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reaches_nothing(new_mount: MountMaker) -> None:
    mount: Mount = new_mount()
    (mount.path / "f").write_bytes(b"content" * 1000)
    mount.sync()
    for folder in (*mount.home.parents, mount.home):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)  # what is meant to keep others out is not the test's folder
    sockets = list(Path("/run/spacesfs").glob("*.sock"))
    assert sockets
    own = [path for folder in ("cache", "state") for path in (mount.home / folder, *(mount.home / folder).rglob("*"))]
    targets = [str(path) for path in (mount.path, mount.path / "f", Path("/run/spacesfs"), *sockets, *own)]
    assert len(own) > 2
    done = subprocess.run(
        [sys.executable, "-c", INTRUDE, *targets], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
