"""P4: a backlog is drained: 300,000 stored events, to a WebSocket that opens, to a callback that answers.

The WebSocket's clock starts with its handshake.  The callback's starts when its receiver
answers the first request, which it has held until everything was stored; that
request's events do not count.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from ..daemon import Daemon, open_daemon
from ..goals import Figures, Goal
from ..load.arrivals import Arrivals
from ..load.callback_sink import CallbackSink
from ..load.fleet import BodyForm, Fleet
from ..load.generator import Generator
from ..load.http_client import call
from ..load.websocket_sink import WebSocketSink
from ..row import Row, Scale, Side
from ..topology.pipeline import QUIET_S, subscribe_to_all, watch
from . import sides

BACKLOG_EVENTS = 300_000
_QUEUE_BYTES = 200_000_000  # the backlog, with room to spare
_BODY_EVENTS = 5_000
_LANES = 2
_SHORT_ROUNDS = 5  # a backlog lasts 30 to 50 ms, a pause of the machine as long
_WEBSOCKET, _CALLBACK, _TRIO = "WebSocket", "callback", "send_all of Trio"
_RATE = "events_per_s"


class Backlog(msgspec.Struct):
    """A daemon, and what fills its queue again for each round."""

    daemon: Daemon
    application: str  # its key
    fleet: Fleet
    generator: Generator
    arrivals: Arrivals

    async def store(self) -> None:
        """Post everything; nothing is received meanwhile."""
        self.arrivals.begin(self.fleet.events)
        await self.generator.run(self.daemon.port, self.arrivals)

    async def drain(self, start: Callable[[], None]) -> Figures:
        """Let it flow, prove it; what has arrived before ``start`` does not count."""
        before = self.arrivals.events
        server, began_s = self.daemon.server.cpu_s(), time.perf_counter()
        start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, self.arrivals, self.fleet.events, sides.PATIENCE_S)
            await self.arrivals.wait_complete()
            nursery.cancel_scope.cancel()
        await trio.sleep(QUIET_S)
        server = self.daemon.server.cpu_s() - server
        await trio.to_thread.run_sync(self.arrivals.prove, self.fleet)
        drained, took_s = self.fleet.events - before, self.arrivals.last_at_s - began_s
        return {
            "events_per_s": drained / took_s,
            "server_cpu_s_per_million": server / drained * 1e6,
        }


@asynccontextmanager
async def open_backlog(scale: Scale) -> AsyncIterator[Backlog]:
    """A daemon whose one application subscribes to everything; its channel is still to be registered."""
    fleet = Fleet(events=scale.of(BACKLOG_EVENTS, least=100_000), lanes=_LANES)
    with open_daemon(queue_bytes=_QUEUE_BYTES, durability="memory") as daemon:
        gateway, application = daemon.create_key("gateway"), daemon.create_key("application")
        generator = Generator(fleet, BodyForm.NDJSON, gateway, body_events=_BODY_EVENTS)
        await subscribe_to_all(daemon, application)
        yield Backlog(daemon, application, fleet, generator, Arrivals(fleet.events))


@asynccontextmanager
async def to_websocket(scale: Scale) -> AsyncIterator[Side]:
    """Each round opens a socket of its own."""
    async with open_backlog(scale) as backlog:
        await call(backlog.daemon.port, "PUT", "/v2/notification/websocket", backlog.application)

        async def take_turn() -> Figures:
            await backlog.store()
            async with trio.open_nursery() as nursery:
                sink = WebSocketSink(backlog.arrivals)

                def connect() -> None:
                    nursery.start_soon(sink.run, backlog.daemon.port, backlog.application)

                drained = await backlog.drain(connect)
                nursery.cancel_scope.cancel()
            return drained

        yield take_turn


@asynccontextmanager
async def to_callback(scale: Scale) -> AsyncIterator[Side]:
    """Each round holds its first request until everything is stored."""
    async with open_backlog(scale) as backlog, trio.open_nursery() as nursery:
        sink = CallbackSink(backlog.arrivals)
        await nursery.start(sink.run)
        await call(
            backlog.daemon.port, "PUT", "/v2/notification/callback", backlog.application, {"url": sink.url}
        )

        async def take_turn() -> Figures:
            sink.begin()
            sink.hold()
            await backlog.store()
            await backlog.arrivals.wait_until(1)
            return await backlog.drain(sink.release)

        yield take_turn
        nursery.cancel_scope.cancel()


P4 = Row(
    name="P4",
    title="drain of a backlog of 300,000",
    goals=(
        Goal(side=_WEBSOCKET, figure=_RATE, at_least=10_000_000),
        Goal(side=_CALLBACK, figure=_RATE, at_least=8_000_000),
        Goal(side=_WEBSOCKET, figure=_RATE, at_least=0.6, beside=_TRIO),
        Goal(side=_CALLBACK, figure=_RATE, at_least=0.6, beside=_TRIO),
    ),
    sides={_WEBSOCKET: to_websocket, _CALLBACK: to_callback, _TRIO: sides.loopback_by_trio},
    short_rounds=_SHORT_ROUNDS,
)
