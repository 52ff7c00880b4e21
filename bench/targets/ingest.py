"""P1 and P2: HTTP ingest to one WebSocket, and to one callback."""

from __future__ import annotations

from ..goals import Goal
from ..load.fleet import BodyForm
from ..row import Row
from ..topology import ingest_to_callback, ingest_to_websocket
from . import sides

_MEMORY, _DISK = "dispatcher, memory", "dispatcher, disk"
_NODE, _NODE_PARSING = "Node", "Node, JSON.parse"
_LOOPBACK = "loopback"
_RATE = "events_per_s"
_POST_EVENTS = 5_000  # in one send of a peer

P1 = Row(
    name="P1",
    title="HTTP ingest to a WebSocket, `memory`",
    goals=(
        Goal(side=_MEMORY, figure=_RATE, at_least=3_000_000),
        Goal(side=_MEMORY, figure=_RATE, at_least=1.6, beside=_NODE),
        Goal(side=_MEMORY, figure=_RATE, at_least=5.0, beside=_NODE_PARSING),
        Goal(side=_MEMORY, figure=_RATE, at_least=0.11, beside=_LOOPBACK),
    ),
    sides={
        _MEMORY: sides.through_daemon(ingest_to_websocket.open_sink, BodyForm.NDJSON, "memory"),
        _NODE: sides.through_node_to_websocket(),
        _NODE_PARSING: sides.through_node_to_websocket("--parse"),
        "NATS, one per message": sides.through_nats(_POST_EVENTS),
        "Nchan, 5,000 per message": sides.through_nchan(_POST_EVENTS),
        _LOOPBACK: sides.loopback,
    },
)

P2 = Row(
    name="P2",
    title="HTTP ingest to a callback, `disk`",
    goals=(
        Goal(side=_DISK, figure=_RATE, at_least=2_200_000),
        Goal(side=_DISK, figure=_RATE, at_least=1.5, beside=_NODE),
        Goal(side=_DISK, figure=_RATE, at_least=0.6, beside=_MEMORY),
    ),
    sides={
        _DISK: sides.through_daemon(ingest_to_callback.open_sink, BodyForm.NDJSON, "disk"),
        _MEMORY: sides.through_daemon(ingest_to_callback.open_sink, BodyForm.NDJSON, "memory"),
        _NODE: sides.through_node_to_callback(),
    },
)
