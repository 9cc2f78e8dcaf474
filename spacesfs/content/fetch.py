"""A page on its way, and those who wait for its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from spacesfs.client.models import ObjectInfo, ObjectVersion


@dataclass(slots=True, eq=False)
class Fetch:
    """A page on its way.

    Attributes:
        view: Its bytes, once there is memory for them; of these ``filled`` are here, and never change again.
        reader: Who may want it later, if nobody asked for it; None if somebody did.
        served_bytes: How many of its bytes were read already.
        error: Why the rest will not come.
        info: The object's description, which came with the bytes; None if they came from elsewhere.
        is_over: Nothing more happens to it.
    """

    version: ObjectVersion
    start: int
    end: int
    is_local: bool
    reader: object | None
    view: memoryview = field(default_factory=lambda: memoryview(b""))
    filled: int = 0
    served_bytes: int = 0
    error: Exception | None = None
    info: ObjectInfo | None = None
    is_over: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    waiting: list[tuple[int, trio.Event]] = field(default_factory=list)

    def has(self, end: int) -> bool:
        """Say whether all bytes before ``end`` are here."""
        return end <= self.start + self.filled

    def progress(self, filled: int) -> None:
        """So many bytes are here; a request that is sent again counts from 0 but brings the same."""
        if filled > self.filled:
            self.filled = filled
            if self.waiting:
                self._wake()

    def finish(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self._wake()

    async def wait(self, end: int) -> None:
        """Wait until all bytes before ``end`` are here, or nothing more comes."""
        if not self.is_over and not self.has(end):
            arrived = trio.Event()
            self.waiting.append((end, arrived))
            await arrived.wait()

    def _wake(self) -> None:
        still = []
        for end, arrived in self.waiting:
            if self.is_over or self.has(end):
                arrived.set()
            else:
                still.append((end, arrived))
        self.waiting = still
