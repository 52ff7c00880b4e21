"""How long a daemon's event loop was busy at a time, as its metrics say."""

from __future__ import annotations

import re

from .load.http_client import connect, request

_BUCKET = re.compile(rb'dispatcher_loop_turn_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)')

TurnCounts = dict[float, float]
"""Turns until now that took no longer than each bound, in seconds; the last bound is infinity."""


async def turn_counts(port: int) -> TurnCounts:
    """Ask a daemon."""
    async with connect(port) as client:
        reply = await client.send(request("GET", "/metrics", "none"))
    return {float(bound): float(count) for bound, count in _BUCKET.findall(reply.body)}


def longest_turn_ms(before: TurnCounts, after: TurnCounts) -> float:
    """The least bound that all turns between the two kept."""
    grown = {bound: after[bound] - before[bound] for bound in after}
    return min(bound for bound, count in grown.items() if count == max(grown.values())) * 1e3
