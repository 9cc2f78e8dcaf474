"""Where a Space is: its address, its signing region, and how a bucket's name goes into the URL."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from spacesfs.client.signing import percent_encode

Addressing = Literal["path", "virtual"]

SPACES_DOMAIN = "digitaloceanspaces.com"
SPACES_REGIONS = ("ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1")
DEFAULT_REGION = "us-east-1"  # what S3 servers other than Spaces expect in the signature when they don't say otherwise

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SPACES_REGION = re.compile("[a-z]{3}[0-9]")
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|[0-9a-f:.]+", re.IGNORECASE)
_DEFAULT_PORTS = {"https": 443, "http": 80}


class EndpointError(ValueError):
    """The endpoint or region as given cannot be used; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One S3 endpoint.

    Attributes:
        url: Scheme, host and port only, as ``https://nyc3.digitaloceanspaces.com``.
        region: Goes into the signature.
        addressing: ``virtual`` puts a bucket's name into the host, ``path`` into the path.
    """

    url: str
    region: str
    addressing: Addressing

    @property
    def is_secure(self) -> bool:
        """Whether the connection is TLS."""
        return self.url.startswith("https://")

    def origin(self, bucket: str) -> str:
        """Return scheme, host and port of requests to ``bucket`` ("" for the account itself)."""
        if not self.host_bucket(bucket):
            return self.url
        scheme, _, authority = self.url.partition("://")
        return f"{scheme}://{bucket}.{authority}"

    def path(self, bucket: str, key: str) -> str:
        """Return the percent-encoded path of ``key`` in ``bucket``, exactly as it is signed and sent."""
        prefix = "/" if not bucket or self.host_bucket(bucket) else f"/{percent_encode(bucket)}"
        if not key:
            return prefix
        return f"{prefix.rstrip('/')}/{percent_encode(key, keep_slashes=True)}"

    def host_bucket(self, bucket: str) -> str:
        """Return the bucket's name if it goes into the host, else ""."""
        # A wildcard certificate covers one label only, so a name with a dot can't.
        return bucket if self.addressing == "virtual" and "." not in bucket else ""


def spaces_endpoints() -> dict[str, Endpoint]:
    """Return the endpoints of all regions of Spaces, by region."""
    return {region: resolve_endpoint(region, None) for region in SPACES_REGIONS}


def is_spaces_region(name: str) -> bool:
    """Tell whether a region could be one of Spaces; new ones appear."""
    return _SPACES_REGION.fullmatch(name) is not None


def resolve_endpoint(region: str | None, endpoint_url: str | None, *, allow_insecure: bool = False) -> Endpoint:
    """Work out the endpoint from what the user gave.

    Args:
        region: A Spaces region as ``nyc3``, or the signing region of ``endpoint_url``.
        endpoint_url: Address of the server; https is meant where it names no scheme.
        allow_insecure: Accept plain http to other machines than this one.

    Raises:
        EndpointError: Neither is given, or one makes no sense.
    """
    if region and not _REGION.fullmatch(region):
        raise EndpointError(f"region {region!r} is not valid; Spaces regions look like nyc3")
    if endpoint_url:
        return _from_url(endpoint_url, region, allow_insecure=allow_insecure)
    if region:
        return Endpoint(f"https://{region}.{SPACES_DOMAIN}", region, "virtual")
    raise EndpointError("no region and no endpoint; give a region such as nyc3")


def _from_url(endpoint_url: str, region: str | None, *, allow_insecure: bool) -> Endpoint:
    """Check an endpoint URL and make an `Endpoint` of it."""
    parts = _split(endpoint_url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "http" and not (allow_insecure or _is_loopback(host)):
        raise EndpointError(
            f"plain http to {host} would send your data in clear; use https, or allow insecure endpoints"
        )
    port = parts.port if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]) else None
    authority = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    url = f"{parts.scheme}://{authority}"
    if host == SPACES_DOMAIN or host.endswith(f".{SPACES_DOMAIN}"):
        return Endpoint(url, region or _spaces_region(host), "virtual")
    return Endpoint(url, region or DEFAULT_REGION, "path")


def _split(endpoint_url: str) -> SplitResult:
    """Split a URL that may hold a scheme, a host and a port, and nothing else."""
    text = endpoint_url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        is_address = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        raise EndpointError("the endpoint is not a valid URL; it should look like https://host:port") from None
    if parts.username is not None or parts.password is not None:
        raise EndpointError("the endpoint must not hold a user name or password")  # and is not repeated here
    if parts.scheme not in _DEFAULT_PORTS:
        raise EndpointError(f"endpoint {text!r}: only https and http are possible")
    if not is_address or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise EndpointError(f"endpoint {text!r} should look like https://host:port, without bucket or path")
    return parts


def _spaces_region(host: str) -> str:
    """Return the region that a Spaces host names."""
    label = host.removesuffix(SPACES_DOMAIN).rstrip(".")
    if not label:
        raise EndpointError(f"endpoint {host} names no region; it should look like nyc3.{SPACES_DOMAIN}")
    if label.endswith(".cdn"):
        raise EndpointError(f"endpoint {host} is the CDN, which serves stale data; use REGION.{SPACES_DOMAIN}")
    if "." in label:
        raise EndpointError(
            f"endpoint {host} names a bucket; give {label.rpartition('.')[2]}.{SPACES_DOMAIN} and the bucket apart"
        )
    return label


def _is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
