"""A tier that keeps the newest value of each resource, with a queue that is far too small."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from support.daemon import User, log_shown, open_daemon
from support.metrics import assert_balanced, scraped
from support.plain_websocket import open_websocket
from support.receiver import answer, open_receiver
from support.tenants import callback_tenant, key_of, small, until_queue_is_empty, websocket_tenant

pytestmark = pytest.mark.slow

CONFIG = '[tiers.commercial]\noverflow = "keep-latest"\nqueue_bytes = 40000\n'
DEVICES = [f"device-{number}" for number in range(10)]
PATHS = [f"/3303/0/{number}" for number in range(5)]
ROUNDS = 60
ARRIVAL_S = 15.0


class Fleet:
    """Ten devices: each numbers its events, and knows which value of each resource is the newest."""

    def __init__(self) -> None:
        self.number = 0
        self.newest: dict[tuple[str, str], int] = {}
        self.registered: dict[str, list[int]] = {ep: [] for ep in DEVICES}
        self.values = 0

    async def report(self, gateway: User, rounds: int) -> None:
        """Report every resource so many times; each device registers again from time to time."""
        for turn in range(rounds):
            if turn % 20 == 0:
                await gateway.post_events([self._registration(ep) for ep in DEVICES], kind="registrations")
            values = [self._value(ep, path) for path in PATHS for ep in DEVICES]
            self.values += len(values)
            await gateway.post_events(values)

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _registration(self, ep: str) -> dict[str, Any]:
        self.registered[ep].append(self._next())
        return {"ep": ep, "ept": str(self.number)}

    def _value(self, ep: str, path: str) -> dict[str, Any]:
        self.newest[ep, path] = self._next()
        return small(self.number, ep, path)


class Arrived:
    """What an application made of its messages."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[int]] = {}
        self.registered: dict[str, list[int]] = {ep: [] for ep in DEVICES}
        self.order: dict[str, list[int]] = {ep: [] for ep in DEVICES}

    def take(self, messages: Iterable[dict[str, Any]]) -> None:
        for message in messages:
            for name, events in message.items():
                for event in events:
                    number = int(event["ept"] if name == "registrations" else event["max-age"])
                    self.order[event["ep"]].append(number)
                    if name == "registrations":
                        self.registered[event["ep"]].append(number)
                    else:
                        self.values.setdefault((event["ep"], event["path"]), []).append(number)

    def has_all(self, fleet: Fleet) -> bool:
        return {key: numbers[-1] for key, numbers in self.values.items()} == fleet.newest

    def check(self, fleet: Fleet) -> None:
        """Every life-cycle event, the newest value of each resource, in order, and not all values."""
        assert self.has_all(fleet)
        assert self.registered == fleet.registered
        for numbers in self.order.values():
            assert numbers == sorted(set(numbers))
        assert sum(map(len, self.values.values())) < fleet.values / 2


async def test_a_receiver_that_was_down_gets_the_newest_value_of_each_resource(tmp_path: Path) -> None:
    fleet = Fleet()
    refusing = open_receiver(answer(200), otherwise=answer(503))
    async with refusing as old, open_receiver() as new:
        with open_daemon(tmp_path, "--allow-private-callbacks", config=CONFIG) as daemon, log_shown(daemon):
            tenant = await callback_tenant(daemon, old)
            await fleet.report(tenant.gateway, ROUNDS)
            put = await tenant.application.send("PUT", "/v2/notification/callback", {"url": new.url})
            assert put.status == 204
            arrived = Arrived()
            with trio.fail_after(ARRIVAL_S):
                while not arrived.has_all(fleet):
                    await new.wait_requests(len(new.requests) + 1)
                    arrived = Arrived()
                    arrived.take(json.loads(request.body) for request in new.requests[1:])
            metrics = await scraped(daemon)
            logged = daemon.log.read_text()
    arrived.check(fleet)
    assert_balanced(metrics)
    assert metrics["dispatcher_records_queued_total"] == fleet.number
    assert metrics["dispatcher_records_superseded_total"] > fleet.values / 2
    assert metrics["dispatcher_records_dropped_total"] == 0
    assert sum("superseded" in line for line in logged.splitlines()) == 1


async def test_what_was_superseded_stays_so_after_the_daemon_was_killed(tmp_path: Path) -> None:
    fleet = Fleet()
    with open_daemon(tmp_path, config=CONFIG, exit_status=-signal.SIGKILL) as daemon:
        tenant = await websocket_tenant(daemon)
        await fleet.report(tenant.gateway, ROUNDS)
        before = await scraped(daemon)
        assert_balanced(before)
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    with open_daemon(tmp_path, config=CONFIG) as daemon, log_shown(daemon):
        found = await scraped(daemon)
        assert found["dispatcher_records_recovered_total"] == before["dispatcher_queue_records"]
        assert found["dispatcher_queue_bytes"] == before["dispatcher_queue_bytes"]
        for user in (tenant.gateway, tenant.application):
            user.port = daemon.port
        await fleet.report(tenant.gateway, ROUNDS // 2)
        arrived = Arrived()
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            with trio.fail_after(ARRIVAL_S):
                while not arrived.has_all(fleet):
                    arrived.take([await application.message()])
            await until_queue_is_empty(tenant.application)
        after = await scraped(daemon)
    arrived.check(fleet)
    assert_balanced(after)
    assert after["dispatcher_records_superseded_total"] > 0
    assert before["dispatcher_records_dropped_total"] == after["dispatcher_records_dropped_total"] == 0
