from __future__ import annotations

import pytest
import trio
import trio.testing

from dispatcher import limits
from dispatcher.cli.demo_fleet import Fleet
from dispatcher.cli.demo_plan import DemoPlan
from dispatcher.errors import Unavailable
from dispatcher.wire.gateway_api import Accepted
from dispatcher.wire.ingest import BodyForm


class Gateway:
    """Takes bodies as a dispatcher would, each in ``post_s`` of the mock clock."""

    def __init__(self, post_s: float = 0.0) -> None:
        self.bodies: list[list[bytes]] = []
        self.posted_at_s: list[float] = []
        self.keys: list[str | None] = []
        self._post_s = post_s

    async def post(self, body: bytes, form: BodyForm, *, idempotency_key: str | None = None) -> Accepted:
        assert form is BodyForm.NDJSON
        self.posted_at_s.append(trio.current_time())
        self.keys.append(idempotency_key)
        self.bodies.append(body.splitlines())
        await trio.sleep(self._post_s)
        count = len(self.bodies[-1])
        return Accepted(accepted=count, queued=2 * count, unrouted=0, rejected=0, durability="memory")


def fleet(gateway: Gateway, *, seconds: float = 1, devices: int = 3, rate: int = 1000) -> Fleet:
    return Fleet(DemoPlan(seconds=seconds, devices=devices, rate=rate), gateway)  # type: ignore[arg-type]


async def test_every_device_registers_once() -> None:
    gateway = Gateway()
    some = fleet(gateway, devices=limits.DEMO_BODY_EVENTS_MAX + 1)
    await some.register()
    lines = [line for body in gateway.bodies for line in body]
    assert [len(body) for body in gateway.bodies] == [limits.DEMO_BODY_EVENTS_MAX, 1]
    assert len(set(lines)) == len(lines)
    assert all(b'"registrations"' in line for line in lines)


async def test_the_rate_is_kept_tick_by_tick(autojump_clock: trio.testing.MockClock) -> None:
    gateway = Gateway()
    some = fleet(gateway)
    await some.run(0.0)
    assert some.posted == 1000
    assert some.total.queued == 2000
    assert {len(body) for body in gateway.bodies} == {20}
    assert gateway.posted_at_s[-1] == pytest.approx(1.0)


async def test_a_slow_dispatcher_gets_larger_bodies_and_every_event_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gateway = Gateway(post_s=0.1)
    some = fleet(gateway)
    await some.run(0.0)
    assert some.posted == 1000
    assert len(gateway.bodies) <= 12
    assert len({line for body in gateway.bodies for line in body}) == 1000


async def test_a_fleet_that_is_far_behind_stops(autojump_clock: trio.testing.MockClock) -> None:
    some = fleet(Gateway(post_s=10.0))
    await some.run(0.0)
    assert 0 < some.posted < 1000
    assert trio.current_time() == pytest.approx(10.02)


async def test_no_two_requests_have_the_same_idempotency_key() -> None:
    gateway = Gateway()
    some = fleet(gateway, seconds=0.1)
    await some.register()
    await some.run(trio.current_time() - 1.0)
    assert len(gateway.keys) == len(set(gateway.keys)) > 1


async def test_what_the_gateway_cannot_post_ends_the_run() -> None:
    class Broken(Gateway):
        async def post(self, *arguments: object, **others: object) -> Accepted:
            raise Unavailable("no")

    with pytest.raises(Unavailable):
        await fleet(Broken()).register()
