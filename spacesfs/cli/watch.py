"""``spacesfs status --watch``: the status again each second, with the rates of the last minute."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spacesfs.cli.output import human_bytes, say
from spacesfs.fuse.messages import MountStatus
from spacesfs.logs import one_line

if TYPE_CHECKING:
    from rich.text import Text

_SECONDS = 1.0
_SHOWN = 60  # of the last rates
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Rates:
    """How fast bytes and requests went between one status and the next."""

    down: deque[float] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    up: deque[float] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    requests: deque[float] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    _before: tuple[float, int, int, int, int] | None = None

    def add(self, status: MountStatus, now: float) -> None:
        """Take in a status of the time ``now``, in seconds. Another process begins to count anew."""
        counts = status.requests.values()
        down = sum(count.bytes_received for count in counts)
        up, sent = sum(count.bytes_sent for count in counts), sum(count.sent for count in counts)
        before, self._before = self._before, (now, status.pid, down, up, sent)
        if before is None or before[1] != status.pid or now <= before[0]:
            return
        for rates, count, earlier in zip(
            (self.down, self.up, self.requests), (down, up, sent), before[2:], strict=True
        ):
            rates.append((count - earlier) / (now - before[0]))

    def lines(self) -> Iterator[str]:
        """Yield one line for each, with a sparkline."""
        for name, rates in (("down", self.down), ("up", self.up), ("requests", self.requests)):
            rate = rates[-1] if rates else 0.0
            written = f"{rate:.0f}/s" if rates is self.requests else f"{human_bytes(int(rate))}/s"
            yield f"  {name:<11} {written:<13} {sparkline(rates)}"


def sparkline(values: deque[float]) -> str:
    """Draw values as bars; the highest fills its line."""
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(round(value / most * (len(_BARS) - 1)), len(_BARS) - 1)] for value in values)


def watch(ask: Callable[[], MountStatus], lines: Callable[[MountStatus], Iterator[str]]) -> None:
    """Show the status until interrupted: in place on a terminal, else one line of rates a second.

    Raises:
        MountError: Whatever ``ask`` raises.
    """
    rates = Rates()
    if not sys.stdout.isatty():
        while True:
            rates.add(ask(), time.monotonic())
            say(" ".join(" ".join(line.split()[:3]) for line in rates.lines()))
            sys.stdout.flush()
            time.sleep(_SECONDS)
    from rich.live import Live  # noqa: PLC0415 - a terminal's business only

    with Live(auto_refresh=False, screen=True) as live:
        while True:
            status = ask()
            rates.add(status, time.monotonic())
            live.update(_text([*lines(status), *rates.lines()]), refresh=True)
            time.sleep(_SECONDS)


def _text(lines: list[str]) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as above

    return Text("\n".join(map(one_line, lines)))  # no markup, and nothing that steers the terminal
