"""Who may send next: as many calls at once, and as many a second, as the Space puts up with.

Calls wait in three lanes: reads, writes (PUT, POST, COPY, DELETE) and listings. A lane has a *level* between 0 and 1,
the share of its full limits that it may use: of the connections, and of its requests a second. It starts at 1. A
throttled reply halves it (of what was really in use); every other reply lifts it, by one connection for each round of
replies. Below one connection only the rate shrinks on, and grows back by doubling. Replies to calls that were sent
before the last cut count for nothing.

A free connection goes to the lane that has the fewest, among equals to the one that has waited longest for its turn, so
no lane starves. Within a lane the order is that of asking, and a call that is sent again keeps its place, so the oldest
comes first however often the Space refuses it. Only calls on a key that has its ten writes under way are passed by
until one of those ends. So every wait has an end: each of the calls before it has a deadline, and no lane stands still
for longer than a server may ask.

`Limiter` decides and never waits: each method returns at once, and each `Turn` has an event that tells when it is
granted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import trio

from spacesfs.client.call import OperationClass
from spacesfs.client.retry import LONGEST_RETRY_AFTER_SECONDS

# Spaces, limits of a bucket: 800 operations a second, writes and listings of an old bucket together 300, listings
# "may be throttled further". Lanes together may ask for more than a bucket gives, and then each learns from its 503s.
SPACES_RATES: Mapping[OperationClass, float] = MappingProxyType({"read": 800.0, "write": 800.0, "list": 300.0})
WRITES_PER_KEY = 10  # Spaces: concurrent PUT and COPY on one object

_BURST_SECONDS = 0.1  # an idle lane may send what it missed in this time at once
_LEAST_RATE = 1.0  # requests a second; a lane that stood still would never learn that it may go on

Target = tuple[str, str]  # bucket and key


@dataclass(slots=True, eq=False)
class Turn:
    """One call's place in its lane: waiting, then granted, then over.

    Attributes:
        number: Its place: lower ones come first.
        granted: Set when the call has a connection.
        starts_at: When it may be sent, once granted.
    """

    lane: Lane
    target: Target | None
    number: int
    granted: trio.Event = field(default_factory=trio.Event)
    starts_at: float = 0.0
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One lane now.

    Attributes:
        in_flight: Calls that have a connection.
        waiting: Calls that have none yet.
        window: How many may have one at once; ``full_window`` when the Space does not throttle.
        rate: Requests a second that the lane may send at most; ``full_rate`` when the Space does not throttle.
        cuts: How often the Space made the lane slow down.
    """

    in_flight: int
    waiting: int
    window: int
    full_window: int
    rate: float
    full_rate: float
    cuts: int

    @property
    def is_slowed(self) -> bool:
        """Whether the lane keeps below its full limits."""
        return self.window < self.full_window or self.rate < self.full_rate


class Lane:
    """The calls of one class, and how fast they may go."""

    def __init__(self, full_window: int, full_rate: float) -> None:
        self.full_window = full_window
        self.full_rate = full_rate
        self.level = 1.0
        self.in_flight = 0
        self.waiting = 0
        self.cuts = 0
        self.last_granted = 0  # number of the last turn granted, counted over all lanes
        self.queue: list[tuple[int, Turn]] = []  # a heap, by number
        self._cut_at = float("-inf")
        self._due = float("-inf")  # when the next call may be sent
        self._paused_until = float("-inf")  # by the server's Retry-After
        self.refused_since = float("inf")  # since when it got no reply but to slow down

    @property
    def window(self) -> int:
        """How many calls may have a connection at once."""
        return max(1, int(self.level * self.full_window + 1e-9))

    @property
    def rate(self) -> float:
        """How many calls may be sent in a second."""
        return self.level * self.full_rate

    def reserve(self, now: float) -> float:
        """Return when the next call may be sent, which is taken then."""
        self._due = max(self._due, now - _BURST_SECONDS, self._paused_until)
        starts_at = max(now, self._due)
        self._due += 1.0 / self.rate
        return starts_at

    def give_back(self) -> None:
        """A call that had reserved its time was given up before it was sent."""
        self._due -= 1.0 / self.rate

    def slow_down(self, turn: Turn, now: float, retry_after_seconds: float) -> None:
        """The server throttled a call."""
        self.refused_since = min(self.refused_since, now)
        self._paused_until = max(self._paused_until, now + min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))
        if turn.starts_at < self._cut_at:
            return
        used = min(self.level, self.in_flight / self.full_window)
        self.level = max(used / 2, min(_LEAST_RATE / self.full_rate, 1.0))
        self._cut_at = now
        self.cuts += 1

    def speed_up(self, turn: Turn) -> None:
        """The server answered a call as it should."""
        self.refused_since = float("inf")
        if turn.starts_at >= self._cut_at:
            self.level = min(1.0, self.level + min(self.level, 1.0 / (self.full_window * self.window)))


class Limiter:
    """Owns the turns of all calls of one endpoint. Sync only, so each method is atomic.

    Invariants: never more turns granted than connections, in a lane than its window (but for those granted before it
    shrank), or on a key than ``WRITES_PER_KEY`` writes; and no turn waits that could be granted.
    """

    def __init__(self, connections: int, rates: Mapping[OperationClass, float] = SPACES_RATES) -> None:
        self._free = self._connections = connections
        self._lanes = {name: Lane(connections, rate) for name, rate in rates.items()}
        self._writing: Counter[Target] = Counter()
        self._passed_by: dict[Target, list[tuple[int, Turn]]] = {}  # heaps, by number
        self._asked = 0
        self._granted = 0

    def ask(self, operation_class: OperationClass, target: Target, now: float, *, again: Turn | None = None) -> Turn:
        """Line up, and return the turn, which may be granted already. Whoever asks must `end` it, granted or not.

        Args:
            operation_class: The lane.
            target: The bucket and the key that the call is about; the key may be "".
            now: Seconds on the clock that ``starts_at`` is of.
            again: The turn that the same call had before, granted and over; it keeps that place.
        """
        lane = self._lanes[operation_class]
        self._asked += 1
        number = again.number if again is not None else self._asked
        turn = Turn(lane, target if operation_class == "write" and target[1] else None, number)
        heapq.heappush(lane.queue, (number, turn))
        lane.waiting += 1
        self._grant(now)
        return turn

    def end(
        self,
        turn: Turn,
        now: float,
        *,
        was_answered: bool,
        was_throttled: bool = False,
        retry_after_seconds: float = 0.0,
    ) -> None:
        """Give a turn back, whether it was granted or not, and let others have theirs.

        Args:
            turn: Not ended before.
            now: As for `ask`.
            was_answered: The server sent a reply, of whatever kind.
            was_throttled: The reply was to slow down.
            retry_after_seconds: For how long it asked the lane to pause.
        """
        lane = turn.lane
        turn.is_over = True
        if was_throttled:
            lane.slow_down(turn, now, retry_after_seconds)
        elif was_answered:
            lane.speed_up(turn)
        if turn.granted.is_set():
            lane.in_flight -= 1
            self._free += 1
            self._let_key_go(turn)
            if now < turn.starts_at and not was_answered:
                lane.give_back()
        else:
            lane.waiting -= 1
        self._call_back(turn)
        self._grant(now)

    def statistics(self) -> dict[OperationClass, LaneStatistics]:
        """Return how each lane is now."""
        return {
            name: LaneStatistics(
                lane.in_flight, lane.waiting, lane.window, lane.full_window, lane.rate, lane.full_rate, lane.cuts
            )
            for name, lane in self._lanes.items()
        }

    def check_invariants(self) -> None:
        """Raise AssertionError where the limiter contradicts itself; for tests."""
        assert self._free == self._connections - sum(lane.in_flight for lane in self._lanes.values())
        assert self._free >= 0
        assert all(0 < count <= WRITES_PER_KEY for count in self._writing.values())
        for lane in self._lanes.values():
            passed_by = [entry for beside in self._passed_by.values() for entry in beside if entry[1].lane is lane]
            waiting = [turn for _, turn in (*lane.queue, *passed_by) if not turn.is_over]
            assert lane.waiting == len(waiting)
            assert not any(turn.granted.is_set() for turn in waiting)
            if self._free and lane.in_flight < lane.window:
                assert not any(self._has_room(turn) for turn in waiting), "it waits and could go"

    def _grant(self, now: float) -> None:
        """Grant what can be granted."""
        while self._free:
            ready = [lane for lane in self._lanes.values() if lane.in_flight < lane.window and self._has_next(lane)]
            if not ready:
                return
            lane = min(ready, key=lambda lane: (lane.in_flight, lane.last_granted))
            _, turn = heapq.heappop(lane.queue)
            self._granted += 1
            lane.last_granted = self._granted
            lane.waiting -= 1
            lane.in_flight += 1
            self._free -= 1
            if turn.target is not None:
                self._writing[turn.target] += 1
            turn.starts_at = lane.reserve(now)
            turn.granted.set()

    def _has_next(self, lane: Lane) -> bool:
        """Bring a turn that can be granted to the head of a lane's queue, if there is one."""
        while lane.queue:
            _, turn = lane.queue[0]
            if not turn.is_over and self._has_room(turn):
                return True
            entry = heapq.heappop(lane.queue)
            if not turn.is_over and turn.target is not None:
                heapq.heappush(self._passed_by.setdefault(turn.target, []), entry)
        return False

    def _has_room(self, turn: Turn) -> bool:
        return turn.target is None or self._writing[turn.target] < WRITES_PER_KEY

    def _let_key_go(self, turn: Turn) -> None:
        if turn.target is not None:
            self._writing[turn.target] -= 1
            if not self._writing[turn.target]:
                del self._writing[turn.target]

    def _call_back(self, turn: Turn) -> None:
        """Put one turn that was passed by back in its place, for one on the same key ended or gave up."""
        beside = self._passed_by.get(turn.target) if turn.target is not None else None
        while beside:
            entry = heapq.heappop(beside)
            if not entry[1].is_over:
                heapq.heappush(turn.lane.queue, entry)
                break
        if beside is not None and not beside:
            self._passed_by.pop(turn.target, None)  # type: ignore[arg-type]  # it has a target, else there were none
