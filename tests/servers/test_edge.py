"""The edge does to requests what it says, and counts them exactly."""

from __future__ import annotations

from collections.abc import Callable

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError
from types_boto3_s3 import S3Client

from tests.servers.edge import CLASSES, Edge
from tests.servers.rgw import RadosGateway


def client(url: str, ca_bundle: str | None = None) -> S3Client:
    """Return a client that tries each call once."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        verify=ca_bundle,
        region_name="us-east-1",
        aws_access_key_id=RadosGateway.access_key,
        aws_secret_access_key=RadosGateway.secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
        ),
    )


def test_requests_are_counted_by_class(make_edge: Callable[..., Edge], bucket_name: str) -> None:
    edge = make_edge()  # not the shared one, which mounts of other tests may still be using
    s3 = client(edge.https_url, str(edge.ca_bundle))
    source = f"{bucket_name}/a"
    edge.zero()
    s3.put_object(Bucket=bucket_name, Key="a", Body=b"x")
    s3.head_object(Bucket=bucket_name, Key="a")
    for _ in range(2):
        s3.get_object(Bucket=bucket_name, Key="a")["Body"].read()
    s3.list_objects_v2(Bucket=bucket_name)
    s3.copy_object(Bucket=bucket_name, Key="b", CopySource=source)
    upload = s3.create_multipart_upload(Bucket=bucket_name, Key="c")["UploadId"]
    s3.upload_part(Bucket=bucket_name, Key="c", UploadId=upload, PartNumber=1, Body=b"x")
    s3.upload_part_copy(Bucket=bucket_name, Key="c", UploadId=upload, PartNumber=2, CopySource=source)
    s3.abort_multipart_upload(Bucket=bucket_name, Key="c", UploadId=upload)
    s3.delete_objects(Bucket=bucket_name, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert edge.counts() == dict.fromkeys(CLASSES, 1) | {"get": 2}
    edge.zero()
    assert edge.counts() == dict.fromkeys(CLASSES, 0)


def test_the_certificate_holds_for_the_address_too(edge: Edge, bucket_name: str) -> None:
    s3 = client(edge.https_url.replace("localhost", "127.0.0.1"), str(edge.ca_bundle))
    s3.head_bucket(Bucket=bucket_name)


def test_failures_carry_the_given_status_and_an_error_document(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(fail_percent=100, fail_status=429)
    with pytest.raises(ClientError) as caught:
        client(edge.http_url).list_buckets()
    assert caught.value.response["Error"]["Code"] == "SlowDown"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert sum(edge.counts().values()) == 0


def test_resets_close_the_connection_without_an_answer(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(reset_percent=100)
    with pytest.raises(ConnectionClosedError):
        client(edge.http_url).list_buckets()


def test_latency_lets_requests_through(make_edge: Callable[..., Edge], bucket_name: str) -> None:
    edge = make_edge(latency_ms=20)
    client(edge.http_url).head_bucket(Bucket=bucket_name)
    assert edge.counts()["head"] == 1


def test_a_cut_edge_refuses_until_it_is_mended(make_edge: Callable[..., Edge], bucket_name: str) -> None:
    edge = make_edge()
    edge.cut()
    with pytest.raises(EndpointConnectionError):
        client(edge.http_url).head_bucket(Bucket=bucket_name)
    edge.mend()
    client(edge.http_url).head_bucket(Bucket=bucket_name)
