"""What Prometheus may know of a mount, and the small HTTP server that it asks.

Every metric is made of the status that the control socket shows too. Names of files are in none: a label with a value
for each file would have no end, and whoever may ask need not know them. docs/metrics.md is made of the table here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from spacesfs.errors import MountError
from spacesfs.fuse.messages import MountStatus, Reading

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
REQUEST_SECONDS = 5.0
MAX_REQUEST_BYTES = 16 * 1024

Sample = tuple[tuple[str, ...], float]
Read = Callable[[MountStatus], Iterable[Sample]]
Ask = Callable[[], Awaitable[MountStatus]]


@dataclass(frozen=True, slots=True)
class Exported:
    """One metric. ``read`` gives its values, each with those of its labels; counters end in ``_total``."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    read: Read
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportedHistogram:
    """One histogram; ``read`` gives counts by upper bound, as text, and the sum."""

    name: str
    help: str
    read: Callable[[Reading], tuple[dict[str, int], float]]


def _one(value: Callable[[MountStatus], float]) -> Read:
    return lambda status: [((), float(value(status)))]


def _reading(value: Callable[[Reading], float]) -> Read:
    return lambda status: [((), float(value(status.reading)))] if status.reading is not None else []


def _by_operation(field: str) -> Read:
    return lambda status: [((name,), float(getattr(counts, field))) for name, counts in sorted(status.requests.items())]


METRICS: tuple[Exported, ...] = (
    Exported(
        "spacesfs_mount_info",
        "gauge",
        "Always 1; the labels say what is mounted.",
        lambda status: [((status.bucket, status.prefix, status.mountpoint, status.version), 1.0)],
        ("bucket", "prefix", "mountpoint", "version"),
    ),
    Exported("spacesfs_start_time_seconds", "gauge", "When the process began to serve.", _one(lambda s: s.since)),
    Exported(
        "spacesfs_replaced_process",
        "gauge",
        "1 if the process took the place of one that died.",
        _one(lambda s: s.replaces is not None),
    ),
    Exported("spacesfs_draining", "gauge", "1 while the mount is ending.", _one(lambda s: s.state == "draining")),
    Exported("spacesfs_read_only", "gauge", "1 if nothing can be changed.", _one(lambda s: s.read_only)),
    Exported(
        "spacesfs_offline_seconds",
        "gauge",
        "For how long the Space can't be reached; 0 while it answers.",
        _one(lambda s: max(time.time() - s.offline_since, 0.0) if s.offline_since is not None else 0.0),
    ),
    Exported(
        "spacesfs_pending_changes", "gauge", "Changes that are not in the Space.", _one(lambda s: s.pending_changes)
    ),
    Exported("spacesfs_pending_bytes", "gauge", "Bytes that are not in the Space.", _one(lambda s: s.pending_bytes)),
    Exported(
        "spacesfs_pending_failed_changes",
        "gauge",
        "Changes whose last attempt failed.",
        _one(lambda s: s.pending_failed),
    ),
    Exported(
        "spacesfs_pending_oldest_seconds",
        "gauge",
        "Age of the oldest change that waits.",
        _one(lambda s: s.pending_oldest_seconds),
    ),
    Exported("spacesfs_memory_bytes", "gauge", "Memory used for contents.", _one(lambda s: s.memory.bytes_used)),
    Exported("spacesfs_memory_limit_bytes", "gauge", "Most memory for contents.", _one(lambda s: s.memory.bytes_limit)),
    Exported("spacesfs_staging_bytes", "gauge", "Disk used for what waits.", _one(lambda s: s.staging.bytes_used)),
    Exported("spacesfs_staging_limit_bytes", "gauge", "Most disk for it.", _one(lambda s: s.staging.bytes_limit)),
    Exported("spacesfs_requests_total", "counter", "Requests to the Space.", _by_operation("sent"), ("operation",)),
    Exported(
        "spacesfs_request_failures_total", "counter", "Those that failed.", _by_operation("failed"), ("operation",)
    ),
    Exported(
        "spacesfs_requests_throttled_total",
        "counter",
        "Those that the Space refused as too many.",
        _by_operation("throttled"),
        ("operation",),
    ),
    Exported(
        "spacesfs_sent_bytes_total", "counter", "Bytes of bodies sent.", _by_operation("bytes_sent"), ("operation",)
    ),
    Exported(
        "spacesfs_received_bytes_total",
        "counter",
        "Bytes of bodies received.",
        _by_operation("bytes_received"),
        ("operation",),
    ),
    Exported(
        "spacesfs_requests_waiting",
        "gauge",
        "Requests that wait for their turn, where the Space makes us slow down.",
        lambda status: [((name,), float(lane.waiting)) for name, lane in sorted(status.throttling.items())],
        ("operation",),
    ),
    Exported("spacesfs_read_hits_total", "counter", "Reads that waited for nothing.", _reading(lambda r: r.hits)),
    Exported("spacesfs_read_misses_total", "counter", "Reads that waited.", _reading(lambda r: r.misses)),
    Exported("spacesfs_fetches_total", "counter", "Requests for contents.", _reading(lambda r: r.requests)),
    Exported("spacesfs_fetched_bytes_total", "counter", "Bytes they brought.", _reading(lambda r: r.fetched_bytes)),
    Exported(
        "spacesfs_read_ahead_bytes_total",
        "counter",
        "Bytes fetched before anybody asked.",
        _reading(lambda r: r.ahead_bytes),
    ),
    Exported(
        "spacesfs_read_ahead_wasted_bytes_total",
        "counter",
        "Those that were dropped unread.",
        _reading(lambda r: r.wasted_bytes),
    ),
    Exported("spacesfs_disk_cache_bytes", "gauge", "Disk used for pages.", _reading(lambda r: r.disk.bytes_used)),
    Exported("spacesfs_disk_cache_limit_bytes", "gauge", "Most disk for it.", _reading(lambda r: r.disk.bytes_limit)),
    Exported(
        "spacesfs_disk_cache_read_bytes_total", "counter", "Bytes read from it.", _reading(lambda r: r.disk_read_bytes)
    ),
    Exported(
        "spacesfs_disk_cache_bad_pages_total",
        "counter",
        "Pages in it that failed their checksum.",
        _reading(lambda r: r.disk_bad_pages),
    ),
)

HISTOGRAMS: tuple[ExportedHistogram, ...] = (
    ExportedHistogram(
        "spacesfs_read_wait_seconds", "How long reads that waited did so.", lambda r: (r.waits, r.wait_seconds)
    ),
    ExportedHistogram(
        "spacesfs_fetch_seconds", "How long requests for contents took.", lambda r: (r.fetches, r.fetch_seconds)
    ),
)


def reference_table() -> str:
    """Return all metrics as a Markdown table."""
    rows = [
        *((one.name, str(one.kind), ", ".join(one.labels), one.help) for one in METRICS),
        *((one.name, "histogram", "", one.help) for one in HISTOGRAMS),
    ]
    lines = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in rows]
    return "\n".join(lines) + "\n"


def exposition(status: MountStatus) -> bytes:
    """Return a status in the text format that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(_families(status))))
    return generate_latest(registry)


@dataclass(frozen=True, slots=True, eq=False)
class _Collected:
    """What the registry asks for metrics."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def _families(status: MountStatus) -> Iterator[Metric]:
    for one in METRICS:
        kind = CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily
        family = kind(one.name, one.help, labels=one.labels)
        for labels, value in one.read(status):
            family.add_metric(labels, value)
        yield family
    if status.reading is not None:
        for histogram in HISTOGRAMS:
            counts, total = histogram.read(status.reading)
            buckets = _cumulative(counts)
            yield HistogramMetricFamily(histogram.name, histogram.help, buckets=buckets, sum_value=total)


def _cumulative(counts: dict[str, int]) -> list[tuple[str, float]]:
    """Return how many took at most how long, as Prometheus counts."""
    found, below = [], 0
    for bound, count in counts.items():
        below += count
        found.append(("+Inf" if bound == "inf" else bound, float(below)))
    return found


async def serve_metrics(
    host: str,
    port: int,
    ask: Ask,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer ``GET /metrics`` until cancelled; tells the port when it listens.

    Raises:
        MountError: The address can't be listened on.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise MountError(f"--metrics-listen: {host}:{port} can't be listened on: {error.strerror or error}") from error
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(partial(_answer, ask, trio.CapacityLimiter(MAX_CLIENTS)), listeners)


async def _answer(ask: Ask, slots: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    """Answer one request and hang up; whoever is slow, or one too many, is hung up on."""
    async with stream:
        with suppress(trio.BrokenResourceError, trio.TooSlowError, trio.WouldBlock):
            slots.acquire_nowait()
            try:
                with trio.fail_after(REQUEST_SECONDS):
                    await stream.send_all(await _reply(await _request_line(stream), ask))
            finally:
                slots.release()


async def _request_line(stream: trio.SocketStream) -> bytes:
    """Return the first line of a request once its head is complete; what is no head ends as an empty line."""
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) <= MAX_REQUEST_BYTES:
        received = await stream.receive_some(4096)
        if not received:
            return b""
        head += received
    return bytes(head.partition(b"\r\n")[0])


async def _reply(line: bytes, ask: Ask) -> bytes:
    method, _, rest = line.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _message("405 Method Not Allowed", "text/plain", b"only GET\n")
    if target != b"/metrics":
        return _message("404 Not Found", "text/plain", b"see /metrics\n")
    return _message("200 OK", CONTENT_TYPE_LATEST, exposition(await ask()), with_body=method == b"GET")


def _message(status: str, kind: str, body: bytes, *, with_body: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if with_body else b"")
