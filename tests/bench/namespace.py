"""Work on names through spacesfs, s3fs and rclone, in turn, over TLS from the same RADOS gateway, 20 ms far.

``python -m tests.bench.namespace`` prints a Markdown table of rates and, with ``--objects N``, how a directory of N
objects is listed, and then looked through by ``find -size``. ``--only mv`` measures one kind of work, ``--only huge``
that directory; ``--alone`` leaves the others out. Each measurement has a fresh mount and an empty cache, but for the
second ``ls -l``, whose cache is that of the first. A change counts when the server shows it; the time until the call
returned is told beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import unescape

import boto3
import httpx
from botocore.config import Config

from tests.bench.reading import FAR_MS, OURS, ratio
from tests.bench.sequential import (
    BUCKET,
    CANDIDATES,
    MOUNT_SECONDS,
    SETTLE_SECONDS,
    Candidate,
    peak_mib,
    wait_until,
)
from tests.mount.mounting import Account, detach, environment, is_mounted
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FILES = 2000
FOUND, FOLDERS = 10_000, 300
LONG_SECONDS = 900


@dataclass(frozen=True)
class Space:
    """The bucket, as another client sees it."""

    s3: S3Client
    key: str
    secret: str

    def fill(self, keys: list[str]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))

    def count(self, prefix: str) -> int:
        """Return how many files there are below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(not entry["Key"].endswith("/") for page in pages for entry in page.get("Contents", ()))

    def list_bare(self, prefix: str, edge: Edge) -> float:
        """Return how long the bare requests for a directory take through the edge, in seconds; nobody reads them."""
        signer = client_of(edge.https_url, self.key, self.secret)
        started, token = time.perf_counter(), ""
        with httpx.Client(verify=ssl.create_default_context(cafile=edge.ca_bundle), timeout=60) as client:
            while True:
                parameters = {"Bucket": BUCKET, "Prefix": prefix, "Delimiter": "/"}
                if token:
                    parameters["ContinuationToken"] = token
                reply = client.get(signer.generate_presigned_url("list_objects_v2", Params=parameters))
                found = re.search(r"<NextContinuationToken>([^<]+)<", reply.raise_for_status().text)
                if found is None:
                    return time.perf_counter() - started
                token = unescape(found[1])


def client_of(url: str, key: str, secret: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4", max_pool_connections=16),
    )


@contextmanager
def at(home: Path, candidate: Candidate, account: Account) -> Iterator[tuple[Path, int]]:
    """Mount with the caches of ``home``, which stay."""
    mountpoint = home / "mnt"
    mountpoint.mkdir(exist_ok=True)
    process = subprocess.Popen(
        candidate.command(account, mountpoint, home),
        env=environment(home, account) | candidate.variables(account),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, MOUNT_SECONDS)
        yield mountpoint, process.pid
    finally:
        detach(mountpoint)
        process.terminate()
        process.wait(SETTLE_SECONDS)


@contextmanager
def fresh(candidate: Candidate, account: Account) -> Iterator[tuple[Path, int]]:
    home = Path(tempfile.mkdtemp(prefix="spacesfs-bench-", dir="/var/tmp"))
    try:
        with at(home, candidate, account) as mounted:
            yield mounted
    finally:
        shutil.rmtree(home, ignore_errors=True)


def seconds_of(*command: str | Path, lines: int | None = None) -> float:
    """Return how long a command takes that must print so many lines."""
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=LONG_SECONDS, check=True)
    seconds = time.perf_counter() - started
    if lines is not None and len(done.stdout.splitlines()) != lines:
        raise SystemExit(f"{command} printed {len(done.stdout.splitlines())} lines, not {lines}")
    return seconds


def ls_l(candidate: Candidate, account: Account) -> tuple[float, float]:
    """Return files a second of ``ls -l`` the first time, and again from a fresh mount with the same cache folder."""
    home = Path(tempfile.mkdtemp(prefix="spacesfs-bench-", dir="/var/tmp"))
    rates = []
    try:
        for _ in range(2):
            with at(home, candidate, account) as (mountpoint, _pid):
                rates.append(FILES / seconds_of("ls", "-l", mountpoint / "many", lines=FILES + 1))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return rates[0], rates[1]


def find(candidate: Candidate, account: Account) -> float:
    with fresh(candidate, account) as (mountpoint, _):
        return FOUND / seconds_of("find", mountpoint / "tree", "-type", "f", lines=FOUND)


def settled(work: Callable[[], float], is_done: Callable[[], bool]) -> tuple[float, float]:
    """Return seconds until a call returned, and until the server shows what it did."""
    started = time.perf_counter()
    acknowledged = work()
    wait_until(is_done, LONG_SECONDS)
    return acknowledged, time.perf_counter() - started


def move_and_remove(candidate: Candidate, account: Account, space: Space) -> tuple[float, float, float, float]:
    """Return files a second settled and seconds until acknowledged, of ``mv`` of a directory and of ``rm -r`` of it."""
    name = f"moved-{candidate.name}"
    space.fill([f"{name}/f{number:04}" for number in range(FILES)])
    with fresh(candidate, account) as (mountpoint, _):
        mv_told, mv_done = settled(
            lambda: seconds_of("mv", mountpoint / name, mountpoint / f"{name}-on"),
            lambda: space.count(f"{name}-on/") == FILES and not space.count(f"{name}/"),
        )
        rm_told, rm_done = settled(
            lambda: seconds_of("rm", "-r", mountpoint / f"{name}-on"), lambda: not space.count(f"{name}-on/")
        )
    return FILES / mv_done, mv_told, FILES / rm_done, rm_told


def list_huge(candidate: Candidate, account: Account, objects: int) -> tuple[float, float, float, float]:
    """Return seconds to the first entries and to the last, and the peak of memory in MiB then and after a walk."""
    with fresh(candidate, account) as (mountpoint, pid):
        started = time.perf_counter()
        with os.scandir(mountpoint / "huge") as entries:
            next(entries)
            first = time.perf_counter() - started
            count = 1 + sum(1 for _ in entries)
        if count != objects:
            raise SystemExit(f"{candidate.name} shows {count} of {objects}")
        whole, peak = time.perf_counter() - started, peak_mib(pid)
        seconds_of("find", mountpoint / "huge", "-size", "1")  # every name is looked up, if the kernel has let it go
        return first, whole, peak, peak_mib(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--objects", type=int, default=0, help="also list a directory of so many (default: %(default)s)"
    )
    parser.add_argument(
        "--only", choices=[*WORKS, "huge"], action="append", help="measure this alone; may be given again"
    )
    parser.add_argument("--alone", action="store_true", help="without the other programs")
    options = parser.parse_args()
    works = [work for work in WORKS if work in (options.only or WORKS)]
    present = [
        candidate
        for candidate in CANDIDATES
        if shutil.which(candidate.program) and (candidate.name == OURS or not options.alone)
    ]
    with RadosGateway() as rgw, Edge(rgw.endpoint, latency_ms=FAR_MS) as edge:
        s3 = client_of(rgw.endpoint, rgw.access_key, rgw.secret_key)
        s3.create_bucket(Bucket=BUCKET)
        space = Space(s3, rgw.access_key, rgw.secret_key)
        if "ls" in works:
            space.fill([f"many/f{number:04}" for number in range(FILES)])
        if "find" in works:
            space.fill([f"tree/d{number % FOLDERS:03}/f{number:05}" for number in range(FOUND)])
        account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
        if works:
            print(measured(present, account, space, works))
        if options.objects:
            space.fill([f"huge/{number:07}" for number in range(options.objects)])
            print(huge(present, account, options.objects, space.list_bare("huge/", edge)))


@dataclass(frozen=True)
class Measured:
    """What one candidate did: files a second by work, and seconds until a call returned."""

    rates: dict[str, float]
    told: dict[str, float]


def measure_ls(candidate: Candidate, account: Account, _: Space) -> Measured:
    first, second = ls_l(candidate, account)
    return Measured({f"`ls -l` of {FILES} files": first, "... from a fresh mount, same cache folder": second}, {})


def measure_find(candidate: Candidate, account: Account, _: Space) -> Measured:
    return Measured({f"`find` over {FOUND} files in {FOLDERS} directories": find(candidate, account)}, {})


def measure_mv(candidate: Candidate, account: Account, space: Space) -> Measured:
    mv, mv_told, rm, rm_told = move_and_remove(candidate, account, space)
    rates = {f"`mv` of a directory of {FILES} files, settled": mv, "`rm -r` of it, settled": rm}
    return Measured(rates, {"mv": mv_told, "rm": rm_told})


WORKS = {"ls": measure_ls, "find": measure_find, "mv": measure_mv}


def measured(present: list[Candidate], account: Account, space: Space, works: list[str]) -> str:
    """Measure all but the huge directory; return a Markdown table."""
    rates: dict[str, dict[str, float]] = {}
    told: dict[str, dict[str, float]] = {}
    for candidate in present:
        for work in works:
            found = WORKS[work](candidate, account, space)
            print(f"{candidate.name}: {found.rates} {found.told}", file=sys.stderr)
            for name, rate in found.rates.items():
                rates.setdefault(name, {})[candidate.name] = rate
            for name, seconds in found.told.items():
                told.setdefault(name, {})[candidate.name] = seconds
    names = [candidate.name for candidate in present]
    lines = [f"| files a second | {' | '.join(names)} | ratio |", f"|---|{'---|' * len(names)}---|"]
    for name, each in rates.items():
        lines.append(f"| {name} | {' | '.join(f'{each[other]:.0f}' for other in names)} | {ratio(each):.1f} |")
    for name, seconds_of_each in told.items():
        cells = " | ".join(f"{seconds_of_each[other]:.1f} s" for other in names)
        lines.append(f"| until `{name}` returned | {cells} | |")
    return "\n".join(lines)


def huge(present: list[Candidate], account: Account, objects: int, bare: float) -> str:
    """List a huge directory by every candidate; return a Markdown table. ``bare`` is what the requests take alone."""
    lines = [
        f"| {objects} objects | first entries | all | of the bare requests' {bare:.1f} s | memory | after a walk |",
        "|---|---|---|---|---|---|",
    ]
    for candidate in sorted(present, key=lambda candidate: candidate.name != OURS):
        first, whole, peak, after = list_huge(candidate, account, objects)
        cells = f"{first:.2f} s | {whole:.1f} s | {whole / bare:.2f} | {peak:.0f} MiB | {after:.0f} MiB"
        lines.append(f"| {candidate.name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
