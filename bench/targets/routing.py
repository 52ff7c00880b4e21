"""P12: routing an event with a million subscriptions, beside routing it with a thousand.

The events are of the same thousand resources.  Both routers are asked in turn in this
process, as `bench/micro/test_routing_scale.py` asks them too.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import trio

from ..goals import Figures, Goal
from ..routers import EVENTS, FEW, MANY, RATIO_MAX, cost_ns, subscribed
from ..row import OpenSide, Row, Scale, Side

_REQUESTS = 10  # of a round


def with_subscriptions(full: int) -> OpenSide:
    """A router with so many."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        router = await trio.to_thread.run_sync(subscribed, full if full == FEW else scale.of(full))
        dice = random.Random(full)

        async def take_turn() -> Figures:
            costs = [cost_ns(router, [dice.randrange(FEW) for _ in range(EVENTS)]) for _ in range(_REQUESTS)]
            return {"ns_per_event": median(costs)}

        await take_turn()
        yield take_turn

    return open_side


_MANY, _FEW = f"{MANY:,} subscriptions", f"{FEW:,} subscriptions"

P12 = Row(
    name="P12",
    title="routing an event",
    goals=(Goal(side=_MANY, figure="ns_per_event", at_most=RATIO_MAX, beside=_FEW),),
    sides={_MANY: with_subscriptions(MANY), _FEW: with_subscriptions(FEW)},
)
