"""Where buckets and objects are for browsers: at their origin, and at the CDN in front of it."""

from __future__ import annotations

from urllib.parse import urlsplit

from spacesfs.client.endpoint import SPACES_DOMAIN, Endpoint, EndpointError
from spacesfs.client.signing import percent_encode


def origin_host(endpoint: Endpoint, bucket: str) -> str:
    """Return the origin that the CDN knows a bucket by.

    Raises:
        EndpointError: The bucket is not at Spaces, or can have no CDN because there is a dot in its name.
    """
    host = urlsplit(endpoint.origin(bucket)).netloc
    if not host.startswith(f"{bucket}.") or not host.endswith(f".{SPACES_DOMAIN}"):
        raise EndpointError(f"there is no CDN in front of {bucket} at {endpoint.url}; only Spaces has one")
    return host


def origin_url(endpoint: Endpoint, bucket: str, key: str = "") -> str:
    """Return the URL of a bucket or an object, as it is without the CDN; whether it may be read is another matter."""
    return endpoint.origin(bucket) + endpoint.path(bucket, key)


def cdn_url(endpoint: Endpoint, bucket: str, key: str = "") -> str:
    """Return the URL of a bucket or an object at the CDN, whether there is one or not.

    Raises:
        EndpointError: As `origin_host`.
    """
    return f"https://{_cdn_host(origin_host(endpoint, bucket))}/{percent_encode(key, keep_slashes=True)}"


def through_cdn(signed: str, endpoint: Endpoint, bucket: str) -> str:
    """Return a signed URL of `spacesfs.client.presign.signed_url` that goes through the CDN, which does not cache it.

    Raises:
        EndpointError: As `origin_host`.
    """
    origin = origin_host(endpoint, bucket)
    return signed.replace(f"://{origin}/", f"://{_cdn_host(origin)}/", 1)


def _cdn_host(origin: str) -> str:
    return origin.replace(f".{SPACES_DOMAIN}", f".cdn.{SPACES_DOMAIN}")
