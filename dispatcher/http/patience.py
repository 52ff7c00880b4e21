"""How long connections may wait: deadlines that move with every request, and are hardly ever met.

To move the deadline of a cancel scope costs Trio a place in a sorted heap; there and back it
was a twentieth of a small request.  Here a wait writes down when it must be over, and one
task for all connections of a server looks at each at the moment that it was found to be due
at when it was looked at last.  By then it has mostly moved on, and is looked at again later:
once in a minute or so, however many requests there were.

    due      moves with each wait; infinite while nothing is waited for
    look     never behind ``due``, but for rounding; moved when ``due`` is set before it
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import NoReturn

import trio

from dispatcher.limits import DRAIN_IDLE_S, PATIENCE_STEP_S


class Patience:
    """That of one connection.  The block is around all its waits, and cancelled when one takes too long."""

    __slots__ = ("_due_s", "_is_idle", "_scope", "_timekeeper", "is_lost", "look_s")

    def __init__(self, timekeeper: Timekeeper) -> None:
        self.is_lost = False  # a wait took too long: the block ends at its next, or has ended
        self.look_s = math.inf  # the timekeeper's
        self._scope = trio.CancelScope()
        self._timekeeper = timekeeper
        self._due_s = math.inf
        self._is_idle = False

    def __repr__(self) -> str:
        return f"<Patience due={self._due_s} look={self.look_s} idle={self._is_idle}>"

    def __enter__(self) -> None:
        """Once only."""
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Nobody looks at it any more."""
        self.rest()
        self._timekeeper.forget(self)
        return self._scope.__exit__(kind, error, trace)

    def wait_idly(self, seconds: float) -> None:
        """A wait begins that may last so long, and shall not when the server ends."""
        self._is_idle = True
        self._bound(trio.current_time() + self._timekeeper.idle_s(seconds))

    def wait(self, seconds: float) -> None:
        """A wait begins that may last so long."""
        self._bound(trio.current_time() + seconds)

    def rest(self) -> None:
        """The wait is over."""
        self._is_idle = False
        self._due_s = math.inf

    def hurry(self, due_s: float) -> None:
        """If this is idle it is so no longer than to this moment."""
        if self._is_idle and due_s < self._due_s:
            self._bound(due_s)

    def look(self, now_s: float) -> None:
        """Cancel what is due, or have it looked at again."""
        if self._due_s <= now_s:
            self.is_lost = True
            self._scope.cancel()
        elif self._due_s < math.inf:
            self._timekeeper.look_at(self, self._due_s)

    def _bound(self, due_s: float) -> None:
        self._due_s = due_s
        if due_s < self.look_s:
            self._timekeeper.look_at(self, due_s)


class Timekeeper:
    """Ends the waits of a server's connections that take too long, at most ``PATIENCE_STEP_S`` late.

    Does nothing unless its ``run`` runs.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._looks: dict[float, dict[Patience, None]] = {}  # by the moment; in order, so that runs repeat
        self._nap: trio.CancelScope | None = None

    def __repr__(self) -> str:
        waiting = sum(map(len, self._looks.values()))
        return f"<Timekeeper waiting={waiting} draining={self.is_draining}>"

    async def run(self) -> NoReturn:
        """Keep the time, until cancelled.  Sleeps until the next look, for ever where there is none."""
        while True:
            with trio.CancelScope(deadline=min(self._looks, default=math.inf)) as self._nap:
                await trio.sleep_forever()
            self._look_around(trio.current_time())

    def drain(self) -> None:
        """The server ends: who is idle, or will be, has a moment left.

        In it a request that is on its way is answered, and its client told to connect anew.
        To close at once would tear off the requests of whoever sends them without a pause.
        """
        self.is_draining = True
        due_s = trio.current_time() + DRAIN_IDLE_S
        for patience in [patience for found in self._looks.values() for patience in found]:
            patience.hurry(due_s)

    def idle_s(self, seconds: float) -> float:
        """How long somebody may be idle who would otherwise be for so long."""
        return min(seconds, DRAIN_IDLE_S) if self.is_draining else seconds

    def look_at(self, patience: Patience, due_s: float) -> None:
        """Have it looked at by then, and not before."""
        self.forget(patience)
        at_s = patience.look_s = math.ceil(due_s / PATIENCE_STEP_S) * PATIENCE_STEP_S
        self._looks.setdefault(at_s, {})[patience] = None
        if self._nap is not None and at_s < self._nap.deadline:
            self._nap.deadline = at_s

    def forget(self, patience: Patience) -> None:
        """Do not look at it any more."""
        found = self._looks.get(patience.look_s)
        if found is not None:
            del found[patience]
            if not found:
                del self._looks[patience.look_s]
        patience.look_s = math.inf

    def _look_around(self, now_s: float) -> None:
        for at_s in sorted(at_s for at_s in self._looks if at_s <= now_s):
            for patience in self._looks.pop(at_s):
                patience.look_s = math.inf
                patience.look(now_s)
