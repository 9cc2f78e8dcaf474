"""What is changed on a running mount holds at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount, MountMaker

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MIB = 1 << 20


def test_limits_and_log_level(new_mount: MountMaker) -> None:
    mount: Mount = new_mount(options=["--limit-up", "8M"])
    before = mount.status()
    assert (before["limit_down"], before["limit_up"], before["log_level"]) == (0, 8 * MIB, "info")
    done = mount.spacesfs("set", mount.path, "--limit-down", "4M", "--limit-up", "0", "--log-level", "debug")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = mount.status()
    assert (after["limit_down"], after["limit_up"], after["log_level"]) == (4 * MIB, 0, "debug")
    (mount.path / "f").write_bytes(bytes(3 * MIB))
    mount.sync()
    assert " DEBUG " in mount.log.read_text()
    assert "limit down  4.0 MiB a second" in mount.spacesfs("status", mount.path).stdout


def test_memory_and_cache_change_while_files_are_read_and_written(s3: S3Client, new_mount: MountMaker) -> None:
    mount: Mount = new_mount(options=["--memory", "128M", "--cache-size", "256M", "--metadata-ttl", "0s"])
    content = os.urandom(16 * MIB)
    s3.put_object(Bucket=mount.source, Key="f", Body=content)
    assert (mount.path / "f").read_bytes() == content
    while mount.status()["reading"]["disk"]["bytes_used"] < 16 * MIB:
        time.sleep(0.1)  # the test has its deadline
    done = mount.spacesfs("set", mount.path, "--memory", "16M", "--cache-size", "32M")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    status = mount.status()
    assert status["memory"]["bytes_limit"] == 16 * MIB
    assert status["memory"]["bytes_used"] <= 16 * MIB
    disk = status["reading"]["disk"]
    assert disk["bytes_used"] <= disk["bytes_limit"] == 8 * MIB
    assert status["staging"]["bytes_limit"] == 23 * MIB
    kept = sum(path.stat().st_size for path in (mount.home / "cache" / "pages").rglob("*") if path.is_file())
    assert kept <= 8 * MIB
    assert (mount.path / "f").read_bytes() == content
    (mount.path / "g").write_bytes(content * 4)  # more than may be staged: it is sent meanwhile
    mount.sync()
    assert s3.get_object(Bucket=mount.source, Key="g")["Body"].read() == content * 4
    assert mount.spacesfs("set", mount.path, "--memory", "256M", "--cache-size", "1G").returncode == 0
    status = mount.status()
    assert (status["memory"]["bytes_limit"], status["reading"]["disk"]["bytes_limit"]) == (256 * MIB, 256 * MIB)
    assert (mount.path / "g").read_bytes() == content * 4


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "say what to set"),
        (["--limit-up", "1K"], "--limit-up: 1K a second is too little; give at least 64K"),
        (["--memory", "1M"], "--memory: 1M is too little; give at least 16M"),
        (["--cache-size", "1M"], "--cache-size: 1M is too little; give at least 16M"),
        (["--durability", "space"], "--durability can't change while a mount serves; unmount it, and mount it again"),
        (["--no-allow-other"], "--allow-other can't change while a mount serves"),
        (["--memori", "1G"], "--memory"),
        (["--limit-up", "much"], "not a size"),
        (["--log-level", "loud"], '--log-level: should be "debug", "info", "warning" or "error"'),
    ],
)
def test_what_can_not_be_set(mount: Mount, words: list[str], complaint: str) -> None:
    done = mount.spacesfs("set", mount.path, *words)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_warm_files_are_read_without_asking_again_until_they_are_dropped(s3: S3Client, new_mount: MountMaker) -> None:
    mount: Mount = new_mount(options=["--metadata-ttl", "0s"])
    content = os.urandom(MIB)
    for name in ("d/a", "d/e/b", "d/e/c", "other"):
        s3.put_object(Bucket=mount.source, Key=name, Body=content)
    done = mount.spacesfs("warm", mount.path / "d")
    assert (done.returncode, done.stdout) == (0, "3 files read\n"), done.stderr
    fetched = mount.status()["reading"]["fetched_bytes"]
    assert fetched >= 3 * MIB
    assert (mount.path / "d" / "a").read_bytes() == content
    assert mount.status()["reading"]["fetched_bytes"] == fetched

    done = mount.spacesfs("drop-cache", mount.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    reading = mount.status()["reading"]
    assert (reading["disk"]["bytes_used"], reading["disk_pages"]) == (0, 0)
    pages = [path for path in (mount.home / "cache").rglob("*") if path.is_file() and path.stat().st_size > MIB // 4]
    assert pages == []
    assert (mount.path / "d" / "e" / "b").read_bytes() == content


def test_long_work_shows_its_progress(s3: S3Client, new_mount: MountMaker, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"old/sub/{number}", Body=b"12345")
    mount: Mount = new_mount(bucket, options=["--grace", "1h", "--limit-up", "8M"])
    (mount.path / "old").rename(mount.path / "new")
    [work] = mount.status()["work"]
    assert (work["path"], work["new_path"], work["done"], work["total"]) == ("old", "new", 0, 5)
    assert work["bytes_left"] == 25
    mount.sync()
    assert mount.status()["work"] == []
    (mount.path / "large").write_bytes(b"x" * (64 << 20))
    while not (found := [work for work in mount.status()["work"] if work["seconds_left"]]):
        time.sleep(0.1)  # the test has its deadline
    [work] = found
    assert (work["path"], work["new_path"], work["total"]) == ("large", None, 64 << 20)
    assert 0 < work["done"] < 64 << 20
    assert work["bytes_left"] == work["total"] - work["done"]
    mount.sync()
    assert mount.status()["work"] == []


def test_warm_says_what_is_not_there(mount: Mount) -> None:
    done = mount.spacesfs("warm", mount.path / "missing")
    assert done.returncode == 1
    assert "no such file" in done.stderr
