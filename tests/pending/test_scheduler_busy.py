"""A file that is written without a pause is sent later; that is nobody's failure."""

from __future__ import annotations

import pytest
import trio

from spacesfs.content.upload import Busy
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Scheduler


class Uploading:
    """A performer whose file rests at the third attempt."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.attempts = 0

    async def perform(self, intent: Intent) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise Busy
        self.overlay.remove(intent.key)

    async def remove(self, intents: list[Intent]) -> None:  # noqa: ARG002 - the protocol's
        raise AssertionError

    async def untie(self, intent: Intent) -> None:  # noqa: ARG002 - the protocol's
        raise AssertionError

    def is_held(self, intent: Intent) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def goes_first(self, intent: Intent) -> str | None:  # noqa: ARG002 - the protocol's
        return None


async def test_busy_is_tried_again_and_told_to_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    overlay = Overlay()
    overlay.put(Intent("f", 1, Present(5, content=1), None, 0.0))
    scheduler, performer = Scheduler(overlay, 1.0), Uploading(overlay)
    scheduler.changed("f")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run, performer)
        async for _ in scheduler.settle(lambda key: key == "f"):
            assert scheduler.failure("f") is None
        nursery.cancel_scope.cancel()
    assert performer.attempts == 3
    assert not caplog.records
