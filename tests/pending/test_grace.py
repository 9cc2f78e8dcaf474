"""How long a change waits: what a program did with its last files tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.pending.grace import Habits

GRACE = 1.0


def work(habits: Habits, thread: int, files: int, touch_after: float | None, start: float = 0.0) -> float:
    """Let a program write files one after the other; return the grace of the last one."""
    now, grace = start, GRACE
    for number in range(files):
        habits.goes_on(thread)
        grace = habits.closes(thread, f"f{number}", now)
        if touch_after is not None:
            grace = habits.touches(thread, f"f{number}", f"g{number}", now + touch_after)
        now += 10.0
    return grace


def test_a_program_that_is_not_known_gets_all() -> None:
    habits = Habits(GRACE)
    assert habits.grace(1) == GRACE
    assert work(habits, 1, 3, None) == GRACE
    assert habits.grace(2) == GRACE


def test_one_that_never_comes_back_is_not_waited_for_long() -> None:
    habits = Habits(GRACE)
    assert work(habits, 1, 10, None) == pytest.approx(0.05)
    assert work(habits, 2, 1, None) == GRACE, "another thread's habits are its own"


def test_one_that_comes_back_is_waited_for() -> None:
    assert work(Habits(GRACE), 1, 10, 0.1) == pytest.approx(0.4)
    assert work(Habits(GRACE), 1, 10, 5.0) == GRACE
    assert work(Habits(0.0), 1, 10, 5.0) == 0.0


def test_going_on_tells_what_is_done_once() -> None:
    habits = Habits(GRACE)
    assert habits.goes_on(1) is None
    habits.closes(1, "a", 0.0)
    habits.touches(1, "a", "b", 0.1)
    habits.touches(1, "other", "c", 0.2)
    assert habits.goes_on(1) == "b", "it was renamed, and another file's rename is another matter"
    assert habits.goes_on(1) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["closes", "touches", "goes_on"]), st.integers(1, 3), st.floats(0, 5)), max_size=40
    )
)
def test_no_grace_is_longer_than_the_option(calls: list[tuple[str, int, float]]) -> None:
    habits, now = Habits(GRACE), 0.0
    for call, thread, seconds in calls:
        now += seconds
        if call == "closes":
            grace = habits.closes(thread, "k", now)
        elif call == "touches":
            grace = habits.touches(thread, "k", "k", now)
        else:
            habits.goes_on(thread)
            grace = habits.grace(thread)
        assert 0.05 <= grace <= GRACE
