"""Copy many small files and one large one into a Space and out of it, by ``spacesfs`` and by ``rclone copy``, in turn.

``python -m tests.bench.transfers`` prints a Markdown table of medians, against a real RADOS gateway over TLS. Every
round begins with an empty target, and what arrived is compared byte for byte. Time and CPU are those of the whole
command, its start included; our modules are compiled, as pip leaves them. The server shares the machine. Both programs
run with their defaults.
"""

from __future__ import annotations

import argparse
import compileall
import filecmp
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

import spacesfs
from tests.mount.mounting import Account, environment, spacesfs_command
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "bench"
SMALL_BYTES = 4096
FILES_A_FOLDER = 100
SETTLE_SECONDS = 5  # the server's garbage collection of what was deleted
RCLONE = Path(sys.executable).with_name("rclone")


@dataclass(frozen=True)
class Taken:
    """What a command took, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Candidate:
    """A program that copies folders: the commands that put one, and get one."""

    name: str
    put: Callable[[Account, Path, str], list[str]]
    get: Callable[[Account, str, Path], list[str]]


def _ours(*words: str | Path) -> Callable[[Account], list[str]]:
    return lambda account: spacesfs_command(*words, *account.options())


def _rclone(account: Account, *words: str) -> list[str]:
    return [str(RCLONE), "copy", *words, "--ca-cert", str(account.ca_bundle), "--config", "/dev/null"]


def _remote(account: Account, prefix: str) -> str:
    return f":s3,provider=Ceph,env_auth=true,region=us-east-1,endpoint='{account.endpoint}':{BUCKET}/{prefix}"


CANDIDATES = (
    Candidate(
        "spacesfs",
        lambda account, folder, prefix: _ours("put", "-r", folder, f"{BUCKET}:{prefix}")(account),
        lambda account, prefix, folder: _ours("get", "-r", f"{BUCKET}:{prefix}", folder)(account),
    ),
    Candidate(
        "rclone",
        lambda account, folder, prefix: _rclone(account, str(folder), _remote(account, prefix)),
        lambda account, prefix, folder: _rclone(account, _remote(account, prefix), str(folder)),
    ),
)


def measure(command: list[str], account: Account, home: Path) -> Taken:
    """Run a command to its end and say what it took."""
    keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment(home, account) | keys, stdin=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def one_round(candidate: Candidate, account: Account, source: Path, work: Path, s3: S3Client) -> dict[str, Taken]:
    """Put a folder and get it back; compare, and clear up."""
    prefix, target = f"{candidate.name}-{time.time_ns()}", work / "target"
    put = measure(candidate.put(account, source, prefix), account, work)
    get = measure(candidate.get(account, prefix, target), account, work)
    check_same(source, target)
    shutil.rmtree(target)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": entry["Key"]} for entry in page["Contents"]]})
    time.sleep(SETTLE_SECONDS)
    return {"put": put, "get": get}


def check_same(source: Path, target: Path) -> None:
    """Compare two folders byte for byte."""
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    if names != sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file()):
        raise SystemExit("not the same files arrived")
    for name in names:
        if not filecmp.cmp(source / name, target / name, shallow=False):
            raise SystemExit(f"{name} arrived with other bytes")


def make_small(folder: Path, count: int) -> None:
    """Make many small files."""
    numbers = random.Random(1)
    for number in range(count):
        path = folder / f"{number // FILES_A_FOLDER:03}" / f"file-{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbers.randbytes(SMALL_BYTES))


def make_large(folder: Path, mib: int) -> None:
    """Make one large file, no two MiB of it alike."""
    folder.mkdir()
    block = random.Random(2).randbytes((1 << 20) - 8)
    with (folder / "large.bin").open("wb") as file:
        for number in range(mib):
            file.write(number.to_bytes(8, "big") + block)


def table(results: dict[tuple[str, str], dict[str, list[Taken]]], units: dict[str, tuple[float, str]]) -> str:
    """Return the medians as a Markdown table; ratios are ours to rclone's."""
    lines = ["| work | spacesfs | rclone copy | rate | CPU |", "| --- | --- | --- | --- | --- |"]
    for (what, verb), taken in results.items():
        amount, unit = units[what]
        wall, cpu = (
            {name: statistics.median(getattr(t, part) for t in every) for name, every in taken.items()}
            for part in ("wall", "cpu")
        )
        cells = [f"{amount / wall[name]:.0f} {unit}/s, {cpu[name]:.1f} CPU s" for name in ("spacesfs", "rclone")]
        rates, cpus = wall["rclone"] / wall["spacesfs"], cpu["spacesfs"] / cpu["rclone"]
        lines.append(f"| {verb} {what} | {' | '.join(cells)} | {rates:.2f} | {cpus:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="how many small files (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=2048, help="size of the large file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: %(default)s)")
    parser.add_argument("--latency-ms", type=int, default=0, help="distance of the server (default: %(default)s)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="spacesfs-bench-"))
    try:
        with RadosGateway() as rgw, Edge(rgw.endpoint, latency_ms=options.latency_ms) as edge:
            print(bench(rgw, edge, work, options))
    finally:
        shutil.rmtree(work)


def bench(rgw: RadosGateway, edge: Edge, work: Path, options: argparse.Namespace) -> str:
    """Measure both programs, in turn, so that a slow minute of the machine hits both."""
    account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    s3 = boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name="us-east-1",
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=config,
    )
    s3.create_bucket(Bucket=BUCKET)
    compileall.compile_dir(Path(spacesfs.__file__).parent, quiet=1)
    small, large = f"{options.files} files of {SMALL_BYTES >> 10} KiB", f"one file of {options.mib} MiB"
    units = {small: (float(options.files), "files"), large: (options.mib * 2**20 / 1e6, "MB")}
    make_small(work / "small", options.files)
    make_large(work / "large", options.mib)
    results: dict[tuple[str, str], dict[str, list[Taken]]] = {}
    for what, source in ((small, work / "small"), (large, work / "large")):
        for _ in range(options.rounds):
            for candidate in CANDIDATES:
                taken = one_round(candidate, account, source, work, s3)
                print(what, candidate.name, taken, file=sys.stderr)
                for verb, one in taken.items():
                    results.setdefault((what, verb), {}).setdefault(candidate.name, []).append(one)
    return table(results, units)


if __name__ == "__main__":
    main()
