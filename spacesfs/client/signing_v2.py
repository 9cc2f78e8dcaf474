"""AWS Signature Version 2, as a header and as a presigned query: for servers and keys that know nothing newer. Pure.

Of the query only sub-resources are signed, and of the headers only those that S3 itself reads: what lies between client
and server can change the rest. `signing` is the better choice wherever it is accepted.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

from spacesfs.client.credentials import Credentials
from spacesfs.client.signing import Signable, encode_query

_TOKEN = "x-amz-security-token"  # noqa: S105 - the header's name
# What Ceph's gateway signs (rgw_auth_s3.cc); sub-resources unknown to it are not signed by the servers we speak to.
_SUB_RESOURCES = frozenset(
    {
        *("acl", "cors", "delete", "encryption", "lifecycle", "location", "logging", "notification", "object-lock"),
        *(
            "partNumber",
            "policy",
            "policyStatus",
            "publicAccessBlock",
            "requestPayment",
            "tagging",
            "torrent",
            "uploadId",
        ),
        *("uploads", "versionId", "versioning", "versions", "website"),
        *(
            f"response-{what}"
            for what in ("cache-control", "content-disposition", "content-encoding", "content-language")
        ),
        *(f"response-{what}" for what in ("content-type", "expires")),
    }
)


def authorize(request: Signable, credentials: Credentials, when: datetime) -> dict[str, str]:
    """Return the headers to add to a request: its date, session token and signature; ``when`` is UTC."""
    added = {"date": format_datetime(when, usegmt=True)}
    if credentials.session_token is not None:
        added[_TOKEN] = credentials.session_token
    signature = sign(string_to_sign(request, {**request.headers, **added}), credentials)
    return added | {"authorization": f"AWS {credentials.access_key_id}:{signature}"}


def presign(request: Signable, credentials: Credentials, when: datetime, *, expires_seconds: int) -> str:
    """Return the whole query string of a presigned URL.

    Raises:
        ValueError: ``expires_seconds`` is less than 1.
    """
    if expires_seconds < 1:
        raise ValueError(f"a signed URL must be valid for a second at least, not {expires_seconds}")
    expires = str(int(when.timestamp()) + expires_seconds)
    token = {} if credentials.session_token is None else {_TOKEN: credentials.session_token}
    signature = sign(string_to_sign(request, {**request.headers, **token, "date": expires}), credentials)
    query = [*request.query, *token.items(), ("AWSAccessKeyId", credentials.access_key_id), ("Expires", expires)]
    return f"{encode_query(query)}&Signature={quote(signature, safe='')}"


def string_to_sign(request: Signable, headers: Mapping[str, str]) -> str:
    """Return the text that is signed.

    Args:
        request: Its own headers and payload hash do not count.
        headers: Names in lower case. ``date`` holds the date, or when the URL expires.
    """
    date = "" if "x-amz-date" in headers else headers["date"]
    amz = [f"{name}:{value.strip()}\n" for name, value in sorted(headers.items()) if name.startswith("x-amz-")]
    of_body = (headers.get(name, "").strip() for name in ("content-md5", "content-type"))
    return "\n".join((request.method, *of_body, date, "".join(amz) + _resource(request)))


def sign(text: str, credentials: Credentials) -> str:
    """Return the base64 signature of a text."""
    return base64.b64encode(hmac.digest(credentials.secret_access_key.encode(), text.encode(), "sha1")).decode("ascii")


def _resource(request: Signable) -> str:
    """Return the bucket, the path as it is sent, and the sub-resources, decoded."""
    bucket = f"/{request.host_bucket}" if request.host_bucket else ""
    named = sorted((name, value) for name, value in request.query if name in _SUB_RESOURCES)
    query = "&".join(f"{name}={value}" if value else name for name, value in named)
    return f"{bucket}{request.path}{'?' if query else ''}{query}"
