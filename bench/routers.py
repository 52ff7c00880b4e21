"""Routers with few and with very many subscriptions, and what an event costs them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from dispatcher.core.routing import Router
from dispatcher.model import Subscription
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.wire.ingest import BodyForm, Parsed, parse

EVENTS = 7_000  # of a request
FEW, MANY = 1_000, 1_000_000
PATH = "/3303/0/5700"
RATIO_MAX = 1.5


def name(index: int) -> str:
    return f"0190aa11bb2200000000{index:012}"


def subscribed(count: int) -> Router:
    router = Router(NativeFinder(os.urandom(16)))
    router.add_channel(1, 1, 11)
    for index in range(count):
        router.add_subscription(1, Subscription(1, name(index), PATH))
    return router


def request(indices: Sequence[int]) -> Parsed:
    lines = [
        f'{{"notifications":[{{"ep":"{name(index)}","path":"{PATH}","ct":"","payload":"","max-age":0}}]}}'
        for index in indices
    ]
    return parse("\n".join(lines).encode(), BodyForm.NDJSON)


def cost_ns(router: Router, indices: Sequence[int]) -> float:
    parsed = request(indices)
    began_ns = time.thread_time_ns()
    plan = router.plan_routes(1, parsed)
    took_ns = time.thread_time_ns() - began_ns
    assert plan.routes == [(11, None)]
    return took_ns / EVENTS
