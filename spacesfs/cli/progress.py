"""How a sync is shown: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from spacesfs.cli.output import counted, human_bytes, say
from spacesfs.fuse.messages import SyncProgress
from spacesfs.logs import one_line

_SECONDS_BETWEEN_LINES = 5.0


def show_sync(steps: Iterable[SyncProgress], title: str) -> None:
    """Show the steps of a sync until it ends; says nothing when there was nothing to do.

    Raises:
        MountError: Whatever ``steps`` raises.
    """
    if sys.stdout.isatty():
        _show_bar(steps, title)
    else:
        _show_lines(steps, title)


def _show_bar(steps: Iterable[SyncProgress], title: str) -> None:
    from rich.markup import escape  # noqa: PLC0415 - a terminal's business only
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        name = escape(one_line(title))
        task = progress.add_task(name, total=None)
        for step in steps:
            what = f"{name}: {counted(step.changes_left, 'change')} left"
            total = max(step.bytes_total, step.bytes_left)
            progress.update(task, description=what, total=total, completed=total - step.bytes_left)


def _show_lines(steps: Iterable[SyncProgress], title: str) -> None:
    next_line_at = 0.0
    for step in steps:
        if step.changes_left and time.monotonic() >= next_line_at:
            say(f"{title}: {counted(step.changes_left, 'change')}, {human_bytes(step.bytes_left)} left")
            next_line_at = time.monotonic() + _SECONDS_BETWEEN_LINES
