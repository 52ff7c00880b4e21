"""P9: the memory of a server per WebSocket on which nothing happens.

What it holds with many sockets open, less what it held before, divided by their
number; after a first crowd has come and gone, so that what the first ones make a
server allocate is not counted.  Each round has a server of its own: one that had
them before would take the memory that it kept.  Then each socket receives one message.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dispatcher.config import TierSettings

from ..daemon import open_daemon
from ..goals import Figures, Goal
from ..load.generator import EVENTS_PATH, all_accepted
from ..load.http_client import connect, request
from ..load.idle_sockets import open_idle, sockets_max
from ..load.websocket_sink import CONNECT_PATH
from ..peers import nchan
from ..population import Wanted, populate
from ..process import ServerProcess, open_server
from ..row import Row, Scale, Side

SOCKETS = 8_000
_FIRST_SHARE = 40  # one in so many belongs to the crowd that comes and goes
_SETTLE_S = 1.0
_DISPATCHER, _NCHAN, _TRIO = "dispatcher", "Nchan", "Trio stream + task"
_PING_INTERVAL_S = 3_600.0  # else the first sockets would be pinged while the last are being opened
_MARK = b"dev-of-the-benchmark"
_IDLE_SERVER = Path(__file__).parents[1] / "peers" / "idle_server.py"

Speak = Callable[[], Awaitable[None]]
"""Makes the server send each socket one message that holds ``_MARK``."""


async def weigh(server: ServerProcess, targets: Sequence[tuple[str, str]], speak: Speak | None) -> Figures:
    """The bytes of each of the sockets at these paths and keys, while all are open.

    Blocks while it opens them.  ``speak`` None: the server has nothing to say.
    """
    with open_idle(server.port, targets[: len(targets) // _FIRST_SHARE]):
        pass
    await trio.sleep(_SETTLE_S)
    before_bytes = server.rss_bytes()
    with open_idle(server.port, targets) as sockets:
        await trio.sleep(_SETTLE_S)
        after_bytes = server.rss_bytes()
        if speak is not None:
            await speak()
            for one in sockets:
                one.expect(_MARK)
    return {"bytes_each": (after_bytes - before_bytes) / len(targets)}


def _count(scale: Scale) -> int:
    return min(scale.of(SOCKETS), sockets_max())


@asynccontextmanager
async def of_dispatcher(scale: Scale) -> AsyncIterator[Side]:
    """Each socket belongs to an application of its own; a device's registration is told to all."""
    wanted = Wanted(tier=TierSettings(ping_interval_s=_PING_INTERVAL_S))
    body = b'{"registrations":[{"ep":"%s","resources":[]}]}' % _MARK
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        data = Path(folder, "data")
        population = populate(data, _count(scale), wanted)
        announcement = request("POST", EVENTS_PATH, population.gateway, body)

        async def take_turn() -> Figures:
            with open_daemon(data=data, durability="memory") as daemon:

                async def speak() -> None:
                    async with connect(daemon.port) as client:
                        all_accepted(await client.send(announcement), 1)

                return await weigh(daemon.server, [(CONNECT_PATH, key) for key in population.keys], speak)

        yield take_turn


@asynccontextmanager
async def of_nchan(scale: Scale) -> AsyncIterator[Side]:
    """Each socket listens on a channel of its own."""
    channels = [f"channel-{number}" for number in range(_count(scale))]
    targets = [(nchan.subscribe_path(channel), "none") for channel in channels]
    posts = [request("POST", nchan.publish_path(channel), "none", _MARK) for channel in channels]
    with nchan.open_nchan():
        pass  # it is there

    async def take_turn() -> Figures:
        with nchan.open_nchan() as server:

            async def speak() -> None:
                async with connect(server.port) as client:
                    for post in posts:
                        nchan.is_taken(await client.send(post), 1)

            return await weigh(server, targets, speak)

    yield take_turn


@asynccontextmanager
async def of_trio(scale: Scale) -> AsyncIterator[Side]:
    """`bench/peers/idle_server.py`."""
    targets = [("/", "none")] * _count(scale)

    async def take_turn() -> Figures:
        with (
            tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder,
            open_server([sys.executable, _IDLE_SERVER], Path(folder, "log")) as server,
        ):
            return await weigh(server, targets, None)

    yield take_turn


P9 = Row(
    name="P9",
    title=f"{SOCKETS:,} idle WebSockets",
    goals=(
        Goal(side=_DISPATCHER, figure="bytes_each", at_most=12_000),
        Goal(side=_DISPATCHER, figure="bytes_each", at_most=1.1, beside=_NCHAN),
    ),
    sides={_DISPATCHER: of_dispatcher, _NCHAN: of_nchan, _TRIO: of_trio},
)
