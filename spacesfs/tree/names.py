"""From the names of files to the segments of keys, and back.

A segment of a key that can be a file name is its own name. Any other has an escaped one:

    ~key=SEGMENT    the segment is empty, ``.`` or ``..``, holds a NUL, or looks like an escaped name itself
    ~file=SEGMENT   a file beside a directory of the same segment, which has the name

with ``%`` written as ``%25``, NUL as ``%00``, and the dots of ``.`` and ``..`` as ``%2E``. What only resembles an
escaped name, as ``~key=a`` does, is a name like any other.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Container
from itertools import count
from urllib.parse import unquote

from spacesfs.errors import NameNotUtf8, NameTooLong, Unsupported

MAX_KEY_BYTES = 1024  # S3 API, object key
MAX_SEGMENT_BYTES = 255  # NAME_MAX of Linux

_KEY, _FILE = "~key=", "~file="
_QUOTED = re.compile(r"%(25|00|2E)")


def text_of(name: bytes) -> str:
    """Return a file name as text.

    Raises:
        NameNotUtf8: No key can carry the name.
        NameTooLong: The name is over 255 bytes.
    """
    if len(name) > MAX_SEGMENT_BYTES:
        raise NameTooLong
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise NameNotUtf8 from error


def is_name(segment: str) -> bool:
    """Say whether a key segment can be a file name on any disk."""
    return (
        segment not in ("", ".", "..")
        and "\0" not in segment
        and "/" not in segment
        and len(segment.encode()) <= MAX_SEGMENT_BYTES
    )


def name_to_take(name: bytes) -> str:
    """Return the name of something that is to be made.

    Raises:
        Unsupported: It is that of a file beside a directory.
        NameNotUtf8, NameTooLong: As `segment_of`.
    """
    found = text_of(name)
    if is_beside(found):
        raise Unsupported
    return found


def name_of(segment: str) -> str | None:
    """Return the file name under which a key segment is shown; None if there is none, for it would be too long."""
    name = _KEY + _quote(segment) if _needs_escape(segment) else segment
    return name if len(name) <= MAX_SEGMENT_BYTES // 4 or len(name.encode()) <= MAX_SEGMENT_BYTES else None


def name_beside(segment: str) -> str | None:
    """Return the name of a file whose segment is a directory's, too; None if it would be too long."""
    name = _FILE + _quote(segment)
    return name if len(name.encode()) <= MAX_SEGMENT_BYTES else None


def is_beside(name: str) -> bool:
    """Say whether a name stands for a file beside a directory of the same segment."""
    return name.startswith(_FILE) and _unquote(name[len(_FILE) :]) is not None


def segment_in(name: str) -> str:
    """Return what a file name stands for in a key: the reverse of `name_of` and of `name_beside`."""
    if not name.startswith("~"):
        return name
    if is_beside(name):
        return _unquote(name[len(_FILE) :]) or ""
    segment = _unquote(name[len(_KEY) :]) if name.startswith(_KEY) else None
    return segment if segment is not None and _needs_escape(segment) else name


def _needs_escape(segment: str) -> bool:
    if segment in ("", ".", "..") or "\0" in segment:
        return True
    return segment.startswith("~") and segment_in(segment) is not segment


def _quote(segment: str) -> str:
    if segment in (".", ".."):
        return segment.replace(".", "%2E")
    return segment.replace("%", "%25").replace("\0", "%00")


def _unquote(text: str) -> str | None:
    """Return what was quoted; None if this is not how anything is quoted."""
    segment = _QUOTED.sub(lambda match: unquote(match[0]), text)
    return segment if _quote(segment) == text else None


def check_key(key: str) -> str:
    """Return ``key`` if an object can have it.

    Raises:
        NameTooLong: It is over 1,024 bytes.
    """
    if len(key.encode()) > MAX_KEY_BYTES:
        raise NameTooLong
    return key


def split_key(key: str) -> tuple[str, str]:
    """Return the key of the directory that holds a file or directory, and its segment in there."""
    prefix, slash, name = key.removesuffix("/").rpartition("/")
    return prefix + slash, name


def conflict_name(name: str, taken: Container[str]) -> str:
    """Return a free name that tells whose version of a file it is, and from when.

    The stem is cut where the whole would be too long.
    """
    mark = f".conflict-{socket.gethostname()[:64]}-{time.strftime('%Y%m%dT%H%M%S')}"
    for number in count(1):
        suffix = mark if number == 1 else f"{mark}-{number}"
        stem = name.encode()[: MAX_SEGMENT_BYTES - len(suffix.encode())].decode(errors="ignore")
        if stem + suffix not in taken:
            return stem + suffix
    raise AssertionError("count ended")
