"""XML in and out: what replies say and what requests carry.

Elements are matched by local name, in any namespace. Replies come from outside: a document with a DOCTYPE (the
only place where entities can be declared) is refused, and whatever is not the expected document is `Malformed`.
The standard library's parser, which is C, takes less than half the time of defusedxml's, which runs in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element, ParseError, XMLParser
from xml.sax.saxutils import escape

from spacesfs.client.models import Acl, CopyResult, DeleteFailure, ListedObject, Part, Upload

_ERROR_ROOT = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<(?:\w+:)?Error[\s>]")
_INEXPRESSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NUMBER = re.compile(r"[0-9]{1,19}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"


class Malformed(ValueError):
    """A reply is not what it should be; says in a few words what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What an error document says; "" for what it does not."""

    code: str = ""
    message: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing as the server sent it, names decoded."""

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
        fields = _fields(_root(body, "Error"))
    except Malformed:
        return ErrorReply()
    return ErrorReply(fields.get("Code", ""), fields.get("Message", ""), fields.get("RequestId", ""))


def parse_listing(body: bytes) -> Listing:
    """Read a ListObjects reply, version 1 or 2; percent-encoded names are decoded if the reply says it has them."""
    objects: list[ListedObject] = []
    prefixes: list[str] = []
    head: dict[str, str] = {}
    for child in _root(body, "ListBucketResult"):
        name = _local(child)
        if name == "Contents":
            objects.append(_listed_object(_fields(child)))
        elif name == "CommonPrefixes":
            prefixes.append(_required(_fields(child), "Prefix"))
        else:
            head[name] = child.text or ""
    marker = head.get("NextMarker", "")
    if head.get("EncodingType") == "url":
        for entry in objects:
            entry.key = unquote_plus(entry.key)
        prefixes = [unquote_plus(prefix) for prefix in prefixes]
        marker = unquote_plus(marker)
    return Listing(objects, prefixes, head.get("IsTruncated") == "true", head.get("NextContinuationToken", ""), marker)


def parse_buckets(body: bytes) -> list[tuple[str, int]]:
    """Read a ListBuckets reply: names and creation times in nanoseconds."""
    buckets = (_fields(found) for found in _find(_root(body, "ListAllMyBucketsResult"), "Bucket"))
    return [(_required(fields, "Name"), parse_time_ns(_required(fields, "CreationDate"))) for fields in buckets]


def parse_copy(body: bytes) -> CopyResult:
    """Read a CopyObject or UploadPartCopy reply."""
    fields = _fields(_root(body, "CopyObjectResult", "CopyPartResult"))
    return CopyResult(_required(fields, "ETag").strip('"'), parse_time_ns(_required(fields, "LastModified")))


def parse_acl(body: bytes) -> Acl:
    """Read an access control policy: can everyone read?"""
    for grant in _find(_root(body, "AccessControlPolicy"), "Grant"):
        uris = [(found.text or "").strip() for found in _find(grant, "URI")]
        if _EVERYONE in uris and _fields(grant).get("Permission") in {"READ", "FULL_CONTROL"}:
            return "public-read"
    return "private"


def parse_tags(body: bytes) -> str | None:
    """Read a Tagging reply into the query-encoded form of the ``x-amz-tagging`` header; None without tags."""
    tags = (_fields(found) for found in _find(_root(body, "Tagging"), "Tag"))
    pairs = [(quote(_required(tag, "Key"), safe=""), quote(tag.get("Value", ""), safe="")) for tag in tags]
    return "&".join(f"{name}={value}" for name, value in pairs) or None


def parse_deleted(body: bytes) -> list[DeleteFailure]:
    """Read the failures in a DeleteObjects reply."""
    errors = (_fields(found) for found in _find(_root(body, "DeleteResult"), "Error"))
    return [DeleteFailure(_required(e, "Key"), e.get("Code", ""), e.get("Message", "")) for e in errors]


def parse_upload_id(body: bytes) -> str:
    """Read a CreateMultipartUpload reply."""
    return _required(_fields(_root(body, "InitiateMultipartUploadResult")), "UploadId")


def parse_completed_etag(body: bytes) -> str:
    """Read the ETag in a CompleteMultipartUpload reply; "" where the server gives none."""
    return _fields(_root(body, "CompleteMultipartUploadResult")).get("ETag", "").strip('"')


def parse_parts(body: bytes) -> tuple[list[Part], str]:
    """Read a page of ListParts: its parts, and the number to continue after ("" at the end)."""
    root = _root(body, "ListPartsResult")
    parts = [
        Part(_integer(fields, "PartNumber"), _required(fields, "ETag").strip('"'), _integer(fields, "Size"))
        for fields in map(_fields, _find(root, "Part"))
    ]
    head = _fields(root)
    return parts, head.get("NextPartNumberMarker", "") if head.get("IsTruncated") == "true" else ""


def parse_uploads(body: bytes) -> tuple[list[Upload], tuple[str, str] | None]:
    """Read a page of ListMultipartUploads: its uploads, and the key and upload to continue after (None at the end)."""
    root = _root(body, "ListMultipartUploadsResult")
    uploads = [
        Upload(_required(fields, "Key"), _required(fields, "UploadId"), parse_time_ns(_required(fields, "Initiated")))
        for fields in map(_fields, _find(root, "Upload"))
    ]
    head = _fields(root)
    if head.get("IsTruncated") != "true":
        return uploads, None
    return uploads, (_required(head, "NextKeyMarker"), head.get("NextUploadIdMarker", ""))


def parse_time_ns(text: str) -> int:
    """Return an ISO 8601 time in nanoseconds since 1970; listings have milliseconds."""
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND * 1000
    except (ValueError, TypeError):
        raise Malformed("a time that is none") from None


def parse_number(text: str) -> int | None:
    """Return a size or count, or None where the text is not one."""
    return int(text) if _NUMBER.fullmatch(text) else None


def is_expressible(key: str) -> bool:
    """Tell whether XML 1.0 can carry a key at all; most control characters it can't."""
    return _INEXPRESSIBLE.search(key) is None


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


def _root(body: bytes, *names: str) -> Element:
    """Parse a document whose root must have one of these names."""
    text = _text(body)
    parser = XMLParser()  # noqa: S314 - a DOCTYPE was refused
    try:
        parser.feed(text)
        root: Element = parser.close()
    except (ParseError, ValueError):
        raise Malformed("a body that is not XML") from None
    if _local(root) not in names:
        raise Malformed(f"a document that is not {names[0]}")
    return root


def _text(body: bytes) -> str:
    """Decode a body and refuse what could declare entities."""
    try:
        text = body.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Malformed("a body that is not UTF-8") from None
    if not text:
        raise Malformed("an empty body")
    if "<!DOCTYPE" in text:
        raise Malformed("HTML or another document with a DOCTYPE")
    return text


def _listed_object(fields: dict[str, str]) -> ListedObject:
    return ListedObject(
        _required(fields, "Key"),
        _integer(fields, "Size"),
        _required(fields, "ETag").strip('"'),
        parse_time_ns(_required(fields, "LastModified")),
    )


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _fields(element: Element) -> dict[str, str]:
    """Return the text of an element's children by local name."""
    return {child.tag.rpartition("}")[2]: child.text or "" for child in element}


def _find(element: Element, name: str) -> Iterator[Element]:
    """Walk all descendants of one local name."""
    return (found for found in element.iter() if _local(found) == name)


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
