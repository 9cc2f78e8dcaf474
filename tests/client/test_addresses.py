"""URLs of objects, as a bucket gives them."""

from __future__ import annotations

from urllib.request import urlopen

import pytest
from types_boto3_s3 import S3Client

from spacesfs.client.client import SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import EndpointError, resolve_endpoint
from spacesfs.client.errors import AccessDenied, InvalidRequest
from tests.servers.rgw import RadosGateway

KEY = "a folder/ä+%?#.txt"


def test_a_bucket_of_spaces() -> None:
    bucket = SpacesClient(resolve_endpoint("fra1", None), Credentials("AK", "SK")).bucket("photos")
    assert bucket.url("a b") == "https://photos.fra1.digitaloceanspaces.com/a%20b"
    assert bucket.cdn_url("a b") == "https://photos.fra1.cdn.digitaloceanspaces.com/a%20b"
    assert bucket.signed_url("k").startswith("https://photos.fra1.digitaloceanspaces.com/k?X-Amz-")
    with pytest.raises(InvalidRequest):
        bucket.url("")


def test_elsewhere_there_is_no_cdn_and_without_a_key_no_signature(rgw: RadosGateway) -> None:
    bucket = SpacesClient(resolve_endpoint(None, rgw.endpoint), None).bucket("photos")
    with pytest.raises(EndpointError):
        bucket.cdn_url("k")
    with pytest.raises(AccessDenied):
        bucket.signed_url("k")


def test_a_signed_url_leads_to_the_object(rgw: RadosGateway, bucket_name: str, s3: S3Client) -> None:
    s3.put_object(Bucket=bucket_name, Key=KEY, Body=b"content")
    client = SpacesClient(resolve_endpoint(None, rgw.endpoint), Credentials(rgw.access_key, rgw.secret_key))
    with urlopen(client.bucket(bucket_name).signed_url(KEY, expires_seconds=60)) as reply:
        assert reply.read() == b"content"
