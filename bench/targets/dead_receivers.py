"""P10: 1,000 channels of which 200 have dead receivers; what the other 800 keep of their rate and latency.

All sides are posted the same events of 1,000 devices, and the first 800 devices belong to an
application each, on a WebSocket each: these are measured.  So do the other 200 where they are
alive, and the 800 have what they had before those died.  Where they are dead, what they are
sent before the first round fills the buffers of the sockets that are not read: from then on
they block.  A third side has the 800 by themselves: the events of the other devices go to nobody.

A pause of the machine is longer than the hundredth of a second that the p99 is made of.  So
rounds are short, and many: the sides alternate every second or two, and a pause spoils few.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from pathlib import Path

import trio

from dispatcher.config import TierSettings

from ..daemon import Daemon, open_daemon
from ..goals import Figures, Goal, lateness
from ..load.arrivals import Arrivals
from ..load.crowd import Crowd, open_crowd
from ..load.dead_receivers import open_dead
from ..load.fleet import BodyForm, Fleet
from ..load.generator import Generator, all_accepted
from ..load.paced import PacedGenerator
from ..population import Population, Wanted, populate
from ..row import OpenSide, Row, Scale, Side
from ..topology.pipeline import QUIET_S
from ..turns import longest_turn_ms, turn_counts
from . import sides

CHANNELS = 1_000
_DEAD_SHARE = 5  # one in so many
_SHORT_ROUNDS = 10
_DEVICE_EVENTS = 50  # of each device, to show the rate
_BODY_EVENTS = 5_000
_LANES = 4
_PACED_EVENTS = 1_000  # to show the latency
_RATE_PER_S = 1_000
_BESIDE_DEAD, _BESIDE_LIVING, _ALONE = "800 beside 200 dead", "800 beside 200 alive", "800 by themselves"
_KEPT = 0.95
_FILL_EVENTS = 5_000
_TIER = TierSettings(ack_timeout_s=3_600.0)  # else the dead sockets would be closed after two minutes


async def rate(daemon: Daemon, gateway: str, crowd: Crowd, measured: Crowd, fleet: Fleet) -> Figures:
    """Post everything at once; how fast those that are measured have their part of it."""
    generator = Generator(fleet, BodyForm.NDJSON, gateway, body_events=_BODY_EVENTS, check=all_accepted)
    turns = await turn_counts(daemon.port)
    crowd.begin(fleet)
    cpu_s, began_s = daemon.server.cpu_s(), time.perf_counter()
    await generator.run(daemon.port, Arrivals(0))
    await crowd.wait_complete(sides.PATIENCE_S)
    await trio.sleep(QUIET_S)
    cpu_s = daemon.server.cpu_s() - cpu_s
    await trio.to_thread.run_sync(crowd.prove, fleet)
    took_s = measured.last_at_s - began_s
    return {
        "events_per_s": measured.events / took_s,
        "server_cpu_s_per_million": cpu_s / fleet.events * 1e6,
        "server_core": cpu_s / took_s,
        "longest_turn_ms": longest_turn_ms(turns, await turn_counts(daemon.port)),
    }


async def latency(daemon: Daemon, gateway: str, crowd: Crowd, measured: Crowd, fleet: Fleet) -> Figures:
    """Post single events, each at its moment; how late those that are measured have them."""
    generator = PacedGenerator(fleet, gateway, _RATE_PER_S, check=all_accepted)
    crowd.begin(fleet)
    await generator.run(daemon.port, Arrivals(0))
    await crowd.wait_complete(sides.PATIENCE_S)
    await trio.sleep(QUIET_S)
    crowd.prove(fleet)
    return lateness(measured.latencies_s(fleet, generator.moments.due_s))


async def fill_up(daemon: Daemon, population: Population, numbers: Iterable[int]) -> None:
    """Post straight to each of these applications more than a socket's buffers take."""
    fleet = Fleet(events=_FILL_EVENTS, lanes=1)
    for number in numbers:
        path = f"/gateway/v1/applications/{Population.name(number)}/events"
        generator = Generator(fleet, BodyForm.JSON, population.gateway, body_events=_FILL_EVENTS, path=path)
        await generator.run(daemon.port, Arrivals(0))


class Others(Enum):
    """What is with the other 200."""

    DEAD = "they are registered, and receive nothing"
    ALIVE = "they receive"
    ABSENT = "there are none"


def crowd_of(others: Others) -> OpenSide:
    """A daemon with those that are measured, and with the others."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        channels = scale.of(CHANNELS, least=200)
        living = channels - channels // _DEAD_SHARE  # that are measured
        registered = living if others is Others.ABSENT else channels
        crowded = Fleet(events=channels * scale.of(_DEVICE_EVENTS, least=20), devices=channels, lanes=_LANES)
        paced = Fleet(events=max(scale.of(_PACED_EVENTS), channels), devices=channels, lanes=_LANES)
        wanted = Wanted(eps=[f"{device:032x}" for device in range(channels)], tier=_TIER)
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatcher-bench-"))
            data = Path(folder, "data")
            population = populate(data, registered, wanted)
            daemon = stack.enter_context(open_daemon(data=data, durability="memory"))
            keys = population.keys
            if others is Others.DEAD:
                await stack.enter_async_context(open_dead(daemon.port, keys[living:]))
                await fill_up(daemon, population, range(living, channels))
            events_max = max(*crowded.expected(), *paced.expected())
            receiving = channels if others is Others.ALIVE else living
            crowd = await stack.enter_async_context(open_crowd(daemon.port, keys[:receiving], events_max))
            measured = crowd.first(living)

            async def take_turn() -> Figures:
                found = await rate(daemon, population.gateway, crowd, measured, crowded)
                return found | await latency(daemon, population.gateway, crowd, measured, paced)

            await take_turn()
            yield take_turn

    return open_side


P10 = Row(
    name="P10",
    title="1,000 channels, 200 with dead receivers: the other 800",
    goals=(
        Goal(side=_BESIDE_DEAD, figure="events_per_s", at_least=_KEPT, beside=_BESIDE_LIVING),
        Goal(side=_BESIDE_DEAD, figure="p99_ms", at_most=1 / _KEPT, beside=_BESIDE_LIVING),
        Goal(side=_BESIDE_DEAD, figure="longest_turn_ms", at_most=5.0),
    ),
    sides={
        _BESIDE_DEAD: crowd_of(Others.DEAD),
        _BESIDE_LIVING: crowd_of(Others.ALIVE),
        _ALONE: crowd_of(Others.ABSENT),
    },
    short_rounds=_SHORT_ROUNDS,
)
