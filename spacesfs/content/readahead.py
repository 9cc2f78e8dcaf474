"""What to fetch before it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from spacesfs.content.extents import Extent


@dataclass(frozen=True, slots=True)
class ReadAheadOptions:
    """Sizes in bytes. A read that begins within ``slack_bytes`` of the end of the last one goes on with it."""

    first_window_bytes: int = 2 << 20
    max_window_bytes: int = 24 << 20
    slack_bytes: int = 1 << 20  # the kernel's own read-ahead overtakes by 128 KiB to a few hundred KiB


class ReadAhead:
    """Watches the reads of one handle. The window doubles with every read that goes on, and closes on a jump."""

    def __init__(self, options: ReadAheadOptions) -> None:
        self._options = options
        self._position = 0
        self._planned = 0
        self._window_bytes = 0

    def observe(self, read: Extent) -> Extent | None:
        """Note a read; return the bytes to fetch in advance, if any. They may lie past the end of the file."""
        slack = self._options.slack_bytes
        goes_on = self._position - slack <= read.start <= self._position + slack
        self._position = max(read.end, self._position) if goes_on else read.end
        if not goes_on:
            self._window_bytes = 0
            self._planned = read.end
            return None
        self._window_bytes = min(
            max(self._window_bytes * 2, self._options.first_window_bytes), self._options.max_window_bytes
        )
        start = max(self._planned, self._position)
        end = self._position + self._window_bytes
        if end - start < self._window_bytes // 2:
            return None
        self._planned = end
        return Extent(start, end)
