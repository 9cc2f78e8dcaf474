"""A mount whose process dies or hangs comes back by itself, with no empty directory in between, and loses nothing."""

from __future__ import annotations

import errno
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spacesfs.fuse import place
from spacesfs.fuse.mountpoint import is_dead
from tests.mount.gate import Gate
from tests.mount.mounting import (
    WAIT_SECONDS,
    Account,
    BucketMaker,
    Mount,
    MountMaker,
    attempt,
    daemons_of,
    is_mounted,
    run,
    wait_until,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

Gated = tuple[Gate, Mount]

# Writes numbered files without end, and prints each number once close has returned. A dead mount is waited out.
WRITE = """
import errno, os, sys, time
folder, number = sys.argv[1], 0
while True:
    try:
        with open(f"{folder}/{number:05}", "wb") as file:
            file.write(b"%d" % number * 1000)
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO):
            raise
        time.sleep(0.01)
        continue
    print(number, flush=True)
    number += 1
    time.sleep(0.002)
"""

# Looks at a directory without pause, and prints what it saw each time that changed.
LOOK = """
import errno, os, sys
before = None
while True:
    try:
        seen = "full" if os.listdir(sys.argv[1]) else "empty"
    except OSError as error:
        seen = errno.errorcode[error.errno]
    if seen != before:
        print(seen, flush=True)
    before = seen
"""


@pytest.fixture
def background(account: Account, new_bucket: BucketMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount, not started yet, with a supervisor in the background, that logs to its file."""
    mount = Mount(account, new_bucket(), tmp_path_factory.mktemp("m"))
    mount.options += ["--log-file", str(mount.log)]
    yield mount
    mount.close()


def start(mount: Mount) -> None:
    done = mount.spacesfs("mount", *mount.arguments())
    assert done.returncode == 0, done.stderr


def healed(mount: Mount, old: int) -> None:
    """Wait for another process to serve."""
    wait_until(
        lambda: attempt("ls", mount.path).returncode == 0 and mount.status()["pid"] != old, "no other life", mount=mount
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_it_comes_back_under_load_and_loses_nothing(
    s3: S3Client, background: Mount, number: signal.Signals, tmp_path: Path
) -> None:
    """Every file whose close had returned is there with its bytes, here and in the Space."""
    background.options += ["--hang-timeout", "3s"]
    start(background)
    (background.path / "first").write_bytes(b"first")
    written, seen = tmp_path / "written", tmp_path / "seen"
    with written.open("wb") as out, seen.open("wb") as looks:
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(background.path)], stdout=out)
        looker = subprocess.Popen([sys.executable, "-c", LOOK, str(background.path)], stdout=looks)
        try:
            for _ in range(2):
                time.sleep(1)
                pid = background.status()["pid"]
                os.kill(pid, number)
                healed(background, pid)
            time.sleep(1)
        finally:
            for program in (writer, looker):
                program.terminate()
                program.wait()
    status = background.status()
    why = "killed by SIGKILL" if number is signal.SIGKILL else "silent for 3 s"
    assert why in status["replaces"]
    assert why in run(*_status(background), env=background.environment)
    numbers = [int(line) for line in written.read_text().split()]
    assert len(numbers) > 20
    for index in numbers:
        assert (background.path / f"{index:05}").read_bytes() == b"%d" % index * 1000
    if os.geteuid() == 0:
        assert "empty" not in seen.read_text().split(), "a directory that is empty says: all is deleted"
    background.stop_in_background()
    assert not is_mounted(background.path)
    for index in numbers:
        assert s3.get_object(Bucket=background.source, Key=f"{index:05}")["Body"].read() == b"%d" % index * 1000
    assert daemons_of(background.path) == []


def _status(mount: Mount) -> list[str | Path]:
    return [sys.executable, "-m", "spacesfs", "status", mount.path]


def test_a_signal_to_the_supervisor_drains_and_ends_both(s3: S3Client, background: Mount) -> None:
    start(background)
    (background.path / "f").write_bytes(b"content")
    status = background.status()
    supervisor = os.pidfd_open(status["supervisor"])
    os.kill(status["supervisor"], signal.SIGTERM)
    assert select.select([supervisor], [], [], WAIT_SECONDS)[0]
    os.close(supervisor)
    assert not is_mounted(background.path)
    assert daemons_of(background.path) == []
    assert s3.get_object(Bucket=background.source, Key="f")["Body"].read() == b"content"


def test_one_that_was_unmounted_is_not_brought_back(background: Mount) -> None:
    """Who takes the dead mount away wants no fresh one."""
    start(background)
    status = background.status()
    os.kill(status["supervisor"], signal.SIGSTOP)  # so that it can't be faster than we are
    os.kill(status["pid"], signal.SIGKILL)
    while attempt("ls", background.path).returncode == 0:
        time.sleep(0.01)
    background.spacesfs("umount", background.path)
    assert not is_mounted(background.path)
    supervisor = os.pidfd_open(status["supervisor"])
    os.kill(status["supervisor"], signal.SIGCONT)
    assert select.select([supervisor], [], [], WAIT_SECONDS)[0]
    os.close(supervisor)
    assert not is_mounted(background.path)
    assert "was unmounted" in background.log.read_text()


def test_a_mount_serves_on_without_its_supervisor(background: Mount) -> None:
    start(background)
    os.kill(background.status()["supervisor"], signal.SIGKILL)
    time.sleep(2.5)  # more than two beats
    (background.path / "f").write_bytes(b"content")
    assert (background.path / "f").read_bytes() == b"content"
    background.stop_in_background()


def is_served_by_another(mount: Mount, old: int) -> bool:
    """Tell whether a fresh process answers; asks it for nothing that is in the Space."""
    try:
        os.statvfs(mount.path)
    except OSError:
        return False
    done = mount.spacesfs("status", mount.path, "--json")
    return done.returncode == 0 and json.loads(done.stdout)["pid"] != old


@pytest.fixture
def gated(rgw: RadosGateway, new_bucket: BucketMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """A mount as ``background``, behind a gate. What is changed waits in its journal until it is synced."""
    with Gate(rgw.endpoint) as gate:
        mount = Mount(Account(gate.url, rgw.access_key, rgw.secret_key), new_bucket(), tmp_path_factory.mktemp("m"))
        mount.options += ["--log-file", str(mount.log), "--grace", "1h", "--metadata-ttl", "1h", "--timeout", "8s"]
        yield gate, mount
        gate.reopen()
        mount.close()


@pytest.mark.deadline(280)
def test_while_the_space_is_away_it_comes_back_with_what_is_here(s3: S3Client, gated: Gated) -> None:
    """What is acknowledged is seen and goes on to be changed, what was read can be read; no directory looks emptier."""
    gate, mount = gated
    start(mount)
    content = b"kept here" * 50_000
    (mount.path / "d").mkdir()
    for name in ("sent", "d/sent"):
        (mount.path / name).write_bytes(content)
    mount.sync()
    for name in ("sent", "d/sent"):
        assert (mount.path / name).read_bytes() == content
    wait_until(lambda: mount.status()["reading"]["disk_pages"] >= 2, "nothing is kept on the disk", mount=mount)
    (mount.path / "new").mkdir()
    run("ls", "-R", mount.path)
    gate.shut()  # before: the next file that is written hurries the last one, whatever the grace
    for name in ("waits", "d/waits", "new/waits"):
        (mount.path / name).write_bytes(b"waits")
    old = mount.status()["pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: is_served_by_another(mount, old), "no life while the Space is away", mount=mount)

    for name in ("waits", "d/waits", "new/waits"):
        assert (mount.path / name).read_bytes() == b"waits"
        (mount.path / name).write_bytes(b"changed")
    for name in ("sent", "d/sent"):
        assert run("cat", mount.path / name) == content.decode()
    assert attempt("cat", mount.path / "unknown").returncode != 0
    assert attempt("ls", mount.path).returncode != 0, "a listing that is not whole would say: the rest is deleted"
    wait_until(lambda: mount.status()["offline_since"] is not None, "nobody sees that the Space is away", mount=mount)
    assert "killed by SIGKILL" in mount.status()["replaces"]
    os.kill(mount.status()["pid"], signal.SIGKILL)
    wait_until(lambda: is_served_by_another(mount, old), "no second life while the Space is away", mount=mount)

    gate.reopen()
    wait_until(lambda: mount.status()["offline_since"] is None, "nobody sees that the Space is back", mount=mount)
    wait_until(lambda: attempt("ls", mount.path).returncode == 0, "the Space is not seen", mount=mount)
    assert sorted(os.listdir(mount.path)) == ["d", "new", "sent", "waits"]
    mount.stop_in_background()
    for name in ("waits", "d/waits", "new/waits"):
        assert s3.get_object(Bucket=mount.source, Key=name)["Body"].read() == b"changed"


# Prints a key once the Space has answered, whatever it says.
VAULT = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=60)
except urllib.error.HTTPError:
    pass
print(open(sys.argv[2]).read())
"""


@pytest.mark.deadline(280)
@pytest.mark.parametrize("is_supervised", [True, False], ids=["supervised", "by hand"])
def test_a_key_that_comes_over_the_network_is_waited_for_by_who_serves_already(
    s3: S3Client, gated: Gated, tmp_path: Path, is_supervised: bool
) -> None:
    """The command that has the key needs what is away: the fresh mount serves what is here, and goes on asking."""
    gate, mount = gated
    key = tmp_path / "key"
    key.write_text(f"{mount.account.access_key}\n{mount.account.secret_key}")
    (tmp_path / "vault.py").write_text(VAULT)
    words = (sys.executable, tmp_path / "vault.py", gate.url, key)
    mount.options += ["--credential-command", shlex.join(map(str, words))]
    start(mount)
    (mount.path / "waits").write_bytes(b"waits")
    status = mount.status()
    gate.shut()
    if is_supervised:
        os.kill(status["pid"], signal.SIGKILL)
    else:
        os.kill(status["supervisor"], signal.SIGKILL)
        os.kill(status["pid"], signal.SIGKILL)
        wait_until(lambda: is_dead(mount.path), "the mount lives on", mount=mount)
        start(mount)
    wait_until(lambda: is_served_by_another(mount, status["pid"]), "no life without a key", mount=mount)
    assert (mount.path / "waits").read_bytes() == b"waits"
    (mount.path / "waits").write_bytes(b"changed")
    assert attempt("ls", mount.path).returncode != 0
    assert "the mount goes on with what is here" in mount.log.read_text()

    gate.reopen()
    wait_until(lambda: attempt("ls", mount.path).returncode == 0, "the key is not found", mount=mount)
    mount.stop_in_background()
    assert s3.get_object(Bucket=mount.source, Key="waits")["Body"].read() == b"changed"
    assert mount.account.secret_key not in mount.log.read_text()


@pytest.mark.deadline(280)
def test_who_takes_a_dead_ones_place_by_hand_needs_no_space_either(gated: Gated, new_bucket: BucketMaker) -> None:
    """As systemd does; but a bucket that was not mounted there is not believed in, nor one that is mounted anew."""
    gate, mount = gated
    start(mount)
    (mount.path / "waits").write_bytes(b"waits")
    status = mount.status()
    for process in ("supervisor", "pid"):
        os.kill(status[process], signal.SIGKILL)
    wait_until(lambda: is_dead(mount.path), "the mount lives on", mount=mount)
    gate.shut()
    source, mount.source = mount.source, new_bucket()
    done = mount.spacesfs("mount", *mount.arguments())
    assert done.returncode == 1
    assert "can't read bucket" in done.stderr
    mount.source = source
    start(mount)
    assert (mount.path / "waits").read_bytes() == b"waits"
    assert "died and left its mount" in mount.status()["replaces"]
    os.kill(mount.status()["supervisor"], signal.SIGTERM)
    wait_until(lambda: not is_mounted(mount.path), "it does not end", mount=mount)
    wait_until(lambda: not daemons_of(mount.path), "it does not end", mount=mount)
    assert mount.spacesfs("mount", *mount.arguments()).returncode == 1, "nothing is there to go on with"


@pytest.mark.skipif("os.geteuid() != 0", reason="others can't move mounts")
def test_an_old_kernel_gets_it_on_top(new_mount: MountMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a mount can't be put beneath another one, it is put above it; no step shows the directory below."""
    dead: Mount = new_mount()
    dead.kill()
    aside: Mount = new_mount()
    (aside.path / "f").write_bytes(b"content")
    place.put_on_top(aside.path, dead.path)
    assert (dead.path / "f").read_bytes() == b"content"
    run("umount", dead.path)
    with pytest.raises(OSError, match="not connected") as caught:
        os.listdir(dead.path)
    assert caught.value.errno == errno.ENOTCONN
    run("umount", dead.path)
