"""Records that go to and come from a Space. ETags are always without quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Acl = Literal["private", "public-read"]
Versioning = Literal["never", "enabled", "suspended"]

ACLS: tuple[Acl, ...] = ("private", "public-read")  # Spaces, S3 compatibility: no others
STORAGE_CLASSES = (  # S3 API; a server refuses those that it does not have, and Spaces has STANDARD
    *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA"),
    *("INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"),
)

_MD5 = re.compile("[0-9a-f]{32}")
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ObjectProperties:
    """What an object carries beside its bytes; everything here is lost by a rewrite that does not send it again.

    ``None`` means "not set". ``metadata`` holds ``x-amz-meta-*`` without that prefix, names in lower case.
    ``tags`` are as the ``x-amz-tagging`` header wants them: query-encoded. ``storage_class`` is one of
    `STORAGE_CLASSES`.
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    expires: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    acl: Acl | None = None
    tags: str | None = None
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as HEAD or GET describe it.

    ``properties.acl`` and ``properties.tags`` are never known from here; ``tag_count`` says whether to ask.
    ``is_encrypted`` is true for an object under a customer's key (SSE-C). ``version_id`` is "" in a bucket that never
    had versions.
    """

    key: str
    size: int
    etag: str
    last_modified_ns: int
    properties: ObjectProperties
    tag_count: int = 0
    is_encrypted: bool = False
    version_id: str = ""

    @property
    def md5(self) -> str | None:
        """The hex MD5 of the object's bytes; None where the ETag is not one, as after a multipart upload."""
        return self.etag if is_md5(self.etag) else None


@dataclass(slots=True)
class ListedObject:
    """One object as a listing describes it.

    Not frozen: one is made per entry of huge listings, and frozen costs 5 times as much.
    """

    key: str
    size: int
    etag: str
    last_modified_ns: int


@dataclass(frozen=True, slots=True)
class ListPage:
    """Up to 1,000 objects and common prefixes, each in the order of their UTF-8 bytes.

    ``resume`` continues after this page, or is None at the end; opaque.
    """

    objects: tuple[ListedObject, ...]
    prefixes: tuple[str, ...]
    resume: str | None


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One version of an object, or the mark that it was deleted, which has neither size nor ETag.

    The id of what was stored before the bucket had versions is ``null``.
    """

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    last_modified_ns: int
    size: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a server-side copy made."""

    etag: str
    last_modified_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part of a multipart upload; ``number`` counts from 1 to 10,000, ``size`` is in bytes.

    ``modified_ns`` says when it was sent, and is known from a listing only.
    """

    number: int
    etag: str
    size: int
    modified_ns: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Upload:
    """One multipart upload in progress."""

    key: str
    upload_id: str
    initiated_ns: int


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    """One key that a multi-object delete could not remove."""

    key: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BucketUsage:
    """What HEAD on a bucket tells; None where the server does not say. Bytes and objects.

    The quota is the bucket's own, which the server tells the owner alone; None, too, if there is none.
    """

    bytes_used: int | None
    object_count: int | None
    quota_bytes: int | None = None
    quota_objects: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """The identity of an object's bytes, and how many there are."""

    key: str
    etag: str
    size: int


def is_md5(etag: str) -> bool:
    """Tell whether an ETag is the MD5 of the object's bytes."""
    return _MD5.fullmatch(etag) is not None
