"""From the names of files to the segments of keys, and back.

A segment of a key that can be a file name is its own name. Any other has an escaped one:

    ~key=SEGMENT              the segment is empty, ``.`` or ``..``, holds a NUL, or looks like an escaped name itself
    ~file=SEGMENT             a file beside a directory of the same segment, which has the name
    ~more=PIECE/~end=PIECE    either of these where it would be over 255 bytes: a path of two names or more, the last of
    ~more=PIECE/~file=PIECE   them ``~file=`` for the file beside a directory

with ``%`` written as ``%25``, NUL as ``%00``, and the dots of ``.`` and ``..`` as ``%2E``. Every piece but the last
is as long as it can be, up to 240 bytes. What only resembles an escaped name, as ``~key=a`` does, is a name like any
other.

The bytes of an object whose key ends in ``/`` are the file of no segment at all, beside the directory: ``~file=``.
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

_KEY, _FILE, _MORE, _END = "~key=", "~file=", "~more=", "~end="
_PIECE_BYTES = 240
_LEAST_PIECE_BYTES = _PIECE_BYTES - 3  # what comes next is a character of up to four bytes
_QUOTED = re.compile(r"%(25|00|2E)")

OWN_BYTES = _FILE  # the name, in a directory, of the bytes that the object of the directory itself has


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


def check_free(name: str) -> str:
    """Return a name if something can be made under it.

    Raises:
        Unsupported: It is that of a file beside a directory, or a part of a long name.
    """
    if is_beside(name) or is_part(name):
        raise Unsupported
    return name


def name_of(segment: str) -> str:
    """Return the file name under which a key segment is shown, or the path for a long one."""
    name = _KEY + _quote(segment) if _needs_escape(segment) else segment
    return name if _fits(name) else _path(segment, _END)


def name_beside(segment: str) -> str:
    """Return the name of a file whose segment is a directory's, too, or the path for a long one."""
    name = _FILE + _quote(segment)
    return name if _fits(name) else _path(segment, _FILE)


def is_beside(name: str) -> bool:
    """Say whether a name stands for a file beside a directory of the same segment."""
    last = name.rpartition("/")[2]
    return last.startswith(_FILE) and _unquote(last[len(_FILE) :]) is not None


def is_part(name: str) -> bool:
    """Say whether a name stands for no segment yet, but for the directory where a long one's name goes on."""
    return name.startswith(_MORE) and _is_more(name.rpartition("/")[2])


def name_inside(part: str, name: str) -> str | None:
    """Return the name, as a path, of what is called ``name`` in the directory of a part; None if nothing can be."""
    path = f"{part}/{name}"
    segment = segment_in(path)
    if _is_more(name):
        return path if path == "/".join(_MORE + piece for piece in _pieces(segment)) else None
    return path if path in (name_of(segment), name_beside(segment)) else None


def segment_in(name: str) -> str:
    """Return what a file name stands for in a key: the reverse of `name_of` and of `name_beside`.

    Of a part of a long name, its part of the segment.
    """
    if not name.startswith("~"):
        return name
    if "/" in name:
        return "".join(_unquote(each.partition("=")[2]) or "" for each in name.split("/"))
    for mark in (_FILE, _KEY, _MORE):
        if name.startswith(mark):
            segment = _unquote(name[len(mark) :])
            is_escaped = segment is not None and (
                mark == _FILE or (_needs_escape(segment) if mark == _KEY else _is_more(name))
            )
            return segment if segment is not None and is_escaped else name
    return name


def key_of(path: str) -> str:
    """Return the key of a path, without a slash at its end; of a part of long names, that of its directory."""
    segments, part = [], ""
    for component in path.split("/"):
        name = name_inside(part, component) if part else component
        if name is not None and is_part(name):
            part = name
        else:
            segments.append(segment_in(name or component))
            part = ""
    return "/".join(segments)


def _needs_escape(segment: str) -> bool:
    if segment in ("", ".", "..") or "\0" in segment:
        return True
    return segment.startswith("~") and segment_in(segment) is not segment


def _fits(name: str) -> bool:
    return len(name) <= MAX_SEGMENT_BYTES // 4 or len(name.encode()) <= MAX_SEGMENT_BYTES


def _is_more(name: str) -> bool:
    piece = name[len(_MORE) :]
    return (
        name.startswith(_MORE)
        and _LEAST_PIECE_BYTES <= len(piece.encode()) <= _PIECE_BYTES
        and _unquote(piece) is not None
    )


def _path(segment: str, last: str) -> str:
    *pieces, end = _pieces(segment)
    return "/".join([*(_MORE + piece for piece in pieces), last + end])


def _pieces(segment: str) -> list[str]:
    """Return a segment quoted, in pieces, each but the last as long as it can be."""
    pieces, begin, size = [], 0, 0
    for index, character in enumerate(segment):
        more = 3 if character in "%\0" else len(character.encode())
        size += more
        if size > _PIECE_BYTES:
            pieces.append(_quote(segment[begin:index]))
            begin, size = index, more
    return [*pieces, _quote(segment[begin:])]


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
