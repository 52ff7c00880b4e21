"""Sides that several rows have: whole paths through a server, and the machine's limits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median

import trio

from ..goals import Figures
from ..load.arrivals import LONE_EVENT_BYTES, Arrivals
from ..load.callback_sink import CallbackSink
from ..load.fleet import EVENT_BYTES, BodyForm, Fleet
from ..load.generator import Generator
from ..load.websocket_sink import CONNECT_PATH, WebSocketSink
from ..loopback import PUSH_BYTES, Loopback, open_loopback
from ..peers import nats, nchan
from ..peers.node import find_node, open_node
from ..process import SERVER_CORE, pinned
from ..results import Sample
from ..row import OpenSide, Scale, Side
from ..topology.pipeline import (
    Measured,
    OpenSink,
    Plan,
    Poster,
    Sink,
    Variant,
    open_load,
    open_pipeline,
)

EVENTS = 1_000_000  # of a round at full scale
PATIENCE_S = 20.0
_PUSHES = 5


def figures(sample: Sample) -> Figures:
    """What a round through a server showed."""
    return {
        "events_per_s": sample.events_per_s,
        "server_cpu_s_per_million": sample.server_cpu_s_per_million,
        "server_core": sample.server_cpu_share,
        "load_core": sample.load_cpu_share,
    }


def side_of(measured: Measured) -> Side:
    """Rounds through an open pipeline."""

    async def take_turn() -> Figures:
        return figures(await measured.round())

    return take_turn


def plan_of(scale: Scale) -> Plan:
    """How rounds are posted: NDJSON, 5,000 events in a request, on two connections."""
    return Plan(events=scale.of(EVENTS), rounds=scale.rounds, patience_s=PATIENCE_S)


def through_daemon(open_sink: OpenSink, form: BodyForm, durability: str) -> OpenSide:
    """HTTP ingest, checked, routed by pre-subscription, to the channel that ``open_sink`` registers."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        async with open_pipeline(open_sink, Variant(form, durability), plan_of(scale)) as measured:
            yield side_of(measured)

    return open_side


def through_node_to_websocket(*arguments: str) -> OpenSide:
    """The same bodies through the Node peer."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        plan = plan_of(scale)
        with open_node(*arguments) as server:
            sink = websocket_of(server.port)
            async with open_load(server, sink, _ndjson_generator(plan), plan) as measured:
                yield side_of(measured)

    return open_side


def through_node_to_callback(*arguments: str) -> OpenSide:
    """The same bodies through the Node peer, to a receiver of PUTs."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        find_node()  # what is absent is said by itself, and not in a group
        plan = plan_of(scale)
        sink = CallbackSink(Arrivals(0))
        async with trio.open_nursery() as nursery:
            await nursery.start(sink.run)
            with open_node(*arguments, "--put", sink.url) as server:

                async def start_sink(_: trio.Nursery, made: Arrivals) -> Sink:
                    sink.receive_into(made)
                    return sink

                async with open_load(server, start_sink, _ndjson_generator(plan), plan) as measured:
                    yield side_of(measured)
            nursery.cancel_scope.cancel()

    return open_side


def through_nats(post_events: int) -> OpenSide:
    """One event per message through NATS, so many in one send."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        plan = Plan(events=scale.of(EVENTS), connections=1, patience_s=PATIENCE_S)
        with nats.open_nats() as running:

            async def start_sink(nursery: trio.Nursery, arrivals: Arrivals) -> Sink:
                sink = nats.NatsSink(arrivals)
                await nursery.start(sink.run, running.websocket_port)
                return sink

            def make_poster(fleet: Fleet) -> Poster:
                return nats.NatsPublisher(
                    fleet, post_events=post_events, ahead_events_max=plan.ahead_events_max
                )

            async with open_load(running.server, start_sink, make_poster, plan, LONE_EVENT_BYTES) as measured:
                yield side_of(measured)

    return open_side


def through_nchan(post_events: int) -> OpenSide:
    """Ready messages of so many events through Nchan."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        plan = plan_of(scale)
        with nchan.open_nchan() as server:

            def make_poster(fleet: Fleet) -> Poster:
                return Generator(
                    fleet,
                    BodyForm.JSON,
                    "none",
                    body_events=post_events,
                    ahead_events_max=plan.ahead_events_max,
                    path=nchan.publish_path("events"),
                    check=nchan.is_taken,
                )

            sink = websocket_of(server.port, nchan.subscribe_path("events"))
            async with open_load(server, sink, make_poster, plan) as measured:
                yield side_of(measured)

    return open_side


def websocket_of(
    port: int, path: str = CONNECT_PATH, key: str = "none"
) -> Callable[[trio.Nursery, Arrivals], Awaitable[Sink]]:
    """What starts a sink on a WebSocket of a server."""

    async def start_sink(nursery: trio.Nursery, arrivals: Arrivals) -> Sink:
        sink = WebSocketSink(arrivals, path)
        await nursery.start(sink.run, port, key)
        return sink

    return start_sink


def _ndjson_generator(plan: Plan) -> Callable[[Fleet], Poster]:
    def make_poster(fleet: Fleet) -> Poster:
        return plan.generator(fleet, BodyForm.NDJSON, "none")

    return make_poster


@asynccontextmanager
async def loopback(scale: Scale) -> AsyncIterator[Side]:
    """Plain TCP between the two cores, counted in events of 150 bytes."""

    async def push(connection: Loopback) -> None:
        connection.push()

    async with _loopback(push) as side:
        yield side


@asynccontextmanager
async def loopback_by_trio(scale: Scale) -> AsyncIterator[Side]:
    """The same with ``send_all`` of a Trio stream, which is what a server on Trio can reach."""
    async with _loopback(Loopback.push_all) as side:
        yield side


@asynccontextmanager
async def _loopback(push: Callable[[Loopback], Awaitable[None]]) -> AsyncIterator[Side]:
    with open_loopback() as connection:

        async def take_turn() -> Figures:
            rates = []
            with pinned(SERVER_CORE):
                for _ in range(_PUSHES):
                    began_s = time.perf_counter()
                    await push(connection)
                    rates.append(PUSH_BYTES / EVENT_BYTES / (time.perf_counter() - began_s))
            return {"events_per_s": median(rates)}

        yield take_turn
