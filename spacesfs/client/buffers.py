"""The memory that transfers may use: buffers for parts and pieces, made when first needed and used again."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

STRIPE_BYTES = 4 << 20  # of the engine behind Spaces; reads and parts that match it cost least
PIECE_BYTES = 2 * STRIPE_BYTES  # over the 5 MiB that a part must have
SMALL_BYTES = 256 << 10  # not worth a whole piece, so that many small files can go at once
DEFAULT_BYTES = 64 << 20


class Buffers:
    """Lends buffers, at most ``total_bytes`` of them at once; a single larger one is lent when no other is out.

    Whoever asks first is served first. Any number of tasks and transfers may share one of these.
    """

    def __init__(self, total_bytes: int = DEFAULT_BYTES) -> None:
        self.total_bytes = total_bytes
        self._lent_bytes = 0
        self._spare: list[memoryview] = []
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    async def lend(self, size: int = PIECE_BYTES) -> Loan:
        """Lend a buffer of ``size`` bytes until the loan is ended, which must happen; what is in it is undefined."""
        charge = size if size <= SMALL_BYTES else max(size, PIECE_BYTES)
        await self._admit(charge)
        whole = self._spare.pop() if charge == PIECE_BYTES and self._spare else _allocate(charge)
        return Loan(self, whole, whole[:size])

    @asynccontextmanager
    async def borrow(self, size: int = PIECE_BYTES) -> AsyncIterator[memoryview]:
        """Lend a buffer for the time of the block."""
        loan = await self.lend(size)
        try:
            yield loan.view
        finally:
            loan.end()

    def take_back(self, whole: memoryview) -> None:
        """End a loan; `Loan.end` calls this."""
        charge = len(whole)
        if charge == PIECE_BYTES:
            self._spare.append(whole)
        self._lent_bytes -= charge
        self._wake()

    async def _admit(self, charge: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._waiting and self._fits(charge):
            self._lent_bytes += charge
            return
        place = (charge, trio.Event())
        self._waiting.append(place)
        try:
            await place[1].wait()
        except trio.Cancelled:
            if place[1].is_set():
                self._lent_bytes -= charge
            else:
                self._waiting.remove(place)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            charge, granted = self._waiting.popleft()
            self._lent_bytes += charge
            granted.set()

    def _fits(self, charge: int) -> bool:
        return self._lent_bytes == 0 or self._lent_bytes + charge <= self.total_bytes


class Loan:
    """A buffer that was lent.

    Attributes:
        view: The buffer; not to be used once the loan has ended.
    """

    __slots__ = ("_buffers", "_whole", "view")

    def __init__(self, buffers: Buffers, whole: memoryview, view: memoryview) -> None:
        self._buffers: Buffers | None = buffers
        self._whole = whole
        self.view = view

    def end(self) -> None:
        """Give the buffer back; once."""
        if self._buffers is not None:
            self._buffers.take_back(self._whole)
            self._buffers = None


def _allocate(size: int) -> memoryview:
    """Return memory; a piece takes no room before it is written to, since not every file fills it."""
    return memoryview(bytearray(size) if size <= SMALL_BYTES else mmap.mmap(-1, size))
