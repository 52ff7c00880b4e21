"""Events posted by a gateway, received over a WebSocket (P1), by a client that may offer permessage-deflate.

python -m bench ingest_to_websocket [--quick]
python -m bench ingest_to_deflated_websocket [--quick]
"""

from __future__ import annotations

from functools import partial

import trio

from ..daemon import Daemon
from ..load.arrivals import Arrivals
from ..load.deflated_sink import DeflatedSink
from ..load.http_client import call
from ..load.websocket_sink import WebSocketSink
from .measure import Topology, command

AnySink = WebSocketSink | DeflatedSink


async def _open(
    make: type[AnySink], nursery: trio.Nursery, daemon: Daemon, key: str, arrivals: Arrivals
) -> AnySink:
    """Register a WebSocket channel and connect to it."""
    await call(daemon.port, "PUT", "/v2/notification/websocket", key)
    sink = make(arrivals)
    await nursery.start(sink.run, daemon.port, key)
    return sink


open_sink = partial(_open, WebSocketSink)

TOPOLOGY = Topology("ingest_to_websocket", open_sink)
DEFLATED = Topology("ingest_to_deflated_websocket", partial(_open, DeflatedSink))

if __name__ == "__main__":
    command([TOPOLOGY])()
