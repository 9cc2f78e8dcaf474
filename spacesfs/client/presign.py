"""Signed URLs: who has one may read or write one object until it expires, without a key. Pure: nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

from spacesfs.client import signing, signing_v2
from spacesfs.client.call import check_key
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint
from spacesfs.client.signer import SignatureVersion
from spacesfs.client.signing import MAX_PRESIGN_SECONDS, UNSIGNED_PAYLOAD, Signable

HOUR_SECONDS = 3600

RESPONSE_HEADERS = (
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
)
"""What a signed GET may ask the server to say instead of the object's own."""


def signed_url(
    method: Literal["GET", "HEAD", "PUT", "DELETE"],
    endpoint: Endpoint,
    credentials: Credentials,
    bucket: str,
    key: str,
    *,
    expires_seconds: int = HOUR_SECONDS,
    headers: Mapping[str, str] | None = None,
    response: Mapping[str, str] | None = None,
    version_id: str | None = None,
    signature_version: SignatureVersion = 4,
    now: datetime | None = None,
) -> str:
    """Return a URL for one request on an object.

    Args:
        method: What the URL is for.
        endpoint: Where the bucket is.
        credentials: Who allows it; a URL can do no more than its key.
        bucket: The bucket.
        key: The object; it need not exist.
        expires_seconds: From ``now``; Version 4 allows a week at most.
        headers: Headers that the request must carry as they are here, names in lower case: ``content-type`` or
            ``x-amz-acl`` for a PUT. Nothing may be added to the URL itself later.
        response: Values of `RESPONSE_HEADERS` by name, for a GET.
        version_id: One version of the object.
        signature_version: 4, or 2 for servers that know nothing newer.
        now: When it begins, if not now.

    Raises:
        ValueError: Such a URL would be refused.
        InvalidRequest, KeyTooLong: There can be no such object.
    """
    if not 1 <= expires_seconds <= MAX_PRESIGN_SECONDS:
        raise ValueError(f"a signed URL can be valid for 1 to {MAX_PRESIGN_SECONDS} seconds, not {expires_seconds}")
    unknown = [name for name in response or {} if name not in RESPONSE_HEADERS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(RESPONSE_HEADERS)}")
    origin, path = endpoint.origin(bucket), endpoint.path(bucket, check_key(key))
    query = tuple((response or {}).items()) + ((("versionId", version_id),) if version_id else ())
    signed = {**(headers or {}), "host": urlsplit(origin).netloc}
    request = Signable(method, path, query, signed, UNSIGNED_PAYLOAD, endpoint.host_bucket(bucket))
    when = now or datetime.now(UTC)
    if signature_version == 4:  # noqa: PLR2004 - Amazon's name for it
        signature = signing.presign(request, credentials, endpoint.region, when, expires_seconds=expires_seconds)
    else:
        signature = signing_v2.presign(request, credentials, when, expires_seconds=expires_seconds)
    return f"{origin}{path}?{signature}"
