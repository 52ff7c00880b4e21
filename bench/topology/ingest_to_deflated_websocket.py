"""Events posted by a gateway, received over a WebSocket whose client offers permessage-deflate.

python -m bench.topology.ingest_to_deflated_websocket [--quick]
"""

from __future__ import annotations

import trio

from ..daemon import Daemon
from ..load.arrivals import Arrivals
from ..load.deflated_sink import DeflatedSink
from ..load.http_client import call
from .measure import Topology, command


async def open_sink(nursery: trio.Nursery, daemon: Daemon, key: str, arrivals: Arrivals) -> DeflatedSink:
    """Register a WebSocket channel and connect to it."""
    await call(daemon.port, "PUT", "/v2/notification/websocket", key)
    sink = DeflatedSink(arrivals)
    await nursery.start(sink.run, daemon.port, key)
    return sink


TOPOLOGY = Topology("ingest_to_deflated_websocket", open_sink)

if __name__ == "__main__":
    command([TOPOLOGY])()
