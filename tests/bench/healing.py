"""How soon a mount comes back after its process was killed or stopped: ``python -m tests.bench.healing``.

A mount in the background over TLS to a real gateway, under a writer. Measured from the signal to the first answer of
the fresh mount. After SIGSTOP the mount is first silent for ``--hang-timeout``, which is taken off.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

from tests.mount.mounting import Account, Mount
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

BUCKET = "healing"
HANG_SECONDS = 3.0
GIVE_UP_SECONDS = 60.0
WRITE = """
import itertools, pathlib, sys, time
for number in itertools.count():
    try:
        pathlib.Path(sys.argv[1], f"{number % 500}").write_bytes(bytes(10_000))
    except OSError:
        time.sleep(0.01)
"""


def seconds_away(mount: Mount, number: signal.Signals) -> float:
    """Send a signal to the serving process; return how long its mount was away."""
    pid = mount.status()["pid"]
    process = os.pidfd_open(pid)
    began = time.perf_counter()
    signal.pidfd_send_signal(process, number)
    os.close(process)
    while Path(f"/proc/{pid}/exe").exists() or not answers(mount.path):
        if time.perf_counter() - began > GIVE_UP_SECONDS:
            raise SystemExit(f"the mount did not come back:\n{mount.tail()}")
        time.sleep(0.005)
    away = time.perf_counter() - began
    return away - HANG_SECONDS if number is signal.SIGSTOP else away


def answers(path: Path) -> bool:
    """Tell whether a mount lists its root."""
    try:
        os.statvfs(path)
        os.listdir(path)
    except OSError:
        return False
    return True


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each signal (default: %(default)s)")
    options = parser.parse_args()
    with RadosGateway() as rgw, Edge(rgw.endpoint) as edge, tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        boto3.client(
            "s3",
            endpoint_url=rgw.endpoint,
            region_name="us-east-1",
            aws_access_key_id=rgw.access_key,
            aws_secret_access_key=rgw.secret_key,
        ).create_bucket(Bucket=BUCKET)
        account = Account(edge.https_url, rgw.access_key, rgw.secret_key, edge.ca_bundle)
        mount = Mount(account, BUCKET, Path(home))
        mount.options += ["--log-file", str(mount.log), "--hang-timeout", f"{HANG_SECONDS}s"]
        done = mount.spacesfs("mount", *mount.arguments())
        if done.returncode:
            raise SystemExit(done.stderr)
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(mount.path)])
        try:
            print("| signal | median s | worst s |\n| --- | --- | --- |")
            for number in (signal.SIGKILL, signal.SIGSTOP):
                away = []
                for _ in range(options.rounds):
                    time.sleep(6)  # one that dies sooner is replaced after a delay
                    away.append(seconds_away(mount, number))
                print(f"| {number.name} | {statistics.median(away):.2f} | {max(away):.2f} |", flush=True)
        finally:
            writer.kill()
            writer.wait()
            mount.close()


if __name__ == "__main__":
    main()
