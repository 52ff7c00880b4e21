"""P5: one event at a time, 1,000 in a second, from the moment it is due to its arrival on a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import msgspec
import trio

from ..daemon import open_daemon
from ..goals import Figures, Goal, lateness
from ..load.arrivals import LONE_EVENT_BYTES, Arrivals
from ..load.fleet import Fleet
from ..load.paced import Moments, PacedGenerator
from ..peers import nats, nchan
from ..peers.node import open_node
from ..process import ServerProcess
from ..row import OpenSide, Row, Scale, Side
from ..topology.ingest_to_websocket import open_sink
from ..topology.pipeline import Pipeline, Sink, StartSink, subscribe_to_all
from . import sides

RATE_PER_S = 1_000
_EVENTS = 4_000  # of a round: its p99 is that of 40 events
_WARM_UP_EVENTS = 200
_LANES = 4  # connections in turn: a 202 holds the next event back only when it takes 4 ms and more
_MEMORY, _DISK, _NCHAN = "dispatcher, memory", "dispatcher, disk", "Nchan"


class PacedPoster(Protocol):
    """A poster that knows when its events were due."""

    moments: Moments

    async def run(self, port: int, arrivals: Arrivals) -> None: ...


class Route(msgspec.Struct, frozen=True):
    """A server that is ready, and how its events go in and come out."""

    server: ServerProcess
    start_sink: StartSink
    make_poster: Callable[[Fleet], PacedPoster]
    lanes: int = _LANES


def paced(open_route: Callable[[], AbstractAsyncContextManager[Route]]) -> OpenSide:
    """Rounds of single events along a route."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        events = scale.of(_EVENTS, least=1_000)
        arrivals = Arrivals(events, LONE_EVENT_BYTES)
        async with open_route() as route, trio.open_nursery() as nursery:
            sink = await route.start_sink(nursery, arrivals)
            pipeline = Pipeline(route.server, sink, arrivals, sides.PATIENCE_S)

            async def go(count: int) -> Figures:
                fleet = Fleet(events=count, lanes=route.lanes)
                poster = route.make_poster(fleet)
                sample = await pipeline.round(fleet, poster)
                cost = {"server_cpu_s_per_million": sample.server_cpu_s_per_million}
                return lateness(arrivals.latencies_s(fleet, poster.moments.due_s)) | cost

            async def take_turn() -> Figures:
                return await go(events)

            await go(_WARM_UP_EVENTS)
            yield take_turn
            nursery.cancel_scope.cancel()

    return open_side


def by_daemon(durability: str) -> Callable[[], AbstractAsyncContextManager[Route]]:
    """Through a daemon of this durability."""

    @asynccontextmanager
    async def open_route() -> AsyncIterator[Route]:
        with open_daemon(durability=durability) as daemon:
            gateway, application = daemon.create_key("gateway"), daemon.create_key("application")
            await subscribe_to_all(daemon, application)

            async def start_sink(nursery: trio.Nursery, arrivals: Arrivals) -> Sink:
                return await open_sink(nursery, daemon, application, arrivals)

            yield Route(daemon.server, start_sink, lambda fleet: PacedGenerator(fleet, gateway, RATE_PER_S))

    return open_route


@asynccontextmanager
async def by_node() -> AsyncIterator[Route]:
    """Through the Node peer."""
    with open_node() as server:
        yield Route(
            server,
            sides.websocket_of(server.port),
            lambda fleet: PacedGenerator(fleet, "none", RATE_PER_S),
        )


@asynccontextmanager
async def by_nchan() -> AsyncIterator[Route]:
    """Through Nchan."""
    path = nchan.publish_path("events")
    with nchan.open_nchan() as server:
        yield Route(
            server,
            sides.websocket_of(server.port, nchan.subscribe_path("events")),
            lambda fleet: PacedGenerator(fleet, "none", RATE_PER_S, path=path, check=nchan.is_taken),
        )


@asynccontextmanager
async def by_nats() -> AsyncIterator[Route]:
    """Through NATS: one connection, which keeps the order."""
    with nats.open_nats() as running:

        async def start_sink(nursery: trio.Nursery, arrivals: Arrivals) -> Sink:
            sink = nats.NatsSink(arrivals)
            await nursery.start(sink.run, running.websocket_port)
            return sink

        yield Route(
            running.server, start_sink, lambda fleet: nats.PacedNatsPublisher(fleet, RATE_PER_S), lanes=1
        )


P5 = Row(
    name="P5",
    title="one event at a time at 1,000/s, ingest to a WebSocket",
    goals=(
        Goal(side=_MEMORY, figure="p99_ms", at_most=0.6),
        Goal(side=_DISK, figure="p99_ms", at_most=3.0),
        Goal(side=_MEMORY, figure="p99_ms", at_most=1.5, beside=_NCHAN),
    ),
    sides={
        _MEMORY: paced(by_daemon("memory")),
        _DISK: paced(by_daemon("disk")),
        _NCHAN: paced(by_nchan),
        "NATS": paced(by_nats),
        "Node": paced(by_node),
    },
)
