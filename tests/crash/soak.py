"""Many crash rounds: ``python -m tests.crash.soak --rounds 200``, or ``make soak``.

Ends with 1 at the first thing that is wrong, which leaves its logs behind. What was right until then is in
docs/soak.md.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config
from types_boto3_s3 import S3Client

from tests.conftest import REGION, remove_bucket
from tests.crash.harness import ROOT, Campaign, CrashFound, Tally
from tests.crash.plans import NAMES, Place, edge_for, plan
from tests.mount.mounting import Account
from tests.servers.rgw import RadosGateway

REPORT = ROOT / "docs" / "soak.md"
ROUNDS_A_BUCKET = 5

_HEAD = """\
# The last soak

`make soak` kills a mount again and again, under programs that log what was acknowledged to them, and compares the Space
with the logs ([tests/crash](../tests/crash/harness.py)). The last run, of {date}, with seed {seed}:

- {rounds} rounds, {kills} kills, {acknowledged} acknowledged changes;
- {pending} of them were on their way when the mount was killed;
- nothing was missing, stale or torn; no upload, temporary object or staged file was left over.

| what happened beside the kill | rounds | kills | acknowledged | pending at the kill | what programs were told |
| --- | --- | --- | --- | --- | --- |
"""


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=NAMES, action="append", help="plans to run; all by default")
    parser.add_argument("--report", type=Path, default=REPORT, help="where to write what was done")
    arguments = parser.parse_args()
    names = arguments.only or NAMES
    tallies = {name: Tally() for name in names}
    with RadosGateway() as rgw:
        s3 = _client(rgw)
        seeds = itertools.count(arguments.seed)
        turns = itertools.cycle(names)
        left = arguments.rounds
        while left > 0:
            name, rounds = next(turns), min(left, ROUNDS_A_BUCKET)
            try:
                _campaign(rgw, s3, name, next(seeds), rounds, tallies[name])
            except CrashFound as error:
                print(f"{name}: {error}", file=sys.stderr)
                sys.exit(1)
            left -= rounds
            arguments.report.write_text(_report(tallies, arguments.seed))


def _campaign(rgw: RadosGateway, s3: S3Client, name: str, seed: int, rounds: int, tally: Tally) -> None:  # noqa: PLR0917 - the one call is above
    bucket = f"soak-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    home = Path(tempfile.mkdtemp(prefix="spacesfs-soak-"))
    with edge_for(name, rgw) as edge:
        account = Account(edge.http_url, rgw.access_key, rgw.secret_key)
        chosen = plan(name, Place(rgw, edge))
        with Campaign(account, s3, bucket, home=home, plan=chosen, seed=seed) as campaign:
            for _ in range(rounds):
                campaign.round()
            campaign.end()
    tally.add(campaign.tally)
    print(f"{name} (seed {seed}): {campaign.tally}", flush=True)
    shutil.rmtree(home)
    remove_bucket(s3, bucket)


def _client(rgw: RadosGateway) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name=REGION,
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _report(tallies: dict[str, Tally], seed: int) -> str:
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    text = _HEAD.format(
        date=datetime.now(UTC).date(),
        seed=seed,
        rounds=total.rounds,
        kills=total.kills,
        acknowledged=total.acknowledged,
        pending=total.pending_at_kill,
    )
    for name, tally in tallies.items():
        told = ", ".join(f"{error} {count}" for error, count in sorted(tally.errors.items()))
        cells = (name, tally.rounds, tally.kills, tally.acknowledged, tally.pending_at_kill, told)
        text += f"| {' | '.join(str(cell) for cell in cells)} |\n"
    return text


if __name__ == "__main__":
    main()
