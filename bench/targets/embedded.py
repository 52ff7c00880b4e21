"""P3: events published by the library in a program of one's own, to a WebSocket.

The program is `bench/embedded.py`: it publishes 10,000 events with each `publish_many`, prepared
before, or as messages that the call checks as it checks what is posted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from .. import embedded as program
from ..goals import Goal
from ..load.arrivals import Arrivals
from ..load.fleet import Fleet
from ..process import ServerProcess, open_server
from ..row import Row, Scale, Side
from ..topology.pipeline import Plan, open_load, warm_up_events
from . import sides

_DISPATCHER, _MESSAGES, _TRIO = "dispatcher, embedded", "dispatcher, messages", "send_all of Trio"
_RATE = "events_per_s"
_SHORT_ROUNDS = 5  # one lasts a tenth of a second


class Order(msgspec.Struct, frozen=True):
    """Tells the program to publish a round."""

    server: ServerProcess
    events: int

    async def run(self, port: int, arrivals: Arrivals) -> None:
        """Return when it is told."""
        self.server.tell(str(self.events))


@asynccontextmanager
async def open_embedded(form: str, scale: Scale) -> AsyncIterator[Side]:
    """The program that publishes events in this form, and a sink on its WebSocket."""
    plan = Plan(events=scale.of(sides.EVENTS), connections=1, patience_s=sides.PATIENCE_S)
    sizes = {plan.events, warm_up_events(plan)}
    command = [sys.executable, "-m", program.__name__, form, *map(str, sizes)]
    with (
        tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder,
        open_server(command, Path(folder, "log")) as server,
    ):
        key = server.hear()

        def make_order(fleet: Fleet) -> Order:
            assert fleet == program.fleet_of(fleet.events)
            return Order(server, fleet.events)

        sink = sides.websocket_of(server.port, key=key)
        async with open_load(server, sink, make_order, plan) as measured:
            yield sides.side_of(measured)


P3 = Row(
    name="P3",
    title="embedded `publish_many` to a WebSocket",
    goals=(
        Goal(side=_DISPATCHER, figure=_RATE, at_least=6_000_000),
        Goal(side=_DISPATCHER, figure=_RATE, at_least=0.4, beside=_TRIO),
    ),
    sides={
        _DISPATCHER: partial(open_embedded, "prepared"),
        _MESSAGES: partial(open_embedded, "messages"),
        _TRIO: sides.loopback_by_trio,
    },
    short_rounds=_SHORT_ROUNDS,
)
