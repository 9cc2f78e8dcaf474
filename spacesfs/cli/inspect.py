"""``spacesfs list`` and ``spacesfs status``: what is mounted, and how it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import click
import msgspec

from spacesfs.cli.client import all_statuses, ask_status, serving
from spacesfs.cli.output import counted, human_bytes, human_seconds, print_json, say
from spacesfs.cli.paths import complete_path, resolved
from spacesfs.errors import MountError
from spacesfs.fuse.messages import LongWork, MountStatus, PendingChange, Reading, RequestCounts, Throttling
from spacesfs.fuse.mountpoint import stale_mounts

_MOST_CHANGES_SHOWN = 20

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command(name="list")
@_as_json
def list_mounts(*, as_json: bool) -> None:
    """List the mounted Spaces."""
    statuses = all_statuses()
    if as_json:
        _print_json(statuses)
        return
    rows = [(_space(status), status.mountpoint, status.state, _pending(status), str(status.pid)) for status in statuses]
    if rows:
        _print_table(("SPACE", "MOUNTPOINT", "STATE", "PENDING", "PID"), rows)
    for mountpoint in stale_mounts():
        say(f"{mountpoint}: the process is gone; run: spacesfs umount {mountpoint}")


@click.command()
@click.argument("mountpoint", required=False, shell_complete=complete_path)
@_as_json
@click.option("--watch", "is_watching", is_flag=True, help="Show it again each second, with rates, until interrupted.")
def status(mountpoint: str | None, *, as_json: bool, is_watching: bool) -> None:
    """Show how the mount on MOUNTPOINT is, or every mount."""
    if is_watching:
        _watch(mountpoint)
    if mountpoint is not None:
        _, control = serving(resolved(mountpoint))
        found = ask_status(control)
        _print_json(found) if as_json else _print_status(found)
        return
    statuses = all_statuses()
    if as_json:
        _print_json(statuses)
        return
    for number, one in enumerate(statuses):
        if number:
            say("")
        _print_status(one)


def _print_json(value: MountStatus | Sequence[MountStatus]) -> None:
    print_json(msgspec.to_builtins(value))


def _watch(mountpoint: str | None) -> NoReturn:
    """Show one mount for ever: the one named, or the only one.

    A fresh process that has taken over listens on the same path.

    Raises:
        MountError: There is none, or it ended.
    """
    from spacesfs.cli.watch import watch  # noqa: PLC0415 - most who ask for a status do not watch

    if mountpoint is None:
        mountpoints = [status.mountpoint for status in all_statuses()]
        if len(mountpoints) != 1:
            raise MountError(f"{counted(len(mountpoints), 'Space')} mounted; say which to watch")
        mountpoint = mountpoints[0]
    place = resolved(mountpoint)
    watch(lambda: ask_status(serving(place)[1]), status_lines)
    raise AssertionError("it watches for ever")


def _print_status(status: MountStatus) -> None:
    for line in status_lines(status):
        say(line)


def status_lines(status: MountStatus) -> Iterator[str]:
    """Yield what a person wants to know of a mount, a line each."""
    yield f"{_space(status)} on {status.mountpoint}"
    for name, value in _facts(status):
        yield f"  {name:<11} {value}"
    for notice in status.notices:
        yield f"  ! {notice}"
    for work in status.work[:_MOST_CHANGES_SHOWN]:
        yield f"  {describe_work(work)}"
    for change in status.pending[:_MOST_CHANGES_SHOWN]:
        yield f"  {describe_change(change)}"
    if status.pending_changes > _MOST_CHANGES_SHOWN:
        yield f"  and {counted(status.pending_changes - _MOST_CHANGES_SHOWN, 'more change')}"


def _facts(status: MountStatus) -> Iterable[tuple[str, str]]:
    yield "state", f"{status.state}, for {human_seconds(time.time() - status.since)}, process {status.pid}"
    if status.replaces is not None:
        yield "replaced", f"an earlier process, {human_seconds(time.time() - status.since)} ago: {status.replaces}"
    yield "endpoint", status.endpoint
    if status.offline_since is not None:
        yield "offline", f"the Space can't be reached, for {human_seconds(time.time() - status.offline_since)}"
    for name, throttling in sorted(status.throttling.items()):
        yield "throttled", f"{name}: {_throttling(throttling)}"
    yield "durability", status.durability
    if status.read_only:
        yield "read-only", status.read_only_reason or "yes"
    yield "pending", _pending(status)
    yield "memory", f"{human_bytes(status.memory.bytes_used)} of {human_bytes(status.memory.bytes_limit)}"
    yield "staging", f"{human_bytes(status.staging.bytes_used)} of {human_bytes(status.staging.bytes_limit)}"
    if status.reading is not None:
        yield "reading", _reading(status.reading)
        yield (
            "disk cache",
            f"{human_bytes(status.reading.disk.bytes_used)} of {human_bytes(status.reading.disk.bytes_limit)}",
        )
    for name, limit in (("limit down", status.limit_down), ("limit up", status.limit_up)):
        if limit:
            yield name, f"{human_bytes(limit)} a second"
    for name, counts in sorted(status.requests.items()):
        yield name, _requests(counts)


def _reading(reading: Reading) -> str:
    total = reading.hits + reading.misses
    share = f", {100 * reading.hits / total:.0f} % of {counted(total, 'read')} without waiting" if total else ""
    return f"{human_bytes(reading.fetched_bytes)} fetched, {human_bytes(reading.wasted_bytes)} of it in vain{share}"


def _requests(counts: RequestCounts) -> str:
    return (
        f"{counted(counts.sent, 'request')}, {counts.failed} failed, {counts.throttled} throttled, "
        f"{human_bytes(counts.bytes_sent)} sent, {human_bytes(counts.bytes_received)} received"
    )


def _throttling(slowed: Throttling) -> str:
    return (
        f"{slowed.at_once} of {slowed.at_once_limit} requests at once, "
        f"{slowed.a_second:.0f} of {slowed.a_second_limit:.0f} a second, {slowed.waiting} waiting"
    )


def _space(status: MountStatus) -> str:
    return f"{status.bucket}:{status.prefix}" if status.prefix else status.bucket


def _pending(status: MountStatus) -> str:
    if not status.pending_changes:
        return "nothing"
    return f"{counted(status.pending_changes, 'change')}, {human_bytes(status.pending_bytes)}"


def describe_work(work: LongWork) -> str:
    """Write in one line how far an upload or the rename of a directory is, how fast it goes and how long it takes."""
    pace = round(work.a_second or 0)
    if work.new_path is None:
        what, each = f"sending {work.path}: {human_bytes(work.done)} of {human_bytes(work.total)}", human_bytes(pace)
    else:
        what = f"renaming {work.path} to {work.new_path}: {work.done} of {counted(work.total, 'object')}"
        what, each = f"{what}, {human_bytes(work.bytes_left)} left", str(pace)
    left = f", about {human_seconds(work.seconds_left)} left" if work.seconds_left is not None else ""
    return f"{what}, {each} a second{left}" if pace else what


def describe_change(change: PendingChange) -> str:
    """Write a change in one line: what, how much, how old, and why it is not in the Space."""
    failure = f": {counted(change.attempts, 'attempt')} failed: {change.error}" if change.error else ""
    size = f", {human_bytes(change.size_bytes)}" if change.size_bytes else ""
    return f"{change.kind} {change.path}{size}, {human_seconds(change.age_seconds)} old{failure}"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
