"""Many applications, each on a WebSocket of its own that brings the events of one device."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from .arrivals import LONE_EVENT_BYTES, Arrivals
from .fleet import Fleet, NotProven
from .websocket_sink import WebSocketSink

_LOOK_S = 0.01


class Crowd:
    """The n-th receives what the n-th device sends, and nothing else; made by ``open_crowd``."""

    def __init__(self, arrivals: Sequence[Arrivals], sinks: Sequence[WebSocketSink]) -> None:
        self._arrivals = arrivals
        self._sinks = sinks

    def first(self, count: int) -> Crowd:
        """The first so many of them, to be looked at by themselves."""
        return Crowd(self._arrivals[:count], self._sinks[:count])

    def begin(self, fleet: Fleet) -> None:
        """Forget the round before."""
        expected = fleet.expected()
        for device, (arrivals, sink) in enumerate(zip(self._arrivals, self._sinks, strict=True)):
            sink.begin()
            arrivals.begin(expected[device])

    async def wait_complete(self, patience_s: float) -> None:
        """Return when everybody has everything.  Raises ``NotProven`` when nothing comes any more."""
        before, looked_s = -1, trio.current_time()
        while not all(arrivals.last_at_s for arrivals in self._arrivals):
            now = self.events
            if now != before:
                before, looked_s = now, trio.current_time()
            elif trio.current_time() - looked_s > patience_s:
                raise NotProven(f"{now} events arrived, then none for {patience_s:g} s")
            await trio.sleep(_LOOK_S)

    @property
    def events(self) -> int:
        """How many have come to all of them."""
        return sum(arrivals.events for arrivals in self._arrivals)

    @property
    def last_at_s(self) -> float:
        """When the last one had everything, on ``time.perf_counter``."""
        return max(arrivals.last_at_s for arrivals in self._arrivals)

    def prove(self, fleet: Fleet) -> None:
        """Each received its device's events, once, in order, and no others; raises ``NotProven``."""
        for device, arrivals in enumerate(self._arrivals):
            arrivals.prove(fleet, device)

    def latencies_s(self, fleet: Fleet, due_s: Sequence[float]) -> list[float]:
        """As ``Arrivals.latencies_s``, of all of them."""
        return [late_s for arrivals in self._arrivals for late_s in arrivals.latencies_s(fleet, due_s)]


@asynccontextmanager
async def open_crowd(port: int, keys: Sequence[str], events_max: int) -> AsyncIterator[Crowd]:
    """Connect for each key; ``events_max`` is of one device in one round."""
    arrivals = [Arrivals(events_max, LONE_EVENT_BYTES) for _ in keys]
    sinks = [WebSocketSink(one) for one in arrivals]
    async with trio.open_nursery() as nursery:
        for sink, key in zip(sinks, keys, strict=True):
            await nursery.start(sink.run, port, key)
        yield Crowd(arrivals, sinks)
        nursery.cancel_scope.cancel()
