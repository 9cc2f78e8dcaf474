"""Write through spacesfs, s3fs and rclone, in turn, to the same RADOS gateway over TLS: near and far.

``python -m tests.bench.writing`` prints Markdown tables of medians. Each measurement has a fresh mount, and counts as
done when the server itself shows the result; far is 20 ms added to each request. Rates are megabytes, files or changes
a second. CPU time and peak memory are those of the mounting process. rclone is measured as it comes and with a full
cache that writes back after a second; who is missing is left out.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.bench.sequential import (
    BUCKET,
    CANDIDATES,
    SETTLE_SECONDS,
    Candidate,
    cpu_seconds,
    mount_rclone,
    mounted,
    peak_mib,
    piece,
    wait_until,
)
from tests.mount.mounting import Account
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

OURS = "spacesfs"
FAR_MS = 20
SMALL_FILES, SMALL_BYTES = 200, 4096
TREE_FILES = 300
APPENDS = 50
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is done a second (or seconds, for a single change), CPU seconds, and peak resident memory in MiB."""

    rate: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the work is done and looked at."""

    mountpoint: Path
    s3: S3Client
    scratch: Path

    def settle(self, prefix: str, files: int, size: int) -> None:
        """Wait until the server shows so many files under a prefix, and bytes in them."""
        wait_until(lambda: self._held(prefix) == (files, size), SETTLE_SECONDS)

    def _held(self, prefix: str) -> tuple[int, int]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        sizes = [e["Size"] for page in pages for e in page.get("Contents", ()) if not e["Key"].endswith("/")]
        return len(sizes), sum(sizes)


@dataclass(frozen=True, slots=True)
class Site:
    """The server's other door, the files to copy, and the size of the sequential file in MiB."""

    s3: S3Client
    scratch: Path
    mib: int


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work: what it does, how many units it has (0: seconds count), and whether a large object is there."""

    name: str
    do: Callable[[Bench, int], None]
    units: Callable[[int], float]
    unit: str
    has_object: bool = False


def sequential(bench: Bench, mib: int) -> None:
    with (bench.mountpoint / "seq.bin").open("wb", buffering=0) as file:
        for number in range(mib):
            file.write(piece(number))
    bench.settle("seq.bin", 1, mib * MIB)


def small_files(bench: Bench, mib: int) -> None:
    folder = bench.mountpoint / "small"
    folder.mkdir()
    for number in range(SMALL_FILES):
        (folder / f"f{number}").write_bytes(b"y" * SMALL_BYTES)
    bench.settle("small/", SMALL_FILES, SMALL_FILES * SMALL_BYTES)


def untar(bench: Bench, mib: int) -> None:
    (bench.mountpoint / "untar").mkdir()
    subprocess.run(("tar", "-xf", bench.scratch / "tree.tar", "-C", bench.mountpoint / "untar"), check=True)
    bench.settle("untar/", TREE_FILES, tree_bytes(bench.scratch / "tree"))


def rsync(bench: Bench, mib: int) -> None:
    subprocess.run(("rsync", "-a", f"{bench.scratch}/tree/", f"{bench.mountpoint}/rsync/"), check=True)
    bench.settle("rsync/", TREE_FILES, tree_bytes(bench.scratch / "tree"))


def append(bench: Bench, mib: int) -> None:
    with (bench.mountpoint / "big.bin").open("ab", buffering=0) as file:
        file.write(b"z" * MIB)
    bench.settle("big.bin", 1, (2 * mib + 1) * MIB)


def patch(bench: Bench, mib: int) -> None:
    before = bench.s3.head_object(Bucket=BUCKET, Key="big.bin")["ETag"]
    with (bench.mountpoint / "big.bin").open("r+b", buffering=0) as file:
        file.seek(mib * MIB)
        file.write(os.urandom(4096))
    wait_until(lambda: bench.s3.head_object(Bucket=BUCKET, Key="big.bin")["ETag"] != before, SETTLE_SECONDS)


def small_appends(bench: Bench, mib: int) -> None:
    path = bench.mountpoint / "log"
    for _ in range(APPENDS):
        with path.open("ab", buffering=0) as file:
            file.write(b"l" * SMALL_BYTES)
    bench.settle("log", 1, APPENDS * SMALL_BYTES)


WORKS = (
    Work("sequential", sequential, lambda mib: mib * MIB / 1e6, "MB/s"),
    Work("200 small files", small_files, lambda _: SMALL_FILES, "files/s"),
    Work("untar 300 files", untar, lambda _: TREE_FILES, "files/s"),
    Work("rsync -a, 300 files", rsync, lambda _: TREE_FILES, "files/s"),
    Work("50 appends of 4 KiB", small_appends, lambda _: APPENDS, "appends/s"),
    Work("append of 1 MiB to a large object", append, lambda _: 1, "changes/s", has_object=True),
    Work("patch of 4 KiB in a large object", patch, lambda _: 1, "changes/s", has_object=True),
)


def tree_bytes(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def make_tree(scratch: Path) -> None:
    """Make the files that are copied and unpacked: 300 of 200 bytes to 60 KB, in 60 directories."""
    luck = random.Random(1)
    for number in range(TREE_FILES):
        folder = scratch / "tree" / f"d{number % 20:02}" / f"s{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:04}").write_bytes(luck.randbytes(luck.choice([200, 2000, 8000, 60000])))
    subprocess.run(("tar", "-C", scratch / "tree", "-cf", scratch / "tree.tar", "."), check=True)


def mount_rclone_full(account: Account, mountpoint: Path, home: Path) -> list[str]:
    full = ["--vfs-cache-mode", "full", "--vfs-write-back", "1s", "--transfers", "16"]
    return [*mount_rclone(account, mountpoint, home), *full]


def candidates() -> list[Candidate]:
    """Return what is installed; rclone twice, for its full cache is another program."""
    present = [candidate for candidate in CANDIDATES if shutil.which(candidate.program)]
    rclone = next((candidate for candidate in present if candidate.name == "rclone"), None)
    if rclone is not None:
        present.append(Candidate("rclone full", "rclone", mount_rclone_full, rclone.variables))
    return present


def empty(s3: S3Client) -> None:
    """Delete everything in the bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        if keys := [{"Key": entry["Key"]} for entry in page.get("Contents", ())]:
            s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]  # keys are all it needs


def measure(candidate: Candidate, account: Account, work: Work, site: Site) -> Measurement:
    """Do one piece of work through a fresh mount, on an empty bucket or one with a large object."""
    empty(site.s3)
    if work.has_object:
        site.s3.put_object(Bucket=BUCKET, Key="big.bin", Body=b"".join(map(piece, range(2 * site.mib))))
    with mounted(candidate, account) as (mountpoint, pid):
        cpu_before, start = cpu_seconds(pid), time.perf_counter()
        work.do(Bench(mountpoint, site.s3, site.scratch), site.mib)
        seconds = time.perf_counter() - start
        return Measurement(work.units(site.mib) / seconds, cpu_seconds(pid) - cpu_before, peak_mib(pid))


Results = dict[str, dict[str, list[Measurement]]]


def compare(account: Account, works: Sequence[Work], rounds: int, site: Site) -> Results:
    results: Results = {work.name: {} for work in works}
    for _ in range(rounds):
        for work in works:
            for candidate in candidates():
                try:
                    taken = measure(candidate, account, work, site)
                except OSError as error:  # rclone as it comes refuses to change an object
                    print(f"{candidate.name}: {work.name}: {error}", flush=True)
                    continue
                results[work.name].setdefault(candidate.name, []).append(taken)
    return results


def table(results: Results, units: Mapping[str, str]) -> str:
    """Return the medians as a Markdown table, and ours as a ratio to the best of the others."""
    lines = ["| work | program | rate | CPU s | peak MiB | ours to the best |", "|---|---|---|---|---|---|"]
    for work, by_name in results.items():
        rates = {name: statistics.median(m.rate for m in taken) for name, taken in by_name.items()}
        best = max((rate for name, rate in rates.items() if name != OURS), default=0.0)
        for name, taken in by_name.items():
            cpu = statistics.median(m.cpu_seconds for m in taken)
            peak = max(m.peak_mib for m in taken)
            ratio = f"{rates[OURS] / best:.2f}" if name == OURS and best else ""
            lines.append(f"| {work} | {name} | {rates[name]:.3g} {units[work]} | {cpu:.2f} | {peak:.0f} | {ratio} |")
    return "\n".join(lines)


@contextmanager
def tree() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="spacesfs-bench-"))
    try:
        make_tree(scratch)
        yield scratch
    finally:
        shutil.rmtree(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="size of the file; large objects have twice that")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="+", help="only work whose name begins with one of these")
    parser.add_argument("--where", nargs="+", choices=("near", "far"), default=["near", "far"])
    arguments = parser.parse_args()
    works = [w for w in WORKS if not arguments.work or w.name.startswith(tuple(arguments.work))]
    units = {work.name: work.unit for work in WORKS}
    with RadosGateway() as rgw, tree() as scratch:
        s3 = boto3.client(
            "s3",
            endpoint_url=rgw.endpoint,
            region_name="us-east-1",
            aws_access_key_id=rgw.access_key,
            aws_secret_access_key=rgw.secret_key,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )
        s3.create_bucket(Bucket=BUCKET)
        site = Site(s3, scratch, arguments.mib)
        for where in arguments.where:
            with Edge(rgw.endpoint, latency_ms=FAR_MS if where == "far" else 0) as edge:
                account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
                print(f"\n{where}, over TLS:\n", flush=True)
                print(table(compare(account, works, arguments.rounds, site), units), flush=True)


if __name__ == "__main__":
    main()
