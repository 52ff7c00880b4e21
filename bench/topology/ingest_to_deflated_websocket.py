"""Events posted by a gateway, received over a WebSocket whose client offers permessage-deflate.

python -m bench.topology.ingest_to_deflated_websocket [--quick]
"""

from __future__ import annotations

import trio

from bench.daemon import Daemon
from bench.load.arrivals import Arrivals
from bench.load.deflated_sink import DeflatedSink
from bench.load.http_client import call
from bench.topology.measure import Topology, command


async def open_sink(nursery: trio.Nursery, daemon: Daemon, key: str, arrivals: Arrivals) -> DeflatedSink:
    """Register a WebSocket channel and connect to it."""
    await call(daemon.port, "PUT", "/v2/notification/websocket", key)
    sink = DeflatedSink(arrivals)
    await nursery.start(sink.run, daemon.port, key)
    return sink


TOPOLOGY = Topology("ingest_to_deflated_websocket", open_sink)

if __name__ == "__main__":
    command([TOPOLOGY])()
