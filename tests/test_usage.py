"""What ``df`` shows, from what the server tells and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from spacesfs.client.errors import SpacesError, Unreachable
from spacesfs.client.models import BucketUsage
from spacesfs.usage import Capacity, Usage

PETABYTE, FILES = 1 << 50, 100_000_000


class Server:
    """Answers with what it is told to, and counts."""

    def __init__(self, *answers: BucketUsage | SpacesError) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def usage(self) -> BucketUsage:
        self.calls += 1
        answer = self._answers[min(self.calls, len(self._answers)) - 1]
        if isinstance(answer, SpacesError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (BucketUsage(None, None), Capacity(PETABYTE, 0, FILES, 0)),
        (BucketUsage(500, 3), Capacity(PETABYTE + 500, 500, FILES + 3, 3)),
        (BucketUsage(500, 3, 1000, 10), Capacity(1000, 500, 10, 3)),
        (BucketUsage(5000, 30, 1000, 10), Capacity(5000, 5000, 30, 30)),
    ],
)
async def test_what_the_server_tells(
    told: BucketUsage, shown: Capacity, autojump_clock: trio.testing.MockClock
) -> None:
    usage = Usage(Server(told))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.keep)
        await trio.sleep(1)
        assert usage.capacity() == shown
        nursery.cancel_scope.cancel()


async def test_renewed_once_a_minute_and_only_if_somebody_asks(autojump_clock: trio.testing.MockClock) -> None:
    server = Server(BucketUsage(1, 1), Unreachable("away"), BucketUsage(3, 3))
    usage = Usage(server)
    ask: Callable[[], int] = lambda: usage.capacity().used_bytes  # noqa: E731 - said three times
    assert (ask(), server.calls) == (0, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.keep)
        await trio.sleep(10_000)
        assert server.calls == 1
        assert ask() == 1
        await trio.sleep(30)
        assert (ask(), server.calls) == (1, 2), "it failed, and what was known counts on"
        await trio.sleep(100)
        assert ask() == 1
        await trio.sleep(1)
        assert (ask(), server.calls) == (3, 3)
        nursery.cancel_scope.cancel()
