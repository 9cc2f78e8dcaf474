"""The same bucket through s3fs and rclone: what each writes, the other sees."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import (
    Account,
    BucketMaker,
    Mount,
    MountMaker,
    detach,
    environment,
    is_mounted,
    run,
    wait_until,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

SECOND = 1_000_000_000
RCLONE = Path(sys.executable).with_name("rclone")
S3FS = shutil.which("s3fs")


@pytest.fixture
def plain_account(rgw: RadosGateway, fuse_device: Path) -> Account:
    """The owner of the buckets, without TLS: the other programs would need to be taught our authority."""
    return Account(rgw.endpoint, rgw.access_key, rgw.secret_key)


@contextmanager
def s3fs(account: Account, bucket: str, home: Path) -> Iterator[Path]:
    """A bucket mounted by s3fs; closed files are in it when the block ends."""
    path, passwords = home / "s3fs", home / "passwd"
    path.mkdir()
    passwords.write_text(f"{account.access_key}:{account.secret_key}\n")
    passwords.chmod(0o600)
    options = f"url={account.endpoint},use_path_request_style,passwd_file={passwords},endpoint=us-east-1,use_xattr"
    process = subprocess.Popen(
        ["s3fs", bucket, str(path), "-f", "-o", options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: is_mounted(path), "s3fs does not mount")
        yield path
    finally:
        detach(path)
        process.wait(30)


@pytest.mark.skipif(S3FS is None, reason="s3fs is not installed")
def test_s3fs_sees_what_we_write(plain_account: Account, new_mount: MountMaker, tmp_path: Path) -> None:
    mount: Mount = new_mount(account=plain_account)
    _make_tree(mount.path)
    os.rename(mount.path / "d", mount.path / "renamed")
    mount.sync()
    with s3fs(plain_account, mount.source, tmp_path) as theirs:
        assert _facts(theirs, "renamed") == _facts(mount.path, "renamed")
        assert (theirs / "renamed" / "link").read_bytes() == b"content"


@pytest.mark.skipif(S3FS is None, reason="s3fs is not installed")
def test_we_see_what_s3fs_writes(
    plain_account: Account, new_bucket: BucketMaker, new_mount: MountMaker, tmp_path: Path
) -> None:
    bucket = new_bucket()
    with s3fs(plain_account, bucket, tmp_path) as theirs:
        _make_tree(theirs)
        expected = _facts(theirs, "d")
    mount: Mount = new_mount(bucket, account=plain_account)
    assert _facts(mount.path, "d") == expected
    assert (mount.path / "d" / "link").read_bytes() == b"content"


def _make_tree(root: Path) -> None:
    d = root / "d"
    d.mkdir()
    (d / "f").write_bytes(b"content")
    (d / "empty").touch()
    (d / "sub").mkdir()
    (d / "sub" / "deep ünïcode").write_bytes(b"deep")
    (d / "link").symlink_to("f")
    os.mkfifo(d / "pipe")
    (d / "f").chmod(0o4751)
    (d / "sub").chmod(0o1770)
    (d / "pipe").chmod(0o620)
    if os.geteuid() == 0:
        os.chown(d / "f", 1234, 5678)
        (d / "f").chmod(0o4751)
        os.lchown(d / "link", 12, 34)
    os.setxattr(d / "f", "user.Mixed_Name", b"\x00 binary \xff")
    os.utime(d / "f", ns=(3 * SECOND, 1_500_000_000 * SECOND + 123_456_789))
    os.utime(d / "sub", ns=(5 * SECOND, 1_400_000_000 * SECOND + 1))
    os.utime(d, ns=(5 * SECOND, 1_300_000_000 * SECOND))


def _facts(root: Path, name: str) -> dict[str, tuple[object, ...]]:
    """Return what stat, readlink and getxattr tell of each file below a directory."""
    facts: dict[str, tuple[object, ...]] = {}
    for path in sorted((root / name).rglob("*")):
        found = path.lstat()
        key = str(path.relative_to(root / name))
        facts[key] = (found.st_mode, found.st_uid, found.st_gid)
        if path.is_symlink():
            facts[key] += (os.readlink(path),)
        elif stat.S_ISREG(found.st_mode):
            facts[key] += (found.st_size, found.st_mtime_ns, path.read_bytes())
    assert len(facts) == 6, facts
    facts["times"] = tuple((root / name / sub).stat().st_mtime_ns for sub in ("f", "sub", "."))
    facts["xattr"] = (os.getxattr(root / name / "f", "user.Mixed_Name"),)
    return facts


def test_rclone_and_we_see_each_others_times(plain_account: Account, new_mount: MountMaker, tmp_path: Path) -> None:
    mount: Mount = new_mount(account=plain_account)
    (mount.path / "ours").write_bytes(b"ours")
    os.utime(mount.path / "ours", ns=(1, 1_500_000_000 * SECOND + 120_000_000))
    mount.sync()
    _rclone(plain_account, mount, "copyto", f"{_remote(plain_account, mount.source)}/ours", tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mtime_ns == 1_500_000_000 * SECOND + 120_000_000

    (tmp_path / "theirs").write_bytes(b"theirs")
    os.utime(tmp_path / "theirs", ns=(1, 1_400_000_000 * SECOND + 987_654_321))
    _rclone(plain_account, mount, "copyto", tmp_path / "theirs", f"{_remote(plain_account, mount.source)}/theirs")
    mount.remount()
    assert (mount.path / "theirs").stat().st_mtime_ns == 1_400_000_000 * SECOND + 987_654_321
    _rclone(plain_account, mount, "check", tmp_path, _remote(plain_account, mount.source))


def _remote(account: Account, bucket: str) -> str:
    return f":s3,provider=Ceph,env_auth=true,region=us-east-1,endpoint='{account.endpoint}':{bucket}"


def _rclone(account: Account, mount: Mount, *words: str | Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key}
    run(RCLONE, "--config", "/dev/null", *words, env=environment(mount.home) | keys)


# --- two mounts of our own


OPTIONS = ("--metadata-ttl", "0.2s", "--grace", "0.1s")


def test_rmdir_here_and_a_file_there_lose_nothing(s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker) -> None:
    """One mount removes directories that it believes to be empty while the other puts files into them."""
    bucket = new_bucket()
    first: Mount = new_mount(bucket, options=OPTIONS)
    second: Mount = new_mount(bucket, options=OPTIONS)
    for number in range(20):
        (first.path / f"d{number}").mkdir()
    first.sync()
    made = 0
    for number in range(20):
        file = second.path / f"d{number}" / "kept"
        try:
            file.write_bytes(b"%d" % number)
        except FileNotFoundError:
            continue  # the other was there first
        made += 1
        try:
            (first.path / f"d{number}").rmdir()
        except OSError:
            continue  # it saw the file
    first.sync()
    second.sync()
    assert made > 0
    held = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert [key for key in held if key.endswith("/kept")] == sorted(f"d{number}/kept" for number in range(20))
    first.remount()
    for number in range(20):
        assert (first.path / f"d{number}" / "kept").read_bytes() == b"%d" % number


def test_the_same_directory_made_and_removed_on_both_sides(
    s3: S3Client, new_bucket: BucketMaker, new_mount: MountMaker
) -> None:
    bucket = new_bucket()
    first: Mount = new_mount(bucket, options=OPTIONS)
    second: Mount = new_mount(bucket, options=OPTIONS)
    for mount in (first, second):
        (mount.path / "both").mkdir()  # neither has seen the other's
        (mount.path / "both" / f"of-{mount.home.name}").write_bytes(b"x")
    for mount in (first, second):
        mount.sync()
    names = sorted(f"of-{mount.home.name}" for mount in (first, second))
    for mount in (first, second):
        mount.remount()
        assert sorted(os.listdir(mount.path / "both")) == names
    for mount in (first, second):
        (mount.path / "both" / f"of-{mount.home.name}").unlink()
        mount.sync()
    time.sleep(1)  # more than the TTL and the kernel's
    (first.path / "both").rmdir()
    (second.path / "both" / "again").parent.mkdir(exist_ok=True)
    (second.path / "both" / "again").write_bytes(b"again")
    first.sync()
    second.sync()
    first.remount()
    assert (first.path / "both" / "again").read_bytes() == b"again"
    for mount in (first, second):
        mount.expect_log("both/")
