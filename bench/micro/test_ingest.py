"""Parsing and routing one request of 7,000 events of about 150 bytes, per shape of body.

Run: ``python -m pytest bench/micro/test_ingest.py --benchmark-only``.  Divide a time by
7,000 for the cost of an event.  The garbage collector stays on, as it is in the daemon.
Each round checks that every event came out, in order.

*scan* is what the daemon does; *strict* has each message judged by the strict path, which
is what messages cost that the scan does not take.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from bench.load.fleet import BodyForm as FleetForm
from bench.load.fleet import Fleet
from dispatcher.core.routing import Router
from dispatcher.model import Notification, Presubscription, Subscription
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.queue.native_scan import NativeScanner
from dispatcher.wire.canonical import read_names
from dispatcher.wire.ingest import BodyForm, Parsed, encode_event, encode_events, parse
from dispatcher.wire.staging import NewStaging, StrictStaging

EVENTS = 7_000
COMPACT = (",", ":")
PAYLOAD = base64.b64encode(b"21.5" + b"x" * 24).decode()


def full(index: int) -> dict[str, Any]:
    ep = f"0190aa11bb220000000000010010{index % 1000:04}"
    return {"ep": ep, "path": "/3303/0/5700", "ct": "text/plain", "payload": PAYLOAD, "max-age": 0}


def sparse(index: int) -> dict[str, Any]:
    ep = full(index)["ep"]
    return {"ep": ep, "path": "/3303/0/5700", "payload": PAYLOAD, "original-ep": "greenhouse-7"}


def strange(index: int) -> dict[str, Any]:
    return {**full(index), "colour": "blue"}


def escaped(index: int) -> dict[str, Any]:
    return {**full(index), "path": "/3303/0/ü", "ct": 'text/"plain"'}


def message(event: dict[str, Any], index: int) -> dict[str, Any]:
    """A notification, or a registration update for every tenth index."""
    return {"notifications": [event]} if index % 10 else {"reg-updates": [{"ep": event["ep"]}]}


Make = Callable[[int], dict[str, Any]]


def json_body(make: Make, separators: tuple[str, str] = COMPACT) -> bytes:
    return json.dumps({"notifications": list(map(make, range(EVENTS)))}, separators=separators).encode()


def ndjson_body(make: Make, separators: tuple[str, str] = COMPACT, *, is_mixed: bool = False) -> bytes:
    messages = (message(make(index), index if is_mixed else 1) for index in range(EVENTS))
    return "\n".join(json.dumps(item, separators=separators) for item in messages).encode()


def fleet_body(form: FleetForm) -> bytes:
    """The events of ``bench/load``, 150 bytes each."""
    return next(Fleet(events=EVENTS, lanes=1).bodies(0, form, EVENTS)).content


BODIES: dict[str, tuple[BodyForm, bytes]] = {
    "json": (BodyForm.JSON, json_body(full)),
    "json-spaced": (BodyForm.JSON, json_body(full, (", ", ": "))),
    "json-sparse": (BodyForm.JSON, json_body(sparse)),
    "json-unknown": (BodyForm.JSON, json_body(strange)),
    "json-escaped": (BodyForm.JSON, json_body(escaped)),
    "ndjson": (BodyForm.NDJSON, ndjson_body(full)),
    "ndjson-spaced": (BodyForm.NDJSON, ndjson_body(full, (", ", ": "))),
    "ndjson-sparse": (BodyForm.NDJSON, ndjson_body(sparse)),
    "ndjson-unknown": (BodyForm.NDJSON, ndjson_body(strange)),
    "ndjson-fleet": (BodyForm.NDJSON, fleet_body(FleetForm.NDJSON)),
    "json-fleet": (BodyForm.JSON, fleet_body(FleetForm.JSON)),
    "ndjson-updates": (BodyForm.NDJSON, ndjson_body(full, is_mixed=True)),
}
EPS = [full(index)["ep"] for index in range(EVENTS)]
FLEET_EPS = [f"{index % 1000:032x}" for index in range(EVENTS)]


SCANNER = NativeScanner()
SCANS: dict[str, NewStaging] = {"scan": SCANNER.staging, "strict": StrictStaging}


@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.benchmark(group="parse 7,000 events")
def test_parse(benchmark: Any, shape: str, scan: str) -> None:
    form, body = BODIES[shape]
    parsed: Parsed = benchmark(parse, body, form, SCANS[scan])
    assert parsed.eps == (
        EPS if "fleet" not in shape else [f"{index % 1000:032x}" for index in range(EVENTS)]
    )


@pytest.mark.benchmark(group="parse 7,000 events")
def test_read_names(benchmark: Any) -> None:
    form, body = BODIES["json"]
    parsed = parse(body, form, SCANNER.staging)
    assert len(benchmark(read_names, parsed.block, parsed.meta)) == EVENTS


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.benchmark(group="parse one event")
def test_parse_one(benchmark: Any, scan: str) -> None:
    body = json.dumps({"notifications": [full(1)]}, separators=COMPACT).encode()
    assert benchmark(parse, body, BodyForm.JSON, SCANS[scan]).events == 1


@pytest.mark.benchmark(group="parse one event")
def test_encode_one_typed_event(benchmark: Any) -> None:
    assert benchmark(encode_event, Notification("node-1", "/3303/0/5700", b"21.5", "text/plain")).events == 1


@pytest.mark.benchmark(group="parse 7,000 events")
def test_encode_typed_events(benchmark: Any) -> None:
    events = [Notification(ep, "/3303/0/5700", b"21.5" + b"x" * 24, "text/plain") for ep in EPS]
    assert benchmark(encode_events, events).eps == EPS


def router(subscriptions: int, *presubscriptions: Presubscription) -> Router:
    found = Router(NativeFinder(bytes(16)))
    found.add_channel(1, 1, 11)
    found.add_channel(1, 2, 12)
    for index in range(subscriptions):
        found.add_subscription(1, Subscription(2, f"elsewhere-{index}", "/3303/0/5700"))
    found.set_presubscriptions(1, 1, presubscriptions)
    return found


ROUTERS: dict[str, Callable[[], Router]] = {
    "every-device": lambda: router(0, Presubscription(resource_paths=("/3303/*",))),
    "by-name": lambda: router(0, Presubscription(endpoint_name="0190*")),
    "1,000-subscriptions": lambda: router(1_000, Presubscription(endpoint_name="0190*")),
    "300,000-subscriptions": lambda: router(300_000, Presubscription(endpoint_name="0190*")),
}


@pytest.mark.parametrize("subscribed", ROUTERS)
@pytest.mark.benchmark(group="route 7,000 events, warm")
def test_route(benchmark: Any, subscribed: str) -> None:
    chosen = ROUTERS[subscribed]()
    form, body = BODIES["ndjson"]

    def fresh() -> tuple[tuple[int, Parsed], dict[str, Any]]:
        return (1, parse(body, form, SCANNER.staging)), {}

    plan = benchmark.pedantic(chosen.plan_routes, setup=fresh, rounds=20, warmup_rounds=2)
    assert plan.routes == [(11, None)]
