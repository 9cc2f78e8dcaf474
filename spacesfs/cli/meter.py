"""How far a transfer is: a bar on a terminal, nothing elsewhere; and what there is to say at its end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from spacesfs.cli.output import complain, counted
from spacesfs.logs import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(slots=True)
class Tally:
    """What a transfer has done so far."""

    files: int = 0
    bytes: int = 0
    failed: int = 0


class Meter:
    """Counts, and shows the count on standard error while its block lasts, if that is a terminal."""

    def __init__(self) -> None:
        self.done = Tally()
        self._planned = Tally()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def plan(self, size: int) -> None:
        """One more file is to be moved."""
        self._planned.files += 1
        self._planned.bytes += size
        self._refresh()

    def move(self, count: int) -> None:
        """Bytes were moved."""
        self.done.bytes += count
        self._refresh()

    def finish(self) -> None:
        """A file is where it belongs."""
        self.done.files += 1
        self._refresh()

    def fail(self, what: str) -> None:
        """A file could not be moved; the others go on."""
        self.done.failed += 1
        self.note(what)

    def note(self, what: str) -> None:
        """Say something without disturbing the bar."""
        if self._bar is None:
            complain(what)
            return
        self._bar.stop()
        complain(what)
        self._bar.start()

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - a terminal's business only
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(text, *columns, transient=True, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def _refresh(self) -> None:
        if self._bar is not None and self._task is not None:
            done, planned = self.done, self._planned
            text = one_line(f"{done.files} of {counted(planned.files, 'file')}")
            self._bar.update(self._task, description=text, completed=done.bytes, total=max(planned.bytes, 1))
