"""The gateway refuses strangers, and can be stopped and started under a test without losing objects."""

from __future__ import annotations

import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError
from types_boto3_s3 import S3Client

from tests.servers.rgw import RadosGateway


def test_a_stranger_is_refused(rgw: RadosGateway, bucket_name: str) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name="us-east-1",
        aws_access_key_id=rgw.other_access_key,
        aws_secret_access_key=rgw.other_secret_key,
    )
    stranger.list_buckets()
    with pytest.raises(ClientError) as caught:
        stranger.list_objects_v2(Bucket=bucket_name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_objects_outlive_a_killed_gateway(rgw: RadosGateway, s3: S3Client, bucket_name: str) -> None:
    s3.put_object(Bucket=bucket_name, Key="a", Body=b"kept")
    rgw.stop_gateway()
    try:
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(rgw.endpoint, timeout=5)
    finally:
        rgw.start_gateway()
    assert s3.get_object(Bucket=bucket_name, Key="a")["Body"].read() == b"kept"


def test_a_frozen_gateway_accepts_and_stays_silent(rgw: RadosGateway) -> None:
    rgw.freeze_gateway()
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(rgw.endpoint, timeout=0.5)
    finally:
        rgw.thaw_gateway()
    urllib.request.urlopen(rgw.endpoint, timeout=30).close()
