"""How a sync is shown: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from spacesfs.cli.output import counted, human_bytes, say
from spacesfs.fuse.messages import SyncProgress
from spacesfs.logs import one_line

_SECONDS_BETWEEN_LINES = 5.0


Show = Callable[[SyncProgress], None]


def show_sync(steps: Iterable[SyncProgress], title: str) -> None:
    """Show the steps of a sync until it ends; says nothing when there was nothing to do.

    Raises:
        MountError: Whatever ``steps`` raises.
    """
    with progress_shown(title) as show:
        for step in steps:
            show(step)


def progress_shown(title: str) -> AbstractContextManager[Show]:
    """Give what shows the steps of a sync for the time of the block."""
    return _bar(title) if sys.stdout.isatty() else _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Show]:
    from rich.markup import escape  # noqa: PLC0415 - a terminal's business only
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        name = escape(one_line(title))
        task = progress.add_task(name, total=None)

        def show(step: SyncProgress) -> None:
            what = f"{name}: {counted(step.changes_left, 'change')} left"
            total = max(step.bytes_total, step.bytes_left)
            progress.update(task, description=what, total=total, completed=total - step.bytes_left)

        yield show


@contextmanager
def _lines(title: str) -> Iterator[Show]:
    next_line_at = 0.0

    def show(step: SyncProgress) -> None:
        nonlocal next_line_at
        if step.changes_left and time.monotonic() >= next_line_at:
            say(f"{title}: {counted(step.changes_left, 'change')}, {human_bytes(step.bytes_left)} left")
            next_line_at = time.monotonic() + _SECONDS_BETWEEN_LINES

    yield show
