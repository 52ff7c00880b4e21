"""Events posted by a gateway, received by an HTTP callback (P2).

python -m bench.topology.ingest_to_callback [--quick]
"""

from __future__ import annotations

import trio

from ..daemon import Daemon
from ..load.arrivals import Arrivals
from ..load.callback_sink import CallbackSink
from ..load.http_client import call
from .measure import Topology, command


async def open_sink(nursery: trio.Nursery, daemon: Daemon, key: str, arrivals: Arrivals) -> CallbackSink:
    """Start a receiver and register it."""
    sink = CallbackSink(arrivals)
    await nursery.start(sink.run)
    await call(daemon.port, "PUT", "/v2/notification/callback", key, {"url": sink.url})
    return sink


TOPOLOGY = Topology("ingest_to_callback", open_sink)

if __name__ == "__main__":
    command([TOPOLOGY])()
