"""P12: the cost of routing an event with a million subscriptions beside that with a thousand.

Run: ``python -m pytest bench/micro/test_routing_scale.py -s``.  The two routers are asked in turn,
request by request, in one process, so that the ratio holds on a noisy machine; every
answer is checked.  Time is that of the thread, as others may have the core in between.  Two
loads: events of the same thousand resources, and events spread evenly over all that are
subscribed.  The second one measures memory: each event's slot and edge come from
pages that no cache holds.

What a subscription takes of memory, and the longest that one stops the program, are printed too.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import time
from pathlib import Path

import pytest

from bench.routers import EVENTS, FEW, MANY, PATH, RATIO_MAX, cost_ns, name, subscribed
from dispatcher.core.routing import Router
from dispatcher.model import Subscription
from dispatcher.queue.native_routes import NativeFinder

ROUNDS = 40
SPREAD_RATIO_MAX = 3.0  # 1.5 where the machine gives large pages, and nobody else uses its caches
SUBSCRIPTION_BYTES_MAX = 80


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def routers() -> tuple[Router, Router]:
    return subscribed(FEW), subscribed(MANY)


@pytest.mark.parametrize("spread", ["the same thousand resources", "all that are subscribed"])
def test_a_million_subscriptions_route_at_the_cost_of_a_thousand(
    routers: tuple[Router, Router], spread: str
) -> None:
    dice = random.Random(12)
    few, many = routers
    drawn_from = FEW if spread.startswith("the same") else MANY
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 3):  # the first ones warm up
        costs[0].append(cost_ns(few, [dice.randrange(FEW) for _ in range(EVENTS)]))
        costs[1].append(cost_ns(many, [dice.randrange(drawn_from) for _ in range(EVENTS)]))
    few_ns, many_ns = (statistics.median(cost[3:]) for cost in costs)
    print(f"\n{spread}: {few_ns:.0f} ns with {FEW:,}, {many_ns:.0f} ns with {MANY:,}: {many_ns / few_ns:.2f}")
    assert many_ns <= (RATIO_MAX if drawn_from == FEW else SPREAD_RATIO_MAX) * few_ns


def test_a_million_subscriptions_take_little_memory_and_none_takes_long() -> None:
    router = Router(NativeFinder(os.urandom(16)))
    gc.collect()
    gc.disable()  # its pauses are those of whatever else lives in this process
    try:
        before_bytes, began_ns, longest_ns = resident_bytes(), time.thread_time_ns(), 0
        for index in range(MANY):
            subscription = Subscription(1, name(index), PATH)
            at_ns = time.thread_time_ns()
            router.add_subscription(1, subscription)
            longest_ns = max(longest_ns, time.thread_time_ns() - at_ns)
        took_ns = time.thread_time_ns() - began_ns
    finally:
        gc.enable()
    each_bytes = (resident_bytes() - before_bytes) / MANY
    print(
        f"\na subscription of {MANY:,}: {each_bytes:.0f} bytes, {took_ns / MANY / 1e3:.1f} us, "
        f"the longest {longest_ns / 1e6:.1f} ms"
    )
    assert each_bytes <= SUBSCRIPTION_BYTES_MAX
