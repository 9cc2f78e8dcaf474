"""From the names of files to the segments of keys, and back."""

from __future__ import annotations

import socket
import time
from collections.abc import Container
from itertools import count

from spacesfs.errors import NameNotUtf8, NameTooLong

MAX_KEY_BYTES = 1024  # S3 API, object key
MAX_SEGMENT_BYTES = 255  # NAME_MAX of Linux


def segment_of(name: bytes) -> str:
    """Return the key segment of a file name.

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
    """Say whether a key segment can be shown as a file name as it is."""
    return (
        segment not in ("", ".", "..")
        and "\0" not in segment
        and "/" not in segment
        and len(segment.encode()) <= MAX_SEGMENT_BYTES
    )


def check_key(key: str) -> str:
    """Return ``key`` if an object can have it.

    Raises:
        NameTooLong: It is over 1,024 bytes.
    """
    if len(key.encode()) > MAX_KEY_BYTES:
        raise NameTooLong
    return key


def split_key(key: str) -> tuple[str, str]:
    """Return the key of the directory that holds a file or directory, and its name in there."""
    prefix, slash, name = key.rstrip("/").rpartition("/")
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
