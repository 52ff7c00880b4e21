"""P12: the cost of routing an event with a million subscriptions beside that with a thousand.

Run: ``python -m pytest bench/micro/test_routing_scale.py -s``.  The two routers are asked in turn,
request by request, in one process, so that the ratio holds on a noisy machine; every
answer is checked.  Two loads: events of the same thousand resources, which the target is
about, and events spread evenly over all that are subscribed.  The second one measures how
far memory is: each event's subscription comes from another page that no cache holds,
and takes as long as three such fetches take on the machine.  It is printed, and judged loosely.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence

import pytest

from dispatcher.core.routing import Router
from dispatcher.model import Subscription
from dispatcher.wire.ingest import BodyForm, Parsed, parse

EVENTS = 7_000
ROUNDS = 40
FEW, MANY = 1_000, 1_000_000
PATH = "/3303/0/5700"
RATIO_MAX = 1.5
SPREAD_COST_MAX_NS = 10_000.0  # a table that is searched, or a cache that is too small, costs more


def name(index: int) -> str:
    return f"0190aa11bb2200000000{index:012}"


def subscribed(count: int) -> Router:
    router = Router()
    router.add_channel(1, 1, 11)
    for index in range(count):
        router.add_subscription(1, Subscription(1, name(index), PATH))
    return router


def request(indices: Sequence[int]) -> Parsed:
    """As it comes off the wire: strings whose hash is not known yet."""
    lines = [
        f'{{"notifications":[{{"ep":"{name(index)}","path":"{PATH}","ct":"","payload":"","max-age":0}}]}}'
        for index in indices
    ]
    return parse("\n".join(lines).encode(), BodyForm.NDJSON)


def cost_ns(router: Router, indices: Sequence[int]) -> float:
    parsed = request(indices)
    began_ns = time.perf_counter_ns()
    plan = router.plan_routes(1, parsed)
    took_ns = time.perf_counter_ns() - began_ns
    assert plan.routes == [(11, None)]
    return took_ns / EVENTS


@pytest.mark.parametrize("spread", ["the same thousand resources", "all that are subscribed"])
def test_a_million_subscriptions_route_at_the_cost_of_a_thousand(spread: str) -> None:
    dice = random.Random(12)
    few, many = subscribed(FEW), subscribed(MANY)
    drawn_from = FEW if spread.startswith("the same") else MANY
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 3):  # the first ones warm up
        costs[0].append(cost_ns(few, [dice.randrange(FEW) for _ in range(EVENTS)]))
        costs[1].append(cost_ns(many, [dice.randrange(drawn_from) for _ in range(EVENTS)]))
    few_ns, many_ns = (statistics.median(cost[3:]) for cost in costs)
    print(f"\n{spread}: {few_ns:.0f} ns with {FEW:,}, {many_ns:.0f} ns with {MANY:,}: {many_ns / few_ns:.2f}")
    if drawn_from == FEW:
        assert many_ns <= RATIO_MAX * few_ns
    else:
        assert many_ns <= SPREAD_COST_MAX_NS
