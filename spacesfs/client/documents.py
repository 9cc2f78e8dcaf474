"""XML in and out: what replies say and what requests carry. Whatever is not the expected document is `Malformed`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from spacesfs.client.models import (
    Acl,
    CopyResult,
    DeleteFailure,
    ListedObject,
    ListedVersion,
    Part,
    Upload,
    Versioning,
)
from spacesfs.client.xmltree import Malformed, child_texts, descendants, local_name, parse_root, same_namespace

# Nothing here may be tried twice, else megabytes of spaces take hours.
_ERROR_ROOT = re.compile(rb"\s*+(?:<\?xml[^>]*+>\s*+)?+<(?:\w++:)?+Error[\s/>]")
_NUMBER = re.compile(r"[0-9]{1,19}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What an error document says; "" for what it does not."""

    code: str = ""
    message: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing as the server sent it."""

    objects: list[ListedObject]
    prefixes: list[str]
    is_truncated: bool
    token: str
    next_marker: str


def is_error(body: bytes) -> bool:
    """Tell whether a body is an error document; it may come with HTTP 200."""
    return _ERROR_ROOT.match(body) is not None


def parse_error(body: bytes) -> ErrorReply:
    """Read an error document; anything else (nothing, HTML) reads as an error that says nothing."""
    try:
        fields = child_texts(parse_root(body, "Error"))
    except Malformed:
        return ErrorReply()
    return ErrorReply(fields.get("Code", ""), fields.get("Message", ""), fields.get("RequestId", ""))


def parse_listing(body: bytes) -> Listing:
    """Read a ListObjects reply, version 1 or 2."""
    objects: list[ListedObject] = []
    prefixes: list[str] = []
    head: dict[str, str] = {}
    root = parse_root(body, "ListBucketResult")
    names = [same_namespace(root, name) for name in ("Key", "Size", "ETag", "LastModified")]
    for child in root:
        name = local_name(child)
        if name == "Contents":  # a thousand of these in a page, so they are searched by C alone
            objects.append(_listed_object(*[child.findtext(name) for name in names]))
        elif name == "CommonPrefixes":
            prefixes.append(_required(child_texts(child), "Prefix"))
        else:
            head[name] = child.text or ""
    token, marker = head.get("NextContinuationToken", ""), head.get("NextMarker", "")
    return Listing(objects, prefixes, head.get("IsTruncated") == "true", token, marker)


def parse_buckets(body: bytes) -> list[tuple[str, int]]:
    """Read a ListBuckets reply: names and creation times in nanoseconds."""
    buckets = (child_texts(found) for found in descendants(parse_root(body, "ListAllMyBucketsResult"), "Bucket"))
    return [(_required(fields, "Name"), parse_time_ns(_required(fields, "CreationDate"))) for fields in buckets]


def parse_location(body: bytes) -> str:
    """Read a GetBucketLocation reply."""
    return (parse_root(body, "LocationConstraint").text or "").strip()


def parse_versioning(body: bytes) -> Versioning:
    """Read a GetBucketVersioning reply."""
    status = child_texts(parse_root(body, "VersioningConfiguration")).get("Status", "")
    return {"Enabled": "enabled", "Suspended": "suspended"}.get(status, "never")  # type: ignore[return-value]


def versioning_document(status: str) -> bytes:
    """Return the body of PutBucketVersioning."""
    return f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()


def parse_versions(body: bytes) -> tuple[list[ListedVersion], tuple[str, str] | None]:
    """Read a page of ListObjectVersions, and the key and version to continue after (None at the end)."""
    root = parse_root(body, "ListVersionsResult")
    versions = [
        _listed_version(child_texts(child), is_delete_marker=local_name(child) == "DeleteMarker")
        for child in root
        if local_name(child) in {"Version", "DeleteMarker"}
    ]
    return versions, _following(child_texts(root), "NextVersionIdMarker")


def parse_copy(body: bytes) -> CopyResult:
    """Read a CopyObject or UploadPartCopy reply."""
    fields = child_texts(parse_root(body, "CopyObjectResult", "CopyPartResult"))
    return CopyResult(_required(fields, "ETag").strip('"'), parse_time_ns(_required(fields, "LastModified")))


def parse_acl(body: bytes) -> Acl:
    """Read an access control policy: can everyone read?"""
    for grant in descendants(parse_root(body, "AccessControlPolicy"), "Grant"):
        uris = [(found.text or "").strip() for found in descendants(grant, "URI")]
        if _EVERYONE in uris and child_texts(grant).get("Permission") in {"READ", "FULL_CONTROL"}:
            return "public-read"
    return "private"


def parse_tags(body: bytes) -> str | None:
    """Read a Tagging reply into the query-encoded form of the ``x-amz-tagging`` header; None without tags."""
    tags = (child_texts(found) for found in descendants(parse_root(body, "Tagging"), "Tag"))
    pairs = [(quote(_required(tag, "Key"), safe=""), quote(tag.get("Value", ""), safe="")) for tag in tags]
    return "&".join(f"{name}={value}" for name, value in pairs) or None


def tags_document(tags: str) -> bytes:
    """Return the body of PutObjectTagging for query-encoded tags."""
    pairs = parse_qsl(tags, keep_blank_values=True)
    listed = "".join(f"<Tag><Key>{_escape(name)}</Key><Value>{_escape(value)}</Value></Tag>" for name, value in pairs)
    return f"<Tagging><TagSet>{listed}</TagSet></Tagging>".encode()


def parse_deleted(body: bytes) -> list[DeleteFailure]:
    """Read the failures in a DeleteObjects reply."""
    errors = (child_texts(found) for found in descendants(parse_root(body, "DeleteResult"), "Error"))
    return [DeleteFailure(_required(e, "Key"), e.get("Code", ""), e.get("Message", "")) for e in errors]


def parse_upload_id(body: bytes) -> str:
    """Read a CreateMultipartUpload reply."""
    return _required(child_texts(parse_root(body, "InitiateMultipartUploadResult")), "UploadId")


def parse_completed_etag(body: bytes) -> str:
    """Read the ETag in a CompleteMultipartUpload reply; "" where the server gives none."""
    return child_texts(parse_root(body, "CompleteMultipartUploadResult")).get("ETag", "").strip('"')


def parse_parts(body: bytes) -> tuple[list[Part], str]:
    """Read a page of ListParts: its parts, and the number to continue after ("" at the end)."""
    root = parse_root(body, "ListPartsResult")
    parts = [
        Part(
            _integer(fields, "PartNumber"),
            _required(fields, "ETag").strip('"'),
            _integer(fields, "Size"),
            parse_time_ns(_required(fields, "LastModified")),
        )
        for fields in map(child_texts, descendants(root, "Part"))
    ]
    head = child_texts(root)
    return parts, head.get("NextPartNumberMarker", "") if head.get("IsTruncated") == "true" else ""


def parse_uploads(body: bytes) -> tuple[list[Upload], tuple[str, str] | None]:
    """Read a page of ListMultipartUploads: its uploads, and the key and upload to continue after (None at the end)."""
    root = parse_root(body, "ListMultipartUploadsResult")
    uploads = [
        Upload(_required(fields, "Key"), _required(fields, "UploadId"), parse_time_ns(_required(fields, "Initiated")))
        for fields in map(child_texts, descendants(root, "Upload"))
    ]
    return uploads, _following(child_texts(root), "NextUploadIdMarker")


def parse_time_ns(text: str) -> int:
    """Return an ISO 8601 time in nanoseconds since 1970; listings have milliseconds."""
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND * 1000
    except (ValueError, TypeError):
        raise Malformed("a time that is none") from None


def parse_number(text: str) -> int | None:
    """Return a size or count, or None where the text is not one."""
    return int(text) if _NUMBER.fullmatch(text) else None


def delete_document(keys: Sequence[str]) -> bytes:
    """Return the body of DeleteObjects; the reply then lists failures only."""
    objects = "".join(f"<Object><Key>{_escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()


def complete_document(parts: Sequence[Part]) -> bytes:
    """Return the body of CompleteMultipartUpload, terse: the engine takes 1 MiB at most, for 10,000 parts."""
    listed = "".join(f"<Part><PartNumber>{p.number}</PartNumber><ETag>{p.etag}</ETag></Part>" for p in parts)
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


def _escape(text: str) -> str:
    # A bare carriage return or newline would be normalised by the reader of the XML.
    return escape(text, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _listed_object(key: str | None, size: str | None, etag: str | None, modified: str | None) -> ListedObject:
    if not (key and size and etag and modified):
        raise Malformed("an object that lacks its key, size, ETag or time")
    number = parse_number(size)
    if number is None:
        raise Malformed("Size is not a number")
    return ListedObject(key, number, etag.strip('"'), parse_time_ns(modified))


def _listed_version(fields: dict[str, str], *, is_delete_marker: bool) -> ListedVersion:
    return ListedVersion(
        _required(fields, "Key"),
        _required(fields, "VersionId"),
        fields.get("IsLatest") == "true",
        is_delete_marker,
        parse_time_ns(_required(fields, "LastModified")),
        0 if is_delete_marker else _integer(fields, "Size"),
        "" if is_delete_marker else _required(fields, "ETag").strip('"'),
    )


def _following(head: dict[str, str], second: str) -> tuple[str, str] | None:
    """Return the two markers that the next page begins after, None at the end."""
    if head.get("IsTruncated") != "true":
        return None
    return _required(head, "NextKeyMarker"), head.get(second, "")


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise Malformed(f"no {name}")
    return value


def _integer(fields: dict[str, str], name: str) -> int:
    number = parse_number(_required(fields, name))
    if number is None:
        raise Malformed(f"{name} is not a number")
    return number
