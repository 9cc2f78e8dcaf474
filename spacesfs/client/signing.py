"""AWS Signature Version 4, as a header and as a presigned query. Pure: no clock, no I/O.

The path and query that are signed are the very strings that go on the wire: keys are percent-encoded once, with
upper-case hex, and nothing is normalised (``//``, ``.`` and ``..`` are ordinary parts of a key).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from spacesfs.client.credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
_SPACES = re.compile(" +")
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
MAX_PRESIGN_SECONDS = 604_800  # S3 API: X-Amz-Expires is at most a week

Query = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Signable:
    """What of a request is signed.

    Attributes:
        path: Percent-encoded, as it goes on the wire.
        query: Names and values, not encoded.
        headers: The headers to sign, names in lower case; ``host`` and every ``x-amz-*`` must be among them.
        payload_hash: Hex SHA-256 of the body, or `UNSIGNED_PAYLOAD`.
        host_bucket: The bucket if its name stands in the host and not in the path; only Version 2 asks.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    payload_hash: str
    host_bucket: str = ""


def percent_encode(text: str, *, keep_slashes: bool = False) -> str:
    """Encode everything but ``A-Za-z0-9-_.~`` (and ``/`` if wanted), UTF-8, upper-case hex."""
    return quote(text, safe="/" if keep_slashes else "")


def encode_query(query: Query) -> str:
    """Return the canonical query string; it is also what goes on the wire."""
    return "&".join(
        f"{name}={value}" for name, value in sorted((percent_encode(n), percent_encode(v)) for n, v in query)
    )


def authorize(request: Signable, credentials: Credentials, region: str, when: datetime) -> dict[str, str]:
    """Return the headers to add to a request: its date, payload hash, session token and signature; ``when`` is UTC."""
    stamp = _stamp(when)
    added = {"x-amz-date": stamp, "x-amz-content-sha256": request.payload_hash}
    if credentials.session_token is not None:
        added["x-amz-security-token"] = credentials.session_token
    headers = {**request.headers, **added}
    canonical = canonical_request(request.method, request.path, request.query, headers, request.payload_hash)
    signature = _sign(canonical, credentials, region, stamp)
    added["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{_scope(region, stamp)}, "
        f"SignedHeaders={signed_names(headers)}, Signature={signature}"
    )
    return added


def presign(request: Signable, credentials: Credentials, region: str, when: datetime, *, expires_seconds: int) -> str:
    """Return the whole query string of a presigned URL; nothing may be appended to it.

    Raises:
        ValueError: ``expires_seconds`` is not within 1 second and a week.
    """
    if not 1 <= expires_seconds <= MAX_PRESIGN_SECONDS:
        raise ValueError(f"a signed URL can be valid for 1 to {MAX_PRESIGN_SECONDS} seconds, not {expires_seconds}")
    stamp = _stamp(when)
    query = [
        *request.query,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key_id}/{_scope(region, stamp)}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(expires_seconds)),
        ("X-Amz-SignedHeaders", signed_names(request.headers)),
    ]
    if credentials.session_token is not None:
        query.append(("X-Amz-Security-Token", credentials.session_token))
    canonical = canonical_request(request.method, request.path, query, request.headers, request.payload_hash)
    return f"{encode_query(query)}&X-Amz-Signature={_sign(canonical, credentials, region, stamp)}"


def canonical_request(method: str, path: str, query: Query, headers: Mapping[str, str], payload_hash: str) -> str:
    """Return the text whose hash is signed."""
    lines = [f"{name}:{_SPACES.sub(' ', value.strip(' '))}\n" for name, value in sorted(headers.items())]
    return "\n".join((method, path, encode_query(query), "".join(lines), signed_names(headers), payload_hash))


def signed_names(headers: Mapping[str, str]) -> str:
    """Return the names of the signed headers as the signature lists them."""
    return ";".join(sorted(headers))


@lru_cache(maxsize=4)  # one a day and region; a request then costs one HMAC instead of five
def signing_key(secret: str, day: str, region: str) -> bytes:
    """Return the key that signs every request of one day (``yyyymmdd``) in one region."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _sign(canonical: str, credentials: Credentials, region: str, stamp: str) -> str:
    """Return the hex signature of a canonical request."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join((ALGORITHM, stamp, _scope(region, stamp), digest))
    key = signing_key(credentials.secret_access_key, stamp[:8], region)
    return hmac.digest(key, text.encode(), "sha256").hex()


def _scope(region: str, stamp: str) -> str:
    return f"{stamp[:8]}/{region}/s3/aws4_request"  # the day


def _stamp(when: datetime) -> str:
    return when.strftime("%Y%m%dT%H%M%SZ")
