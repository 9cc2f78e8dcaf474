"""What is not in the Space, counted while everything else goes on."""

from __future__ import annotations

import trio

from spacesfs.fuse.observing import MOST_SHOWN, Waiting, waiting_in
from spacesfs.pending.intents import Absent, Intent, Present
from spacesfs.pending.overlay import Overlay
from spacesfs.tasks import STEPS_A_TURN

MANY = 100_000


def overlay_of(count: int) -> Overlay:
    overlay = Overlay()
    for number in range(count):
        overlay.put(Intent(f"p/{number:06}", number, Present(2, content=number), None, 1000.0 + number))
    return overlay


def none_failed(_: str) -> tuple[int, str]:
    return 0, ""


async def test_others_have_their_turns_while_very_much_is_counted() -> None:
    overlay, turns = overlay_of(MANY), 0
    found: list[Waiting] = []

    async def count() -> None:
        nonlocal turns
        while not found:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        found.append(await waiting_in(overlay, none_failed, [], "p/"))
    assert turns > MANY // STEPS_A_TURN // 2
    assert (found[0].changes, found[0].bytes, found[0].failed) == (MANY, 2 * MANY, 0)


async def test_of_very_much_only_some_is_named_and_what_failed_comes_first() -> None:
    overlay, last = overlay_of(2 * MOST_SHOWN), f"{2 * MOST_SHOWN - 1:06}"
    waiting = await waiting_in(overlay, lambda key: (3, "no answer") if key == f"p/{last}" else (0, ""), [], "p/")
    assert (waiting.changes, waiting.failed, len(waiting.shown)) == (2 * MOST_SHOWN, 1, MOST_SHOWN)
    first, second = waiting.shown[:2]
    assert (first.path, first.kind, first.attempts, first.error) == (
        f"{2 * MOST_SHOWN - 1:06}",
        "write",
        3,
        "no answer",
    )
    assert (second.path, second.attempts, second.error) == ("000000", 0, None)
    assert waiting.oldest_since == 1000


async def test_what_changes_meanwhile_is_no_failure() -> None:
    overlay = overlay_of(10 * STEPS_A_TURN)

    async def change() -> None:
        for number in range(10 * STEPS_A_TURN):
            overlay.remove(f"p/{number:06}")
            overlay.put(Intent(f"q/{number}", 1, Absent(), None, 0.0))
            if number % STEPS_A_TURN == 0:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        waiting = await waiting_in(overlay, none_failed, [], "")
    assert waiting.changes == 10 * STEPS_A_TURN
