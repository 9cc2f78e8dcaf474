"""What the parts of a mount count, joined for those who look at it."""

from __future__ import annotations

from spacesfs.cache.disk import DiskStatistics
from spacesfs.content.reading import ReadSide
from spacesfs.fuse.messages import Reading, Usage


def reading_of(side: ReadSide) -> Reading:
    """Return what reading has taken, from its three owners."""
    reader, pages = side.reader.statistics(), side.pages.statistics()
    disk = side.disk.statistics() if side.disk is not None else DiskStatistics()
    totals = reader.totals
    return Reading(
        hits=totals.hits,
        misses=totals.misses,
        requests=totals.requests,
        ahead_requests=totals.ahead_requests,
        cancelled_requests=totals.cancelled_requests,
        fetched_bytes=totals.fetched_bytes,
        ahead_bytes=pages.ahead_bytes,
        wasted_bytes=pages.wasted_bytes,
        disk=Usage(disk.used_bytes, disk.limit_bytes),
        disk_pages=disk.pages,
        disk_read_bytes=disk.read_bytes,
        disk_written_bytes=disk.written_bytes,
        disk_skipped_pages=disk.skipped_pages,
        disk_bad_pages=disk.bad_pages,
        waits=reader.waits.by_bound(),
        fetches=reader.fetches.by_bound(),
        readers=reader.readers,
        window_bytes=reader.window_bytes,
        request_bytes=reader.request_bytes,
        random_bytes=reader.random_bytes,
        round_trip_seconds=reader.round_trip_seconds,
        bytes_per_second=reader.bytes_per_second,
        wait_seconds=reader.waits.seconds,
        fetch_seconds=reader.fetches.seconds,
    )
