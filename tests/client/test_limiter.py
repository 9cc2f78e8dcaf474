"""Turns: never over the caps, nobody starves, slower when the Space says so and faster again after."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spacesfs.client.call import OperationClass
from spacesfs.client.limiter import WRITES_PER_KEY, LaneStatistics, Limiter, Turn
from spacesfs.client.retry import LONGEST_RETRY_AFTER_SECONDS

CLASSES: tuple[OperationClass, ...] = ("read", "write", "list")


class Clocked:
    """A limiter with a clock that only the test moves."""

    def __init__(self, connections: int = 16) -> None:
        self.limiter = Limiter(connections)
        self.now = 100.0

    def ask(self, operation_class: OperationClass = "read", key: str = "k", *, again: Turn | None = None) -> Turn:
        return self.limiter.ask(operation_class, ("b", key), self.now, again=again)

    def end(self, turn: Turn, *, was_throttled: bool = False, retry_after: float = 0.0) -> None:
        self.limiter.end(
            turn, self.now, was_answered=True, was_throttled=was_throttled, retry_after_seconds=retry_after
        )

    def give_up(self, turn: Turn) -> None:
        self.limiter.end(turn, self.now, was_answered=False)

    def lane(self, operation_class: OperationClass = "read") -> LaneStatistics:
        return self.limiter.statistics()[operation_class]


def granted(turns: Sequence[Turn]) -> list[int]:
    return [number for number, turn in enumerate(turns) if turn.granted.is_set()]


def test_it_begins_at_the_limits_of_a_space() -> None:
    clocked = Clocked()
    turns = [clocked.ask() for _ in range(20)]
    assert granted(turns) == list(range(16))
    assert [clocked.lane(name).rate for name in CLASSES] == [800, 800, 300]
    assert not any(clocked.lane(name).is_slowed for name in CLASSES)


def test_turns_of_a_lane_come_in_order() -> None:
    clocked = Clocked(connections=2)
    turns = [clocked.ask() for _ in range(6)]
    clocked.give_up(turns[3])
    clocked.end(turns[1])
    assert granted(turns) == [0, 1, 2]
    clocked.end(turns[0])
    assert granted(turns) == [0, 1, 2, 4]


def test_a_call_that_is_sent_again_keeps_its_place() -> None:
    clocked = Clocked(connections=1)
    first, second, third = (clocked.ask() for _ in range(3))
    clocked.end(first, was_throttled=True)
    assert second.granted.is_set()
    again = clocked.ask(again=first)
    clocked.end(second)
    assert (again.granted.is_set(), third.granted.is_set()) == (True, False)


def test_a_key_has_ten_writes_at_a_time_and_others_pass_by() -> None:
    clocked = Clocked()
    same = [clocked.ask("write", "same") for _ in range(13)]
    other = clocked.ask("write", "other")
    reads = [clocked.ask("read", "same") for _ in range(3)]
    assert granted(same) == list(range(WRITES_PER_KEY))
    assert other.granted.is_set()
    assert granted(reads) == [0, 1, 2]
    clocked.give_up(same[10])
    clocked.end(same[0])
    assert granted(same) == [*range(WRITES_PER_KEY), 11]


def test_calls_about_no_key_are_not_counted_by_key() -> None:
    clocked = Clocked()
    assert granted([clocked.ask("write", "") for _ in range(16)]) == list(range(16))


def test_lanes_share_connections_evenly() -> None:
    clocked = Clocked(connections=6)
    running = deque(clocked.ask("read") for _ in range(6))
    waiting: list[Turn] = [clocked.ask(name, str(number)) for name in CLASSES for number in range(20)]
    for _ in range(6):
        clocked.end(running.popleft())
    assert [clocked.lane(name).in_flight for name in CLASSES] == [2, 2, 2]
    assert len(granted(waiting)) == 6


def test_throttling_halves_what_is_in_use_once_for_all_calls_under_way() -> None:
    clocked = Clocked()
    turns = [clocked.ask() for _ in range(16)]
    clocked.now += 1
    for turn in turns:
        clocked.end(turn, was_throttled=True)
    lane = clocked.lane()
    assert (lane.window, lane.rate, lane.cuts, lane.is_slowed) == (8, 400, 1, True)
    assert not clocked.lane("write").is_slowed


def test_full_speed_returns_by_one_connection_for_each_round_of_replies() -> None:
    clocked = Clocked(connections=8)
    for turn in [clocked.ask() for _ in range(8)]:
        clocked.end(turn, was_throttled=True)
        clocked.now += 1
    windows = []
    while clocked.lane().is_slowed:
        window = clocked.lane().window
        windows.append(window)
        for turn in [clocked.ask() for _ in range(window)]:
            clocked.now = max(clocked.now, turn.starts_at)
            clocked.end(turn)
    assert windows == sorted(windows)
    assert max(later - earlier for earlier, later in pairwise(windows)) == 1
    assert len(windows) < 20
    assert clocked.lane().window == 8


def test_a_space_that_takes_nothing_is_asked_once_a_second() -> None:
    clocked = Clocked()
    for _ in range(40):
        turn = clocked.ask()
        clocked.now = max(clocked.now, turn.starts_at)
        clocked.end(turn, was_throttled=True)
    first, second = clocked.ask(), clocked.ask()
    assert clocked.lane().rate == 1.0
    assert (first.granted.is_set(), second.granted.is_set()) == (True, False)
    start = first.starts_at
    clocked.now = start
    clocked.give_up(first)
    assert second.starts_at == pytest.approx(start + 1)


def test_the_rate_holds_over_time_whatever_the_bursts() -> None:
    clocked = Clocked()
    starts = []
    for _ in range(1000):
        turn = clocked.ask("list")
        starts.append(turn.starts_at)
        clocked.end(turn)
    assert starts[-1] - clocked.now == pytest.approx(1000 / 300, rel=0.05)


def test_calls_that_were_given_up_leave_no_debt_of_time() -> None:
    clocked = Clocked()
    for _ in range(1000):
        clocked.give_up(clocked.ask("list"))
    assert clocked.ask("list").starts_at - clocked.now < 0.1


def test_retry_after_makes_the_whole_lane_pause_but_not_for_ever() -> None:
    clocked = Clocked()
    clocked.end(clocked.ask(), was_throttled=True, retry_after=7)
    assert clocked.ask().starts_at == clocked.now + 7
    clocked.end(clocked.ask("list"), was_throttled=True, retry_after=7000)
    assert clocked.ask("list").starts_at == clocked.now + LONGEST_RETRY_AFTER_SECONDS
    assert clocked.ask("write").starts_at == clocked.now


class Model(RuleBasedStateMachine):
    """Random calls against what every order of them must keep."""

    def __init__(self) -> None:
        super().__init__()
        self.clocked = Clocked(connections=12)
        self.turns: list[Turn] = []

    @rule(operation_class=st.sampled_from(CLASSES), key=st.sampled_from(["", "a", "b"]), count=st.integers(1, 15))
    def ask(self, operation_class: OperationClass, key: str, count: int) -> None:
        self.turns += [self.clocked.ask(operation_class, key) for _ in range(count)]

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), was_throttled=st.booleans(), retry_after=st.sampled_from([0.0, 3.0, 1e6]))
    def answer(self, data: st.DataObject, was_throttled: bool, retry_after: float) -> None:
        running = [turn for turn in self.turns if turn.granted.is_set()]
        turn = data.draw(st.sampled_from(running))
        self.turns.remove(turn)
        self.clocked.now = max(self.clocked.now, turn.starts_at)
        self.clocked.end(turn, was_throttled=was_throttled, retry_after=retry_after if was_throttled else 0.0)
        if was_throttled:
            name: OperationClass = "write" if turn.target else "read"
            self.turns.append(self.clocked.ask(name, turn.target[1] if turn.target else "", again=turn))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self.turns.remove(turn)
        self.clocked.give_up(turn)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.clocked.now += seconds

    @invariant()
    def keeps_its_promises(self) -> None:
        self.clocked.limiter.check_invariants()
        running = [turn for turn in self.turns if turn.granted.is_set()]
        assert len(running) <= 12
        for key in ("a", "b"):
            assert sum(turn.target == ("b", key) for turn in running) <= WRITES_PER_KEY
        assert running or not self.turns, "all wait and none runs"

    def teardown(self) -> None:
        """Nobody starves: with each reply some call ends, and every waiting one has its turn in the end."""
        for _ in range(len(self.turns)):
            turn = next(turn for turn in self.turns if turn.granted.is_set())
            self.turns.remove(turn)
            self.clocked.now = max(self.clocked.now, turn.starts_at)
            self.clocked.end(turn)
            self.clocked.limiter.check_invariants()
        assert all(lane.in_flight == lane.waiting == 0 for lane in self.clocked.limiter.statistics().values())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_no_lane_starves_while_others_never_rest() -> None:
    """A lane whose calls come back at once and one that always has more must not keep a third from its turn."""
    clocked = Clocked(connections=3)
    busy = [clocked.ask("read") for _ in range(30)] + [clocked.ask("write", str(number)) for number in range(30)]
    late = clocked.ask("list")
    for _ in range(3):
        turn = next(turn for turn in busy if turn.granted.is_set())
        busy.remove(turn)
        busy.append(clocked.ask("read"))
        clocked.end(turn)
    assert late.granted.is_set()
