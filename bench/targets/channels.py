"""P8: 100,000 registered channels that have nothing to send, beside a daemon that has one.

Half are callbacks, half are WebSockets whose client is away; each application has a key.
A round starts the daemon on its folder and stops it again, so the folder has been served
before.  Then a few of the channels are used: they are real.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import trio

from dispatcher.model import ChannelType

from ..daemon import Daemon, open_daemon
from ..goals import Figures, Goal
from ..load.arrivals import Arrivals
from ..load.fleet import BodyForm, Fleet
from ..load.generator import Generator
from ..load.websocket_sink import WebSocketSink
from ..population import Population, Wanted, populate
from ..row import Row, Scale, Side
from ..topology.pipeline import QUIET_S, watch
from . import sides

CHANNELS = 100_000
_IDLE_S = 5.0
_IDLE_S_MIN = 2
_SETTLE_S = 3.0  # from ready to the first look: what a start leaves to do is no idling
_USED = 4  # channels that are sent something; an even number apart, so that they are WebSockets
_MANY = "dispatcher, disk"
_TYPES = (ChannelType.WEB_SOCKET, ChannelType.CALLBACK)
_FLEET = Fleet(events=100, devices=10, lanes=1)


class Idle(msgspec.Struct, frozen=True):
    """A daemon that has nothing to do."""

    rss_bytes: int
    idle_core: float
    start_s: float


async def idle(daemon: Daemon, seconds: float) -> Idle:
    """Look at it for so long."""
    await trio.sleep(_SETTLE_S)
    cpu_s = daemon.server.cpu_s()
    await trio.sleep(seconds)
    idle_core = (daemon.server.cpu_s() - cpu_s) / seconds
    return Idle(daemon.server.rss_bytes(), idle_core, daemon.server.start_s)


async def use(daemon: Daemon, population: Population, number: int) -> None:
    """Send the n-th application something, and prove that it gets that."""
    path = f"/gateway/v1/applications/{Population.name(number)}/events"
    generator = Generator(_FLEET, BodyForm.JSON, population.gateway, body_events=_FLEET.events, path=path)
    arrivals = Arrivals(_FLEET.events)
    arrivals.begin(_FLEET.events)
    async with trio.open_nursery() as nursery:
        await nursery.start(WebSocketSink(arrivals).run, daemon.port, population.keys[number])
        nursery.start_soon(watch, arrivals, _FLEET.events, sides.PATIENCE_S)
        await generator.run(daemon.port, arrivals)
        await arrivals.wait_complete()
        await trio.sleep(QUIET_S)
        nursery.cancel_scope.cancel()
    arrivals.prove(_FLEET)


@contextmanager
def folder_with(count: int) -> Iterator[tuple[Path, Population]]:
    """A data folder with so many channels, which has been served once."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        data = Path(folder, "data")
        population = populate(data, count, Wanted(types=_TYPES))
        with open_daemon(data=data):
            pass  # makes the journal
        yield data, population


@asynccontextmanager
async def beside_one(scale: Scale) -> AsyncIterator[Side]:
    """Each round starts a daemon with one channel, for what it takes by itself, then that with many."""
    count = scale.of(CHANNELS)
    idle_s = max(_IDLE_S * scale.share, _IDLE_S_MIN)
    with folder_with(1) as (one, _), folder_with(count) as (many, population):

        async def take_turn() -> Figures:
            with open_daemon(data=one) as daemon:
                alone = await idle(daemon, idle_s)
            with open_daemon(data=many) as daemon:
                crowd = await idle(daemon, idle_s)
                for number in range(0, count, count // _USED):
                    await use(daemon, population, number)
            return {
                "bytes_each": (crowd.rss_bytes - alone.rss_bytes) / (count - 1),
                "idle_core": crowd.idle_core,
                "start_s": crowd.start_s,
            }

        yield take_turn


P8 = Row(
    name="P8",
    title="100,000 registered idle channels",
    goals=(
        Goal(side=_MANY, figure="bytes_each", at_most=2_000),
        Goal(side=_MANY, figure="idle_core", at_most=0.01),
        Goal(side=_MANY, figure="start_s", at_most=5.0),
    ),
    sides={_MANY: beside_one},
)
