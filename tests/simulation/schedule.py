"""Time and order: what makes a run follow from its seed alone.

Trio's mock clock jumps over every wait, and Trio's scheduler is told to draw the order
of its tasks from a seed.  That switch is Trio's own, made for Hypothesis, and private:
this module is the only one that touches it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

_BEGAN_UNIX_S = 1_767_225_600.0


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks; can stop the world before one, and look at it between any two turns."""

    def __init__(self) -> None:
        self.count = 0
        self.ends_at: int | None = None  # of ``count``
        self.at_end: Callable[[], None] = _nothing
        self.at_turn: Callable[[], None] = _nothing  # nothing is half done then but what awaits
        self.error: Exception | None = None  # of ``at_turn``

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task is about to run up to its next wait."""
        self.count += 1
        if self.count == self.ends_at:
            self.at_end()

    def before_io_wait(self, timeout: float) -> None:
        """Every task that could run has run."""
        try:
            self.at_turn()
        except Exception as error:  # Trio would log it and go on without us
            self.error = error
            self.at_turn = _nothing


def run(main: Callable[[], Awaitable[T]], *, seed: int, steps: Steps) -> T:
    """Run to the end on a clock of its own, in the order that the seed draws."""
    with _order_of(seed):
        result = trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[steps])
    if steps.error is not None:
        raise steps.error
    return result


@contextmanager
def _order_of(seed: int) -> Iterator[None]:
    scheduler = trio._core._run
    state = scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = False  # type: ignore[misc]
        scheduler._r.setstate(state)


class FakeWallClock:
    """The time of day: goes with Trio's clock, and jumps when someone sets it."""

    def __init__(self) -> None:
        self._set_s = 0.0

    def unix_s(self) -> float:
        """Seconds since 1970."""
        return _BEGAN_UNIX_S + trio.current_time() + self._set_s

    def jump(self, seconds: float) -> None:
        """Someone sets the clock, forward or back."""
        self._set_s += seconds


def _nothing() -> None:
    """Nobody asked to be told."""
