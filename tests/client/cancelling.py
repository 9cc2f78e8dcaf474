"""Cancellation at each of a task's steps in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before its task runs for the n-th time."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._task = trio.lowlevel.current_task()
        self._scope = scope
        self._steps = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._steps -= 1
            if self._steps == 0:
                self._scope.cancel()


@contextmanager
def cancelling(scope: trio.CancelScope, steps: int) -> Iterator[None]:
    """Cancel a scope just before this task runs for the n-th time, if it does in the block."""
    instrument = _CancelAtStep(scope, steps)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
