"""One gateway, one server, one channel, one application; and a round through them.

    generator (core 1) --POST--> server (core 0) --frames or PUTs--> sink (core 1)

Generator and sink are this process.  A round's time runs from the first byte posted
to the last event received; the proof that all of it arrived follows when the clock
has stopped.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import trio

from ..daemon import Daemon, open_daemon
from ..load.arrivals import Arrivals
from ..load.fleet import EVENT_BYTES, BodyForm, Fleet, NotProven
from ..load.generator import Generator
from ..load.http_client import call
from ..process import ServerProcess
from ..results import Sample

QUIET_S = 0.2  # after the last event: what still comes then has come twice
_WARM_UP_EVENTS = 50_000


class Variant(msgspec.Struct, frozen=True):
    """What runs side by side: the form of the bodies, and what the daemon's 202 promises."""

    form: BodyForm
    durability: str

    def __str__(self) -> str:
        return f"{self.form.value}, {self.durability}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured, and how it is posted."""

    events: int = 2_000_000  # per round
    rounds: int = 5
    devices: int = 1_000
    connections: int = 2
    body_events: int = 5_000  # per request
    ahead_events_max: int = 100_000  # posted and not arrived; far from filling a queue
    queue_bytes: int = 50_000_000  # the daemon's, per channel
    patience_s: float = 10.0  # without any arrival, then something was lost

    def fleet(self, events: int) -> Fleet:
        """The devices of a round of so many events."""
        return Fleet(events=events, devices=self.devices, lanes=self.connections)

    def generator(self, fleet: Fleet, form: BodyForm, key: str) -> Generator:
        """What posts them to a daemon."""
        return Generator(
            fleet, form, key, body_events=self.body_events, ahead_events_max=self.ahead_events_max
        )


class Sink(Protocol):
    """Receives a round's messages into its ``Arrivals``."""

    def begin(self) -> None: ...

    def finish(self) -> None:
        """The clock has stopped: do now what was put off."""


class Poster(Protocol):
    """Posts the events of its fleet."""

    async def run(self, port: int, arrivals: Arrivals) -> None: ...


StartSink = Callable[[trio.Nursery, Arrivals], Awaitable[Sink]]
"""Starts what receives from a server that is ready to be connected to."""

OpenSink = Callable[[trio.Nursery, Daemon, str, Arrivals], Awaitable[Sink]]
"""Registers the channel of the application with this key, and starts what receives."""


class Pipeline:
    """A server with its load, ready for rounds; made by ``open_pipeline`` and ``open_load``."""

    def __init__(self, server: ServerProcess, sink: Sink, arrivals: Arrivals, patience_s: float) -> None:
        self.server = server
        self.arrivals = arrivals
        self._sink = sink
        self._patience_s = patience_s

    async def round(self, fleet: Fleet, poster: Poster) -> Sample:
        """Post everything, receive everything, prove it.  Raises ``NotProven``, ``Refused``."""
        self._sink.begin()
        self.arrivals.begin(fleet.events)
        server, load, started_s = self.server.cpu_s(), time.process_time(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, self.arrivals, fleet.events, self._patience_s)
            await poster.run(self.server.port, self.arrivals)
            await self.arrivals.wait_complete()
            nursery.cancel_scope.cancel()
        load = time.process_time() - load
        await trio.sleep(QUIET_S)
        server = self.server.cpu_s() - server
        self._sink.finish()
        await trio.to_thread.run_sync(self.arrivals.prove, fleet)
        duration_s = self.arrivals.last_at_s - started_s
        return Sample(
            events_per_s=fleet.events / duration_s,
            server_cpu_s_per_million=server / fleet.events * 1e6,
            server_cpu_share=server / duration_s,
            load_cpu_share=load / duration_s,
        )


async def watch(arrivals: Arrivals, events_expected: int, patience_s: float) -> None:
    """Fail when nothing arrives any more; runs until it is cancelled."""
    before = -1
    while arrivals.events != before:
        before = arrivals.events
        await trio.sleep(patience_s)
    raise NotProven(f"{before} of {events_expected} events arrived, then none for {patience_s:g} s")


class Measured(msgspec.Struct):
    """A pipeline and what goes through it in every round."""

    pipeline: Pipeline
    fleet: Fleet
    poster: Poster

    async def round(self) -> Sample:
        """One round; see ``Pipeline.round``."""
        return await self.pipeline.round(self.fleet, self.poster)


def warm_up_events(plan: Plan) -> int:
    """How many events go through before the first round."""
    return min(plan.events, _WARM_UP_EVENTS)


@asynccontextmanager
async def open_load(
    server: ServerProcess,
    start_sink: StartSink,
    make_poster: Callable[[Fleet], Poster],
    plan: Plan,
    event_bytes: int = EVENT_BYTES + 1,
) -> AsyncIterator[Measured]:
    """Start the sink of a server, prepare the rounds, warm up; ``event_bytes`` as for ``Arrivals``."""
    arrivals = Arrivals(plan.events, event_bytes)
    async with trio.open_nursery() as nursery:
        sink = await start_sink(nursery, arrivals)
        pipeline = Pipeline(server, sink, arrivals, plan.patience_s)

        async def prepare(events: int) -> Measured:
            fleet = plan.fleet(events)
            return Measured(pipeline, fleet, await trio.to_thread.run_sync(make_poster, fleet))

        await (await prepare(warm_up_events(plan))).round()
        yield await prepare(plan.events)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_pipeline(open_sink: OpenSink, variant: Variant, plan: Plan) -> AsyncIterator[Measured]:
    """Start a daemon, make keys, register, subscribe to everything, prepare requests, warm up."""
    with open_daemon(queue_bytes=plan.queue_bytes, durability=variant.durability) as daemon:
        gateway, application = daemon.create_key("gateway"), daemon.create_key("application")
        await subscribe_to_all(daemon, application)

        async def start_sink(nursery: trio.Nursery, arrivals: Arrivals) -> Sink:
            return await open_sink(nursery, daemon, application, arrivals)

        def make_poster(fleet: Fleet) -> Poster:
            return plan.generator(fleet, variant.form, gateway)

        async with open_load(daemon.server, start_sink, make_poster, plan) as measured:
            yield measured


async def subscribe_to_all(daemon: Daemon, key: str) -> None:
    """The application gets the events of every device of its account."""
    await call(daemon.port, "PUT", "/v2/subscriptions", key, [{"endpoint-name": "*"}])
