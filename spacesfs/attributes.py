"""A file's attributes, and how they are written into an object's metadata.

The encoding is that of s3fs-fuse, whose times rclone and geesefs read too: ``mode`` is st_mode in decimal with the file
type, ``uid`` and ``gid`` are decimal, ``mtime``, ``ctime`` and ``atime`` are seconds with nine digits of fraction, and
``xattr`` is a percent-encoded JSON object from attribute name to base64 value. ``rdev`` (decimal) is geesefs's.
What other programs wrote is read leniently: a value that makes no sense counts as absent.
"""

from __future__ import annotations

import binascii
import json
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from spacesfs.client.models import ObjectInfo

DIRECTORY_TYPE = "application/x-directory"
MAX_TARGET_BYTES = 4095  # PATH_MAX of Linux, without the closing NUL
METADATA_LIMIT_BYTES = 2048  # S3 API, user-defined metadata: names and values together
_NS = 10**9
_MAX_XATTR_NAME_BYTES = 255  # XATTR_NAME_MAX of Linux
_MAX_ID = 2**32 - 2
_MAX_SECONDS = 2**33
_PLAIN_XATTR = re.compile(r"user\.([a-z0-9-]+)")
_OWN_NAMES = frozenset(("mode", "uid", "gid", "mtime", "ctime", "atime", "rdev", "xattr"))
_TIME = re.compile(r"(-?\d{1,12})(?:\.(\d{1,9})\d*)?")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat tells of a file beside its size. Times in ns since the epoch; ``mode`` has the type bits too."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    rdev: int = 0

    @property
    def kind(self) -> int:
        """The file type bits of ``mode``."""
        return stat.S_IFMT(self.mode)

    @property
    def is_directory(self) -> bool:
        """Say whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Say whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Say whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    def touched(self, now_ns: int) -> Attributes:
        """Return the attributes after the content changed at ``now_ns``."""
        return replace(self, mtime_ns=now_ns, ctime_ns=now_ns)

    def without_set_ids(self) -> Attributes:
        """Return the attributes after a user without privileges wrote; set-gid counts only with x for the group."""
        lost = stat.S_ISUID | (stat.S_ISGID if self.mode & stat.S_IXGRP else 0)
        return replace(self, mode=self.mode & ~lost) if self.mode & lost and self.is_regular else self


@dataclass(frozen=True, slots=True)
class AttributeDefaults:
    """What an object without metadata of ours gets. Modes are permission bits only."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int

    def for_directory(self, time_ns: int) -> Attributes:
        """Return the attributes of a directory without metadata."""
        return Attributes(stat.S_IFDIR | self.dir_mode, self.uid, self.gid, time_ns, time_ns, time_ns)

    def for_file(self, time_ns: int) -> Attributes:
        """Return the attributes of a file without metadata, last modified at ``time_ns``."""
        return Attributes(stat.S_IFREG | self.file_mode, self.uid, self.gid, time_ns, time_ns, time_ns)


def attributes_of(info: ObjectInfo, defaults: AttributeDefaults, *, is_directory: bool) -> Attributes:
    """Return the attributes that an object gives to a directory, whose marker it is, or to a file."""
    plain = defaults.for_directory(info.last_modified_ns) if is_directory else defaults.for_file(info.last_modified_ns)
    metadata = info.properties.metadata
    mtime_ns = _time_ns(metadata.get("mtime"), plain.mtime_ns)
    mode = _mode(metadata.get("mode"), plain.mode, is_directory=is_directory)
    if stat.S_ISLNK(mode) and not 0 < info.size <= MAX_TARGET_BYTES:
        mode = plain.mode  # no link has such a target
    return Attributes(
        mode=mode,
        uid=_number(metadata.get("uid"), plain.uid, _MAX_ID),
        gid=_number(metadata.get("gid"), plain.gid, _MAX_ID),
        mtime_ns=mtime_ns,
        atime_ns=_time_ns(metadata.get("atime"), mtime_ns),
        ctime_ns=_time_ns(metadata.get("ctime"), mtime_ns),
        rdev=_number(metadata.get("rdev"), 0, _MAX_ID),
    )


def metadata_with(attributes: Attributes, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return ``metadata`` with ``attributes`` written over what it held of them; the rest is kept."""
    written = dict(metadata)
    written["mode"] = str(attributes.mode)
    written["uid"] = str(attributes.uid)
    written["gid"] = str(attributes.gid)
    written["mtime"] = _time_text(attributes.mtime_ns)
    written["ctime"] = _time_text(attributes.ctime_ns)
    written["atime"] = _time_text(attributes.atime_ns)
    written.pop("rdev", None)
    if attributes.rdev:
        written["rdev"] = str(attributes.rdev)
    return written


def metadata_bytes(metadata: Mapping[str, str]) -> int:
    """Return the bytes that count against ``METADATA_LIMIT_BYTES``."""
    return sum(len(name) + len(value.encode()) for name, value in metadata.items())


def read_xattrs(metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Return the extended attributes in ``metadata``, names with their ``user.`` prefix."""
    found = {f"user.{name}": value.encode() for name, value in metadata.items() if name not in _OWN_NAMES}
    found.update((name, value) for name, value in _xattr_document(metadata).items() if _is_xattr_name(name))
    return found


def _is_xattr_name(name: str) -> bool:
    """Say whether a name from a foreign document can be one here; others stay in the document, unseen."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return name.startswith("user.") and name != "user." and "\0" not in name and size <= _MAX_XATTR_NAME_BYTES


def with_xattr(metadata: Mapping[str, str], name: str, value: bytes | None) -> dict[str, str]:
    """Return ``metadata`` with one extended attribute set, or removed when ``value`` is None.

    ``user.NAME`` with a plain name and a printable ASCII value is plain object metadata; all else goes in the document.
    """
    changed = dict(metadata)
    document = _xattr_document(metadata)
    document.pop(name, None)
    plain = _PLAIN_XATTR.fullmatch(name)
    plain_name = plain[1] if plain and plain[1] not in _OWN_NAMES else None
    if plain_name:
        changed.pop(plain_name, None)
    if value is not None:
        if plain_name and _is_plain_value(value):
            changed[plain_name] = value.decode("ascii")
        else:
            document[name] = value
    changed.pop("xattr", None)
    if document:
        changed["xattr"] = _document_text(document)
    return changed


def _is_plain_value(value: bytes) -> bool:
    return value.isascii() and value.decode("ascii").isprintable() and value == value.strip() and bool(value)


def _document_text(document: Mapping[str, bytes]) -> str:
    encoded = {name: b64encode(value).decode() for name, value in document.items()}
    return quote(json.dumps(encoded, separators=(",", ":")), safe="/")


def _xattr_document(metadata: Mapping[str, str]) -> dict[str, bytes]:
    try:
        document = json.loads(unquote(metadata.get("xattr", "{}"), errors="strict"))
        return {str(name): b64decode(value, validate=True) for name, value in document.items()}
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        return {}


def _mode(text: str | None, default: int, *, is_directory: bool) -> int:
    mode = _number(text, default, 0o177777)
    kind = stat.S_IFMT(mode)
    if is_directory:
        kind = stat.S_IFDIR
    elif kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        kind = stat.S_IFREG
    return kind | stat.S_IMODE(mode)


def _number(text: str | None, default: int, limit: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:  # noqa: PLR2004 - 2**32 has 10 digits
        return default
    number = int(text)
    return number if number <= limit else default


def _time_ns(text: str | None, default_ns: int) -> int:
    match = _TIME.fullmatch(text) if text and text.isascii() else None
    if not match or abs(int(match[1])) > _MAX_SECONDS:
        return default_ns
    fraction_ns = int((match[2] or "0").ljust(9, "0"))
    return int(match[1]) * _NS + fraction_ns


def _time_text(time_ns: int) -> str:
    seconds, fraction_ns = divmod(time_ns, _NS)
    return f"{seconds}.{fraction_ns:09d}"
