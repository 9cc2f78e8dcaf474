"""Whatever happens to a mount, nothing acknowledged is lost, and nothing else is changed: 20 rounds.

``make soak`` runs as many as wanted; the result of the last is in docs/soak.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from types_boto3_s3 import S3Client

from tests.crash.harness import Campaign
from tests.crash.plans import Place, edge_for, plan
from tests.mount.mounting import Account
from tests.servers.rgw import RadosGateway

ROUNDS = {
    "killed": 4,
    "killed-while-draining": 2,
    "killed-while-recovering": 2,
    "power": 3,
    "full": 2,
    "network": 2,
    "gateway": 1,
    "failing": 2,
    "fsync": 1,
    "space": 1,
}


@pytest.mark.slow
@pytest.mark.usefixtures("fuse_device")
@pytest.mark.parametrize("name", ROUNDS)
def test_what_was_acknowledged_survives(
    rgw: RadosGateway, s3: S3Client, bucket_name: str, tmp_path: Path, name: str
) -> None:
    with edge_for(name, rgw) as edge:
        account = Account(edge.http_url, rgw.access_key, rgw.secret_key)
        chosen = plan(name, Place(rgw, edge))
        with Campaign(account, s3, bucket_name, home=tmp_path, plan=chosen, seed=1) as campaign:
            for _ in range(ROUNDS[name]):
                campaign.round()
            campaign.end()
        assert campaign.tally.acknowledged > 0
