"""P6: single small POSTs on 64 connections, beside h11 on Trio that answers and does nothing else.

To the daemon's time belong its checks, routing and queue.  In one side the events are
delivered to a WebSocket meanwhile; in the other they stay in the queue until the
clock has stopped.  Either way all of them are proven.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from ..daemon import open_daemon
from ..goals import Figures, Goal
from ..load.arrivals import LONE_EVENT_BYTES, Arrivals
from ..load.http_client import call
from ..load.small_posts import Posted, fleet_of, open_poster
from ..load.websocket_sink import WebSocketSink
from ..process import ServerProcess, open_server
from ..row import OpenSide, Row, Scale, Side
from ..topology.pipeline import QUIET_S, subscribe_to_all, watch
from . import sides

CONNECTIONS = 64
_EVENTS = 30_000  # of a round
_DELIVERED, _STORED = "dispatcher, delivering", "dispatcher, storing"
_H11 = "h11 on Trio"
_RATE = "requests_per_s"
_H11_SERVER = Path(__file__).parents[1] / "peers" / "h11_server.py"


async def post(server: ServerProcess, poster: ServerProcess) -> Figures:
    """One round of requests."""
    cpu_s = server.cpu_s()
    poster.tell("go")
    line = await trio.to_thread.run_sync(poster.hear)
    posted = msgspec.json.decode(line or "null", type=Posted)
    cpu_s = server.cpu_s() - cpu_s
    return {
        "requests_per_s": posted.requests / posted.took_s,
        "server_cpu_s_per_million": cpu_s / posted.requests * 1e6,
        "server_core": cpu_s / posted.took_s,
        "load_core": posted.cpu_s / posted.took_s,
    }


def through_daemon(*, is_delivered: bool) -> OpenSide:
    """Posted to a daemon of `memory` durability; received meanwhile, or afterwards."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        events = scale.of(_EVENTS, least=64 * CONNECTIONS)
        fleet = fleet_of(events, CONNECTIONS)
        arrivals = Arrivals(events, LONE_EVENT_BYTES)
        with open_daemon(durability="memory") as daemon, tempfile.TemporaryDirectory() as folder:
            gateway, application = daemon.create_key("gateway"), daemon.create_key("application")
            await subscribe_to_all(daemon, application)
            await call(daemon.port, "PUT", "/v2/notification/websocket", application)
            with open_poster(
                Path(folder, "log"), connections=CONNECTIONS, events=events, port=daemon.port, key=gateway
            ) as poster:

                async def take_turn() -> Figures:
                    arrivals.begin(events)
                    async with trio.open_nursery() as nursery:
                        sink = WebSocketSink(arrivals)
                        if is_delivered:
                            await nursery.start(sink.run, daemon.port, application)
                        found = await post(daemon.server, poster)
                        if not is_delivered:
                            await nursery.start(sink.run, daemon.port, application)
                        nursery.start_soon(watch, arrivals, events, sides.PATIENCE_S)
                        await arrivals.wait_complete()
                        await trio.sleep(QUIET_S)
                        nursery.cancel_scope.cancel()
                    await trio.to_thread.run_sync(arrivals.prove, fleet)
                    return found

                yield take_turn

    return open_side


@asynccontextmanager
async def through_h11(scale: Scale) -> AsyncIterator[Side]:
    """Posted to `bench/peers/h11_server.py`."""
    events = scale.of(_EVENTS, least=64 * CONNECTIONS)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, _H11_SERVER]
        with (
            open_server(command, Path(folder, "server.log")) as server,
            open_poster(
                Path(folder, "log"), connections=CONNECTIONS, events=events, port=server.port, key="none"
            ) as poster,
        ):

            async def take_turn() -> Figures:
                return await post(server, poster)

            yield take_turn


P6 = Row(
    name="P6",
    title="single small POSTs, 64 connections",
    goals=(
        Goal(side=_DELIVERED, figure=_RATE, at_least=10_000),
        Goal(side=_DELIVERED, figure=_RATE, at_least=0.8, beside=_H11),
        Goal(side=_STORED, figure=_RATE, at_least=0.8, beside=_H11),
    ),
    sides={
        _DELIVERED: through_daemon(is_delivered=True),
        _STORED: through_daemon(is_delivered=False),
        _H11: through_h11,
    },
)
