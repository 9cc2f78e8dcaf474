"""What waits in a journal is listed, sent without a mount, saved elsewhere, and dropped; mounted or not."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spacesfs.fuse.observing import MOST_SHOWN
from tests.mount.conftest import empty
from tests.mount.gate import Gate
from tests.mount.mounting import DRAIN_SECONDS, Account, BucketMaker, Mount, MountMaker, run, shell, wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

LARGE = bytes(range(256)) * 2048  # 512 KiB: staged in a file of its own
OLD = b"patched\n" * (17 << 17)  # 17 MiB: only what changes of it is staged


@pytest.fixture
def gate(rgw: RadosGateway) -> Iterator[Gate]:
    with Gate(rgw.endpoint) as gate:
        yield gate


@pytest.fixture
def mount(s3: S3Client, rgw: RadosGateway, gate: Gate, new_mount: MountMaker, new_bucket: BucketMaker) -> Mount:
    """A mount with changes of every kind that are acknowledged and not sent: the gate is shut."""
    bucket = new_bucket()
    for key in ("patched", "renamed", "removed", "folder/"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else OLD)
    account = Account(gate.url, rgw.access_key, rgw.secret_key)
    mount: Mount = new_mount(bucket, account=account, options=["--metadata-ttl", "1h", "--timeout", "8s"])
    run("ls", "-lR", mount.path)
    gate.shut()
    mount.expect_log("not in the Space yet|no complete answer|can't be reached")
    make_changes(mount.path)
    return mount


def make_changes(path: Path) -> None:
    (path / "small").write_bytes(b"small")
    (path / "made").mkdir()
    (path / "folder" / "large").write_bytes(LARGE)
    (path / "folder" / "large").chmod(0o640)
    with (path / "patched").open("r+b", buffering=0) as file:
        file.seek(len(OLD) - 5)
        file.write(b"PATCH")
    (path / "renamed").rename(path / "new-name")


@pytest.fixture
def left(gate: Gate, mount: Mount) -> Mount:
    """The same, but the mount is killed, and the Space can be reached."""
    mount.kill()
    gate.reopen()
    return mount


def test_of_very_much_status_names_some_and_the_list_all(gate: Gate, mount: Mount) -> None:
    mount.expect_log("")
    before, more = mount.status()["pending_changes"], MOST_SHOWN + 10
    for number in range(more):
        (mount.path / f"{number:05}").write_bytes(b"x")
    status = mount.status()
    assert (len(status["pending"]), status["pending_changes"]) == (MOST_SHOWN, before + more)
    assert f"pending     {before + more} changes" in mount.spacesfs("status", mount.path).stdout
    [listed] = json.loads(mount.spacesfs("pending", "list", mount.path, "--json").stdout)
    paths = [change["path"] for change in listed["pending"]]
    assert len(paths) == len(set(paths)) == before + more
    assert {f"{number:05}" for number in range(more)} < set(paths)
    reopen(gate, mount)
    mount.sync()


def reopen(gate: Gate, mount: Mount) -> None:
    """Let the mount find that the Space is there again."""
    gate.reopen()
    wait_until(
        lambda: mount.status()["offline_since"] is None, "it does not notice that the Space is back", mount=mount
    )


def pending(mount: Mount, *arguments: str | Path) -> Any:
    """Run ``spacesfs pending`` on the mount's journals; it works."""
    done = attempt_pending(mount, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt_pending(mount: Mount, *arguments: str | Path) -> Any:
    return mount.spacesfs("pending", *arguments, "--state-dir", mount.home / "state")


def waiting(mount: Mount, target: str | Path) -> dict[str, str]:
    """Return what waits, by path."""
    (found,) = json.loads(pending(mount, "list", target, "--json"))
    return {change["path"]: change["kind"] for change in found["pending"]}


EVERYTHING = {
    "small": "write",
    "made/": "mkdir",
    "folder/large": "write",
    "patched": "write",
    "new-name": "rename",
    "renamed": "unlink",
}


def stored(s3: S3Client, mount: Mount, key: str) -> bytes:
    return s3.get_object(Bucket=mount.source, Key=key)["Body"].read()


def keys(s3: S3Client, mount: Mount) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket=mount.source)["Contents"]}


def test_listed_while_mounted(gate: Gate, mount: Mount) -> None:
    assert waiting(mount, mount.path) == EVERYTHING
    assert waiting(mount, mount.source) == EVERYTHING
    listed = pending(mount, "list")
    assert f"{mount.source} on {mount.path} (mounted): 6 changes" in listed
    reopen(gate, mount)


def test_listed_without_a_mount(left: Mount) -> None:
    assert waiting(left, left.source) == EVERYTHING
    listed = pending(left, "list")
    assert f"{left.source} (not mounted): 6 changes" in listed
    assert "write folder/large, 512.0 KiB" in listed


def test_sync_without_a_mount(s3: S3Client, left: Mount) -> None:
    where: list[str | Path] = [*left.account.options()[2:], "--state-dir", left.home / "state"]
    done = left.spacesfs("sync", *where, seconds=DRAIN_SECONDS)  # of other tests' mounts, too
    assert f"{left.source} is not mounted and has changes that wait; run: spacesfs sync {left.source}" in done.stdout
    done = left.spacesfs("sync", left.source, *where)
    assert done.returncode == 0, done.stderr
    assert stored(s3, left, "small") == b"small"
    assert stored(s3, left, "folder/large") == LARGE
    assert stored(s3, left, "patched") == OLD[:-5] + b"PATCH"
    assert stored(s3, left, "new-name") == OLD
    listing = s3.list_objects_v2(Bucket=left.source)["Contents"]
    assert {entry["Key"] for entry in listing} == {
        "folder/",
        "folder/large",
        "made/",
        "new-name",
        "patched",
        "removed",
        "small",
    }
    assert waiting(left, left.source) == {}
    assert left.spacesfs("sync", left.source, *where).returncode == 0


def test_sync_of_a_space_that_is_mounted(s3: S3Client, gate: Gate, mount: Mount) -> None:
    reopen(gate, mount)
    done = mount.spacesfs("sync", mount.source)
    assert done.returncode == 0, done.stderr
    assert stored(s3, mount, "small") == b"small"
    assert waiting(mount, mount.source) == {}


def test_sync_of_a_space_without_a_journal(left: Mount) -> None:
    done = left.spacesfs("sync", "no-such-space")
    assert done.returncode == 1
    assert "no journal of no-such-space" in done.stderr


def test_retried(s3: S3Client, gate: Gate, mount: Mount) -> None:
    said = pending(mount, "retry", mount.path, "small", "folder")
    assert "2 changes tried again" in said
    reopen(gate, mount)
    mount.sync()
    assert stored(s3, mount, "small") == b"small"


def test_retried_without_a_mount(s3: S3Client, left: Mount) -> None:
    pending(left, "retry", left.source)
    assert stored(s3, left, "folder/large") == LARGE
    assert waiting(left, left.source) == {}


def check_saved(target: Path) -> None:
    assert (target / "small").read_bytes() == b"small"
    assert (target / "folder" / "large").read_bytes() == LARGE
    assert (target / "folder" / "large").stat().st_mode & 0o777 == 0o640
    partial = target / "patched.partial"
    assert partial.stat().st_size == len(OLD)
    assert partial.read_bytes()[-5:] == b"PATCH"
    assert sorted(os.listdir(target)) == ["folder", "made", "patched.partial", "small"]


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "left"])
def test_saved_elsewhere(gate: Gate, mount: Mount, tmp_path: Path, is_mounted: bool) -> None:
    if not is_mounted:
        mount.kill()
    target = tmp_path / "saved"
    said = pending(mount, "export", mount.source, target)
    assert "patched.partial: 17.0 MiB; 17.0 MiB of it are only in the Space" in said
    check_saved(target)
    again = attempt_pending(mount, "export", mount.source, target)
    assert again.returncode == 1
    assert "is there already" in again.stdout
    check_saved(target)
    assert waiting(mount, mount.source) == EVERYTHING
    gate.reopen()


def test_some_are_saved(left: Mount, tmp_path: Path) -> None:
    pending(left, "export", left.source, tmp_path / "saved", "folder")
    assert os.listdir(tmp_path / "saved") == ["folder"]


def test_dropped_while_mounted(s3: S3Client, gate: Gate, mount: Mount) -> None:
    """What is dropped is as if it had never been; the rest goes on."""
    asked = attempt_pending(mount, "drop", mount.source, "small")
    assert asked.returncode == 2
    assert "give --yes" in asked.stderr
    assert waiting(mount, mount.source) == EVERYTHING
    assert "2 changes dropped" in pending(mount, "drop", mount.source, "small", "patched", "--yes")
    reopen(gate, mount)
    assert not (mount.path / "small").exists()
    assert (mount.path / "patched").read_bytes() == OLD
    mount.sync()
    assert stored(s3, mount, "patched") == OLD
    assert stored(s3, mount, "folder/large") == LARGE
    assert (mount.path / "new-name").read_bytes() == OLD


def test_a_rename_that_is_dropped_loses_nothing(s3: S3Client, gate: Gate, mount: Mount) -> None:
    assert "2 changes dropped" in pending(mount, "drop", mount.path, "new-name", "--yes")
    reopen(gate, mount)
    assert (mount.path / "renamed").read_bytes() == OLD
    assert not (mount.path / "new-name").exists()
    mount.sync()
    assert stored(s3, mount, "renamed") == OLD


def test_an_open_file_is_not_dropped(gate: Gate, mount: Mount) -> None:
    file = os.open(mount.path / "small", os.O_WRONLY)
    done = attempt_pending(mount, "drop", mount.path, "small", "--yes")
    assert done.returncode == 1
    assert "small is open in the mount; close it first" in done.stderr
    with suppress(TimeoutError):  # the close tells of an attempt that failed meanwhile
        os.close(file)
    assert waiting(mount, mount.source) == EVERYTHING
    reopen(gate, mount)


def test_dropped_without_a_mount(s3: S3Client, left: Mount) -> None:
    assert "6 changes dropped" in pending(left, "drop", left.source, "--all", "--yes")
    assert waiting(left, left.source) == {}
    left.expect_log("stale|recover")
    left.start()
    left.sync()
    assert keys(s3, left) == {"patched", "renamed", "removed", "folder/"}
    (folder,) = (left.home / "state").glob("*/staged")
    assert os.listdir(folder) == []


def test_what_a_damaged_journal_holds_is_kept(gate: Gate, mount: Mount, tmp_path: Path) -> None:
    """The bytes of its staged files outlive the mounts that come after."""
    mount.kill()
    gate.reopen()
    (journal,) = (mount.home / "state").glob("*/journal.db")
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    journal.write_bytes(b"no database" * 1000)
    mount.expect_log("stale|recover")
    mount.start()
    mount.remount()
    staged = [path for path in (journal.parent / "staged").iterdir() if path.stat().st_size == len(LARGE)]
    assert [path.read_bytes() for path in staged] == [LARGE]
    listed = pending(mount, "list", mount.source)
    assert "set aside" in listed
    assert "journal.db.damaged-" in listed
    assert attempt_pending(mount, "export", mount.source, tmp_path / "saved").returncode == 1


@pytest.fixture
def doomed(s3: S3Client, account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount of a bucket that goes away."""
    mount = Mount(
        account, f"doomed-{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("m"), ["--grace", "1h", "--timeout", "5s"]
    )
    s3.create_bucket(Bucket=mount.source)
    mount.start()
    yield mount
    mount.close()


def test_a_bucket_that_was_made_anew(s3: S3Client, doomed: Mount, tmp_path: Path) -> None:
    """What was written for the old one is not sent to the new one; its journal is parked and can be saved."""
    shell("printf small > small", cwd=doomed.path)  # a program that goes on to its next file has done with the last
    (doomed.path / "large").write_bytes(LARGE)
    doomed.kill()
    empty(s3, doomed.source)
    s3.delete_bucket(Bucket=doomed.source)
    time.sleep(1.1)  # the server tells when a bucket was made in whole seconds
    s3.create_bucket(Bucket=doomed.source)
    doomed.start()
    (notice,) = [line for line in doomed.status()["notices"] if "made anew" in line]
    assert f"`spacesfs pending export {doomed.source} DIR` saves them" in notice
    assert os.listdir(doomed.path) == []
    (doomed.path / "new").write_bytes(b"new")
    doomed.stop()
    assert keys(s3, doomed) == {"new"}
    assert "journal.db.parked-" in pending(doomed, "list", doomed.source)
    pending(doomed, "export", doomed.source, tmp_path / "saved")
    (folder,) = (tmp_path / "saved").iterdir()
    assert (folder / "small").read_bytes() == b"small"
    assert (folder / "large").read_bytes() == LARGE
    empty(s3, doomed.source)
    s3.delete_bucket(Bucket=doomed.source)


def test_a_bucket_that_was_deleted(s3: S3Client, doomed: Mount, tmp_path: Path) -> None:
    """Its journal is parked: a mount says so in one line, and the bytes can be saved."""
    (doomed.path / "small").write_bytes(b"small")
    os.kill(doomed.pid, signal.SIGKILL)
    empty(s3, doomed.source)
    s3.delete_bucket(Bucket=doomed.source)
    for command in ("mount", "sync"):
        arguments = doomed.arguments() if command == "mount" else [doomed.source, *doomed.account.options()[2:]]
        done = doomed.spacesfs(command, *arguments, "--state-dir", doomed.home / "state")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"there is no bucket {doomed.source}" in line
        assert f"`spacesfs pending export {doomed.source} DIR` saves them" in line
    pending(doomed, "export", doomed.source, tmp_path / "saved")
    assert (tmp_path / "saved" / "small").read_bytes() == b"small"
