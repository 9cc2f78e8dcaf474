"""What the control socket of a mount speaks: one JSON object per line, told apart by its ``type``.

A client sends one request. ``Status`` is answered by ``MountStatus``; ``Sync`` by any number of ``SyncProgress`` and
then ``SyncDone``; ``Retry`` and ``Drop`` by ``Counted``, ``Refresh`` by ``Refreshed``, ``DropCache`` and ``Change`` by
``Done``; any by ``Failed``. Then the connection ends.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_REQUEST_BYTES = 32 * 1024  # the longest path (PATH_MAX, 4 KiB) with every byte escaped as \\u00XX, and some
MAX_REPLY_BYTES = 64 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """One line on the socket."""


class Status(Message, frozen=True, tag="status"):
    """How is the mount?"""


class Sync(Message, frozen=True, tag="sync"):
    """Bring what is acknowledged to the Space; all of it, or what lies at ``path``, relative to the mount's root."""

    path: str | None = None


class Retry(Message, frozen=True, tag="retry"):
    """Try again at once what waits at and below paths, relative to the mount's root; "" is all."""

    paths: list[str]


class Drop(Message, frozen=True, tag="drop"):
    """Forget for good what waits at and below paths, relative to the mount's root; "" is all."""

    paths: list[str]


class Refresh(Message, frozen=True, tag="refresh"):
    """Forget what is known of what lies at and below ``path``, relative to the mount's root; "" is all."""

    path: str


class DropCache(Message, frozen=True, tag="drop-cache"):
    """Forget what was kept of files, in memory and on the disk."""


class Change(Message, frozen=True, tag="change"):
    """Change options of the running mount; None leaves one as it is.

    Attributes:
        memory, cache_size: Bytes.
        log_level: As ``--log-level``.
        limit_down, limit_up: Bytes a second; 0 for no limit.
    """

    memory: int | None = None
    cache_size: int | None = None

    log_level: Literal["debug", "info", "warning", "error"] | None = None
    limit_down: int | None = None
    limit_up: int | None = None


class PendingChange(msgspec.Struct, frozen=True):
    """A change that is acknowledged and not yet in the Space.

    Attributes:
        kind: What is done to the path: ``write``, ``rename``, ``unlink`` …
        attempts: How often it was tried and failed.
        error: Why the last attempt failed, or None.
    """

    path: str
    kind: str
    size_bytes: int
    age_seconds: float
    attempts: int = 0
    error: str | None = None


class LongWork(msgspec.Struct, frozen=True):
    """A file that goes up in parts, or a directory that gets another name.

    Attributes:
        new_path: The directory's new name; None for an upload.
        done, total: Bytes of an upload, objects of a directory; ``bytes_left`` counts bytes for both.
        a_second: How many of those are done in a second since it began, or None while nobody knows.
        seconds_left: How long it takes at this rate, or None.
    """

    path: str
    new_path: str | None
    done: int
    total: int
    bytes_left: int
    a_second: float | None = None
    seconds_left: float | None = None


class Usage(msgspec.Struct, frozen=True):
    """How much of a capped resource is in use."""

    bytes_used: int
    bytes_limit: int


class RequestCounts(msgspec.Struct, frozen=True):
    """Requests to the Space of one class since the mount began; failed and throttled ones are among the sent."""

    sent: int = 0
    failed: int = 0
    throttled: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class Throttling(msgspec.Struct, frozen=True):
    """How far the Space makes one class of requests slow down.

    Attributes:
        at_once: How many may be on the wire at once; ``at_once_limit`` when the Space does not throttle.
        a_second: How many may be sent in a second; ``a_second_limit`` when the Space does not throttle.
        waiting: How many wait for their turn.
    """

    at_once: int
    at_once_limit: int
    a_second: float
    a_second_limit: float
    waiting: int


class Reading(msgspec.Struct, frozen=True):
    """What reading has taken since the mount began, and how it goes.

    Attributes:
        hits: Reads of the kernel whose bytes were all in memory; ``misses`` waited for some.
        requests: For contents; ``ahead_requests`` of them before anybody asked, ``cancelled_requests`` given up again.
        fetched_bytes: What they brought.
        ahead_bytes: Brought before anybody asked; ``wasted_bytes`` of them were dropped unread.
        disk: The page cache on disk; ``disk_read_bytes`` came from there, ``disk_written_bytes`` went there.
        disk_skipped_pages: Were not written, since the disk was busy, the cache full, or a file too large for it.
        disk_bad_pages: Failed their checksums.
        waits: How many misses waited at most how long; keys are seconds, the last one "inf".
        fetches: The same of the requests.
        wait_seconds, fetch_seconds: All of these together.
        readers: Handles that were read from; ``window_bytes`` is the furthest that one of them fetches ahead.
        request_bytes: How long requests are at present when reading in order; ``random_bytes`` at the least when not.
        round_trip_seconds: How soon the Space answers, at best.
        bytes_per_second: How fast a body comes then, on each of the connections at work.
    """

    hits: int
    misses: int
    requests: int
    ahead_requests: int
    cancelled_requests: int
    fetched_bytes: int
    ahead_bytes: int
    wasted_bytes: int
    disk: Usage
    disk_pages: int
    disk_read_bytes: int
    disk_written_bytes: int
    disk_skipped_pages: int
    disk_bad_pages: int
    waits: dict[str, int]
    fetches: dict[str, int]
    readers: int
    window_bytes: int
    request_bytes: int
    random_bytes: int
    round_trip_seconds: float
    bytes_per_second: float
    wait_seconds: float = 0.0
    fetch_seconds: float = 0.0


class MountStatus(Message, frozen=True, tag="mount"):
    """All about one mount.

    Attributes:
        since: When it began, in seconds since the epoch.
        read_only_reason: Why it is read-only, or None.
        pending: What is not in the Space, of very much only some: what failed first. ``pending_changes`` and
            ``pending_bytes`` count all, ``pending_failed`` those whose last attempt failed, and the oldest of all waits
            since ``pending_oldest_seconds``.
        requests: Counts by class of operation: ``read``, ``write``, ``list``.
        notices: What the user should know, one line each.
        offline_since: When the Space was found to be unreachable, in seconds since the epoch; None while it answers.
        throttling: The classes of operation that the Space makes slow down.
        journal: The folder that the journal is in.
        reading: How reading goes.
        limit_down, limit_up: Bytes a second that may come from and go to the Space; 0 for no limit.
        supervisor: The process that replaces this one when it dies or hangs, or None.
        work: Uploads and directory renames under way, with their progress.
        replaces: Why this process took the place of an earlier one, or None if it did not.
    """

    bucket: str
    prefix: str
    mountpoint: str
    endpoint: str
    pid: int
    version: str
    state: Literal["serving", "draining"]
    since: float
    durability: str
    read_only: bool
    read_only_reason: str | None
    pending: list[PendingChange]
    pending_bytes: int
    memory: Usage
    staging: Usage
    requests: dict[str, RequestCounts]
    notices: list[str]
    offline_since: float | None = None
    throttling: dict[str, Throttling] = {}
    journal: str = ""
    reading: Reading | None = None
    limit_down: int = 0
    limit_up: int = 0
    log_level: str = ""
    supervisor: int | None = None
    replaces: str | None = None
    work: list[LongWork] = []
    pending_changes: int = 0
    pending_failed: int = 0
    pending_oldest_seconds: float = 0.0


class SyncProgress(Message, frozen=True, tag="progress"):
    """How much is left of a sync."""

    changes_left: int
    bytes_left: int
    bytes_total: int


class SyncDone(Message, frozen=True, tag="done"):
    """All of it is in the Space."""


class Refreshed(Message, frozen=True, tag="refreshed"):
    """What is looked at now is asked for. ``is_complete``: the kernel has taken it all in."""

    is_complete: bool


class Counted(Message, frozen=True, tag="counted"):
    """How many changes it was done to."""

    changes: int


class Done(Message, frozen=True, tag="changed"):
    """It is done."""


class Failed(Message, frozen=True, tag="failed"):
    """The request can't be done. ``errno_name`` is like ``EACCES``, or empty where no errno fits."""

    message: str
    errno_name: str = ""


Request = Status | Sync | Retry | Drop | Refresh | DropCache | Change
Reply = MountStatus | SyncProgress | SyncDone | Counted | Refreshed | Done | Failed

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def decode_request(line: bytes | bytearray) -> Request:
    """Return the request in one line.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _requests.decode(line)


def decode_reply(line: bytes) -> Reply:
    """Return the reply in one line.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _replies.decode(line)


def encode_line(message: Request | Reply) -> bytes:
    """Return a message as it goes over the socket. JSON escapes line breaks, so the line has only its own."""
    return msgspec.json.encode(message) + b"\n"
