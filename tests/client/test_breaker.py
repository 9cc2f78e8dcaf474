"""When the Space counts as away, who is told, and how its return is noticed. On a clock that jumps."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from spacesfs.client.breaker import MISSES_TO_DOUBT, PROBE_PAUSE_SECONDS, Breaker


class Server:
    """What the probes find."""

    def __init__(self) -> None:
        self.is_there = False
        self.probes: list[float] = []
        self.under_way = 0
        self.seconds = 0.0
        self.breaker = Breaker(self.probe)

    async def probe(self) -> bool:
        self.probes.append(trio.current_time())
        self.under_way += 1
        assert self.under_way == 1
        await trio.sleep(self.seconds)
        self.under_way -= 1
        return self.is_there

    def miss(self, times: int = MISSES_TO_DOUBT) -> None:
        for _ in range(times):
            self.breaker.missed(trio.current_time())


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def watched(server: Server, nursery: trio.Nursery) -> Server:
    nursery.start_soon(server.breaker.watch)
    return server


async def test_a_few_failures_are_no_reason_for_doubt(autojump_clock: MockClock, watched: Server) -> None:
    watched.miss(MISSES_TO_DOUBT - 1)
    await trio.sleep(10)
    watched.breaker.heard()
    watched.miss(MISSES_TO_DOUBT - 1)
    await trio.sleep(10)
    assert watched.probes == []
    assert watched.breaker.offline_since is None


async def test_failures_in_a_row_and_a_probe_without_answer_mean_offline(
    autojump_clock: MockClock, watched: Server
) -> None:
    watched.miss()
    assert watched.breaker.offline_since is None
    await trio.sleep(0.1)
    assert watched.breaker.offline_since is not None


async def test_one_slow_key_takes_nothing_offline(autojump_clock: MockClock, watched: Server) -> None:
    watched.is_there = True
    for _ in range(20):
        watched.miss(1)
        await trio.sleep(30)
        assert watched.breaker.offline_since is None
    assert 0 < len(watched.probes) < 20


async def test_long_silence_is_reason_enough(autojump_clock: MockClock, watched: Server) -> None:
    started = trio.current_time()
    await trio.sleep(30)
    watched.breaker.missed(started)
    await trio.sleep(0.1)
    assert watched.breaker.offline_since is not None


async def test_a_reply_between_failures_is_no_silence(autojump_clock: MockClock, watched: Server) -> None:
    watched.miss(1)
    await trio.sleep(30)
    watched.breaker.heard()
    watched.miss(1)
    await trio.sleep(0.1)
    assert watched.probes == []


async def test_one_probe_a_second_until_the_server_is_back(autojump_clock: MockClock, watched: Server) -> None:
    watched.seconds = 0.5
    watched.miss()
    await trio.sleep(10)
    gaps = {later - earlier for earlier, later in pairwise(watched.probes)}
    assert gaps == {PROBE_PAUSE_SECONDS + 0.5}
    watched.is_there = True
    await trio.sleep(2)
    assert watched.breaker.offline_since is None
    asked = len(watched.probes)
    await trio.sleep(100)
    assert len(watched.probes) == asked


async def test_a_reply_to_a_call_ends_it_at_once(autojump_clock: MockClock, watched: Server) -> None:
    watched.miss()
    await trio.sleep(0.5)
    watched.breaker.heard()
    assert watched.breaker.offline_since is None
    asked = len(watched.probes)
    await trio.sleep(100)
    assert len(watched.probes) == asked


async def test_a_reply_during_a_probe_counts_more_than_the_probe(autojump_clock: MockClock, watched: Server) -> None:
    watched.seconds = 3
    watched.miss()
    await trio.sleep(1)
    watched.breaker.heard()
    await trio.sleep(10)
    assert watched.breaker.offline_since is None
    assert len(watched.probes) == 1


async def test_who_waits_is_let_go_when_it_goes_offline_and_not_held_while_it_is(
    autojump_clock: MockClock, watched: Server
) -> None:
    watched.miss()
    started = trio.current_time()
    for _ in range(2):
        with watched.breaker.waiting():
            await trio.sleep(1000)
        assert trio.current_time() - started < 1
        assert watched.breaker.offline_since is not None
    watched.is_there = True
    await trio.sleep(2)
    with watched.breaker.waiting():
        await trio.sleep(1000)
    assert trio.current_time() - started > 1000
