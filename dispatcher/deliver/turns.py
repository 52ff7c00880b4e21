"""Short turns of the event loop, also when a thousand tasks want one at the same moment.

Trio lets every task that can go on take a step before it looks at sockets and deadlines again;
that is a turn.  When a thousand channels have something to send, or a thousand sockets
something to say, a turn would last a tenth of a second, and who comes then waits for all of it.
So steps of work that come in crowds stand in line:

    give_way, call --> [ line: first come, first go ] --> under way: at most so many --> begun
                                 ^ empty, and few are under way: at once

How many may be under way at once is learnt: one more after each turn that was short while somebody
stood in line, half as many in a turn that became too long.  Who is let go takes its step in the
turn that follows, so turns stay short whatever a step costs; and who has had a step stands behind
all who have not, so a channel that always has more to send does not hold up the others.

Nobody looks at the line but those who are under way: somebody is, as long as it is not empty.

How long turns last is counted: it is how late anything in the loop may be.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import trio

from dispatcher.limits import TURN_S_MAX, TURN_STEPS_FIRST
from dispatcher.observe.distribution import Distribution

Go = Callable[[], object]
TURN_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds that turns are counted by."""


class Turns(trio.abc.Instrument):
    """The turns of one event loop.  ``turns_of_loop`` has it; all parts in that loop share it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds that pass, also while the loop is busy."""
        self._clock = clock
        self._began_s = clock()
        self._steps_max = TURN_STEPS_FIRST
        self._under_way = 0
        self._line: OrderedDict[Go, None] = OrderedDict()
        self._was_cut = False  # in this turn
        self.seconds = Distribution(TURN_SECONDS)  # that turns lasted

    def __repr__(self) -> str:
        return f"<Turns {self._under_way} of {self._steps_max} under way, {len(self._line)} in line>"

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins: Trio's word for it."""
        if self._line and not self._was_cut:
            self._steps_max += 1
        self._was_cut = False
        self._began_s = self._clock()

    def before_io_wait(self, timeout: float) -> None:
        """A turn ended: the same."""
        self.seconds.observe(self._clock() - self._began_s)

    @property
    def is_long(self) -> bool:
        """Whether the running turn has lasted long enough for others to wait for the next."""
        return self._clock() - self._began_s > TURN_S_MAX

    def call(self, go: Go) -> None:
        """Call ``go`` at once, or when it is its turn; what it sets going calls ``begun`` once.

        Never waits.  ``go`` must not raise, must be another object for each call, and says
        False when it sets nothing going, since whoever wanted it has gone meanwhile.
        """
        if self._line or self._under_way >= self._steps_max:
            self._line[go] = None
        else:
            self._let_go(go)

    def begun(self) -> None:
        """What was called takes its step now: the next in line may follow, in the turn after this one."""
        self._under_way -= 1
        if not self._line:
            return
        if self.is_long and not self._was_cut:
            self._steps_max = max(1, self._steps_max // 2)
            self._was_cut = True
        while self._line and self._under_way < self._steps_max:  # bounded by the line
            self._let_go(self._line.popitem(last=False)[0])

    def _let_go(self, go: Go) -> None:
        self._under_way += 1
        if go() is False:
            self._under_way -= 1

    async def give_way(self) -> None:
        """Go on in a later turn, behind everyone who stands in line.

        Cancellation: out of the line; in any case a checkpoint.
        """
        if not self._line and self._under_way < self._steps_max:
            self._under_way += 1
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self.begun()
            return
        go = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._line[go]
            return trio.lowlevel.Abort.SUCCEEDED

        self._line[go] = None
        await trio.lowlevel.wait_task_rescheduled(leave)
        self.begun()


_TURNS: trio.lowlevel.RunVar[Turns] = trio.lowlevel.RunVar("dispatcher.turns")


def turns_of_loop(clock: Callable[[], float] = time.perf_counter) -> Turns:
    """Those of the event loop that runs; made when they are first asked for, with this clock."""
    try:
        return _TURNS.get()
    except LookupError:
        turns = Turns(clock)
        trio.lowlevel.add_instrument(turns)
        _TURNS.set(turns)
        return turns
