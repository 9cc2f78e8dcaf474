"""What endpoint and region mean, and which are refused."""

from __future__ import annotations

import pytest

from spacesfs.client.endpoint import Endpoint, EndpointError, resolve_endpoint


@pytest.mark.parametrize(
    ("region", "url", "expected"),
    [
        ("nyc3", None, Endpoint("https://nyc3.digitaloceanspaces.com", "nyc3", "virtual")),
        (
            None,
            "https://fra1.digitaloceanspaces.com/",
            Endpoint("https://fra1.digitaloceanspaces.com", "fra1", "virtual"),
        ),
        (None, "FRA1.DigitalOceanSpaces.com", Endpoint("https://fra1.digitaloceanspaces.com", "fra1", "virtual")),
        (
            "us-east-1",
            "https://fra1.digitaloceanspaces.com",
            Endpoint("https://fra1.digitaloceanspaces.com", "us-east-1", "virtual"),
        ),
        (None, "https://s3.example.com:443", Endpoint("https://s3.example.com", "us-east-1", "path")),
        (None, "http://127.0.0.1:7480", Endpoint("http://127.0.0.1:7480", "us-east-1", "path")),
        ("nyc3", "http://[::1]:80", Endpoint("http://[::1]", "nyc3", "path")),
        (None, "http://localhost", Endpoint("http://localhost", "us-east-1", "path")),
    ],
)
def test_what_users_give(region: str | None, url: str | None, expected: Endpoint) -> None:
    assert resolve_endpoint(region, url) == expected


@pytest.mark.parametrize(
    ("region", "url", "message"),
    [
        (None, None, "no region"),
        ("NYC 3", None, "region 'NYC 3' is not valid"),
        ("nyc3/../x", None, "not valid"),
        (None, "http://files.example.com", "plain http"),
        (None, "http://127.0.0.1.example.com", "plain http"),
        (None, "ftp://example.com", "only https and http"),
        (None, "https://", "should look like"),
        (None, "https://ex ample.com", "should look like"),
        (None, "https://example.com:port", "not a valid URL"),
        (None, "https://example.com:99999", "not a valid URL"),
        (None, "https://example.com/bucket", "without bucket"),
        (None, "https://example.com?x=1", "without bucket"),
        (None, "https://digitaloceanspaces.com", "names no region"),
        (None, "https://pics.nyc3.digitaloceanspaces.com", "names a bucket; give nyc3.digitaloceanspaces.com"),
        (None, "https://pics.nyc3.cdn.digitaloceanspaces.com", "CDN"),
    ],
)
def test_what_is_refused(region: str | None, url: str | None, message: str) -> None:
    with pytest.raises(EndpointError, match=message) as refusal:
        resolve_endpoint(region, url)
    assert "\n" not in str(refusal.value)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(EndpointError) as refusal:
        resolve_endpoint(None, "https://user:hunter2@example.com")
    assert "hunter2" not in str(refusal.value)


def test_plain_http_elsewhere_on_demand() -> None:
    endpoint = resolve_endpoint(None, "http://files.example.com", allow_insecure=True)
    assert endpoint == Endpoint("http://files.example.com", "us-east-1", "path")
    assert not endpoint.is_secure


@pytest.mark.parametrize(
    ("bucket", "key", "origin", "path"),
    [
        ("pics", "", "https://pics.nyc3.digitaloceanspaces.com", "/"),
        ("pics", "a b/é", "https://pics.nyc3.digitaloceanspaces.com", "/a%20b/%C3%A9"),
        ("pics", "/a//../", "https://pics.nyc3.digitaloceanspaces.com", "//a//../"),
        ("my.pics", "", "https://nyc3.digitaloceanspaces.com", "/my.pics"),
        ("my.pics", "a", "https://nyc3.digitaloceanspaces.com", "/my.pics/a"),
        ("", "", "https://nyc3.digitaloceanspaces.com", "/"),
    ],
)
def test_addresses_on_spaces(bucket: str, key: str, origin: str, path: str) -> None:
    endpoint = resolve_endpoint("nyc3", None)
    assert endpoint.origin(bucket) == origin
    assert endpoint.path(bucket, key) == path


def test_addresses_elsewhere() -> None:
    endpoint = resolve_endpoint(None, "https://s3.example.com:9000")
    assert endpoint.origin("pics") == "https://s3.example.com:9000"
    assert endpoint.path("pics", "a") == "/pics/a"
