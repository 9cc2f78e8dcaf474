"""Which failures a program is told of: not those that pass by themselves."""

from __future__ import annotations

import pytest
import trio

from spacesfs.client.errors import AccessDenied, ServerFault, SpacesError, Throttled, Unreachable
from spacesfs.content.upload import Busy
from spacesfs.pending.intents import Intent, Present
from spacesfs.pending.overlay import Overlay
from spacesfs.pending.scheduler import Scheduler


class Failing:
    """A performer that succeeds at the third attempt."""

    def __init__(self, overlay: Overlay, error: Exception) -> None:
        self.overlay = overlay
        self.error = error
        self.attempts = 0

    async def perform(self, intent: Intent) -> None:
        self.attempts += 1
        if self.attempts < 3:
            raise self.error
        self.overlay.remove(intent.key)

    async def remove(self, intents: list[Intent]) -> None:  # noqa: ARG002 - the protocol's
        raise AssertionError

    async def untie(self, intent: Intent) -> None:  # noqa: ARG002 - the protocol's
        raise AssertionError

    def is_held(self, intent: Intent) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def goes_first(self, intent: Intent) -> str | None:  # noqa: ARG002 - the protocol's
        return None


async def told(overlay: Overlay, scheduler: Scheduler, performer: Failing) -> list[Exception]:
    """Return what a program that asks all the time is told of a file until it is in the Space."""
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run, performer)
        while "f" in overlay:
            await trio.sleep(0.01)
            if (error := scheduler.failure("f")) is not None:
                found.append(error)
        nursery.cancel_scope.cancel()
    return found


def changed(error: Exception) -> tuple[Overlay, Scheduler, Failing]:
    overlay = Overlay()
    overlay.put(Intent("f", 1, Present(5, content=1), None, 0.0))
    scheduler = Scheduler(overlay, 1.0)
    scheduler.changed("f")
    return overlay, scheduler, Failing(overlay, error)


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("error", [Unreachable("gone"), Throttled("slow"), ServerFault("broken")])
async def test_what_passes_is_told_to_nobody_but_in_status(error: SpacesError) -> None:
    overlay, scheduler, performer = changed(error)
    seen = set()
    performer_of = performer.perform

    async def watched(intent: Intent) -> None:
        seen.add(scheduler.attempts("f"))
        await performer_of(intent)

    performer.perform = watched  # type: ignore[method-assign]
    assert await told(overlay, scheduler, performer) == []
    assert seen == {(0, ""), (1, str(error)), (2, str(error))}


@pytest.mark.usefixtures("autojump_clock")
async def test_what_does_not_pass_is_told_once_for_each_attempt() -> None:
    error = AccessDenied("no")
    assert await told(*changed(error)) == [error, error]


@pytest.mark.usefixtures("autojump_clock")
async def test_a_file_that_is_written_without_a_pause_is_sent_later(caplog: pytest.LogCaptureFixture) -> None:
    overlay, scheduler, performer = changed(Busy())
    assert await told(overlay, scheduler, performer) == []
    assert performer.attempts == 3
    assert not caplog.records
