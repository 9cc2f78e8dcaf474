"""Object properties as HTTP headers, in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from spacesfs.client.documents import parse_number
from spacesfs.client.models import ACLS, STORAGE_CLASSES, ObjectInfo, ObjectProperties
from spacesfs.client.xmltree import Malformed

METADATA_PREFIX = "x-amz-meta-"
_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-algorithm"

_METADATA_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, token; the engine makes "_" of other tools "-"
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_SECOND_NS = 1_000_000_000


def properties_to_headers(properties: ObjectProperties) -> dict[str, str]:
    """Return the request headers that give an object these properties.

    Raises:
        ValueError: A name that no header can carry, or that the server would change; an ACL or a storage class that
            there is not.
    """
    if properties.storage_class not in (None, *STORAGE_CLASSES):
        raise ValueError(f"storage class {properties.storage_class!r} is none of {', '.join(STORAGE_CLASSES)}")
    headers = {
        "content-type": properties.content_type,
        "cache-control": properties.cache_control,
        "content-disposition": properties.content_disposition,
        "content-encoding": properties.content_encoding,
        "content-language": properties.content_language,
        "expires": properties.expires,
        "x-amz-acl": None if properties.acl is None else known_acl(properties.acl),
        "x-amz-tagging": properties.tags or None,
        "x-amz-storage-class": properties.storage_class,
    }
    for name, value in properties.metadata.items():
        if not _METADATA_NAME.fullmatch(name):
            raise ValueError(f"metadata name {name!r} must be lower case, and what a header name can hold")
        headers[METADATA_PREFIX + name] = value
    return {name: value for name, value in headers.items() if value is not None}


def known_acl(acl: str) -> str:
    """Return an ACL that Spaces knows; others may come from a command line, and the server takes some of them.

    Raises:
        ValueError: It is another.
    """
    if acl not in ACLS:
        raise ValueError(f"ACL {acl!r} is none of {', '.join(ACLS)}")
    return acl


def info_from_headers(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of a HEAD or GET reply say about an object.

    Args:
        key: The object's key.
        size: The size of the whole object in bytes.
        headers: Names in lower case, or a mapping that does not care.

    Raises:
        Malformed: There is no ETag, or no Last-Modified.
    """
    headers = dict(headers.items())  # httpx looks at all of them for each that is asked for
    return ObjectInfo(
        key=key,
        size=size,
        etag=etag_from_headers(headers),
        last_modified_ns=http_time_ns(headers.get("last-modified", "")),
        properties=_properties(headers),
        tag_count=parse_number(headers.get("x-amz-tagging-count", "")) or 0,
        is_encrypted=_CUSTOMER_KEY in headers,
        version_id=headers.get("x-amz-version-id", ""),
    )


def etag_from_headers(headers: Mapping[str, str]) -> str:
    """Return the ETag without its quotes.

    Raises:
        Malformed: There is none.
    """
    etag = headers.get("etag", "").strip().strip('"')
    if not etag:
        raise Malformed("no ETag")
    return etag


def content_length(headers: Mapping[str, str]) -> int:
    """Return the length of the body in bytes.

    Raises:
        Malformed: The reply does not say.
    """
    length = parse_number(headers.get("content-length", ""))
    if length is None:
        raise Malformed("no Content-Length")
    return length


def content_range(headers: Mapping[str, str]) -> tuple[int, int, int]:
    """Return the range a 206 carries: start, end (half-open) and the object's full size, in bytes.

    Raises:
        Malformed: The reply does not say, or says nonsense.
    """
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        raise Malformed("no Content-Range")
    start, last, size = map(int, found.groups())
    return start, last + 1, size


def http_time_ns(text: str) -> int:
    """Return an HTTP date in nanoseconds since 1970.

    Raises:
        Malformed: It is no date.
    """
    try:
        moment = parsedate_to_datetime(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * _SECOND_NS
    except (ValueError, OverflowError):
        raise Malformed("no valid date") from None


def _properties(headers: Mapping[str, str]) -> ObjectProperties:
    metadata = {
        name.removeprefix(METADATA_PREFIX): value for name, value in headers.items() if name.startswith(METADATA_PREFIX)
    }
    return ObjectProperties(
        content_type=headers.get("content-type"),
        cache_control=headers.get("cache-control"),
        content_disposition=headers.get("content-disposition"),
        content_encoding=_without_framing(headers.get("content-encoding")),
        content_language=headers.get("content-language"),
        expires=headers.get("expires"),
        metadata=metadata,
    )


def _without_framing(encoding: str | None) -> str | None:
    """Drop ``aws-chunked``: the framing of somebody's upload, which the engine stores as if it were the object's."""
    words = [word.strip() for word in (encoding or "").split(",")]
    return ", ".join(word for word in words if word and word != "aws-chunked") or None
