"""The directory of devices as applications see it; the whole dispatcher, on a mock clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from support.api_in_process import UNIX_S, Caller, House, SlowRegistry, open_house
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.model import Role
from dispatcher.registry.memory import MemoryRegistry

RESOURCES = [{"path": "/3/0/1", "rt": "r", "ct": "text/plain", "obs": True, "if": "i"}, {"path": "/3/0/2"}]
DEVICE = {"ep": "d", "resources": RESOURCES}


async def listing(caller: Caller, ep: str = "d") -> Any:
    reply = await caller.send("GET", f"/v2/endpoints/{ep}")
    return json.loads(reply.body) if reply.status == 200 else reply.status


async def test_a_registered_device_is_listed_with_its_resources(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        assert await listing(house.app) == 404
        await house.gateway.post({"registrations": [DEVICE]})
        assert await listing(house.app) == [
            {"uri": "/3/0/1", "obs": True, "rt": "r", "type": "text/plain"},
            {"uri": "/3/0/2", "obs": False},
        ]
        await house.gateway.post({"reg-updates": [{"ep": "d"}]})
        assert len(await listing(house.app)) == 2
        await house.gateway.post({"registrations": [{"ep": "d"}]})
        assert await listing(house.app) == []


async def test_another_account_s_device_is_as_unknown_as_none(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [DEVICE]})
        stranger = await house.caller(Role.APPLICATION, "other")
        assert await listing(stranger) == 404
        assert (await house.gateway.send("GET", "/v2/endpoints/d")).status == 403


async def test_a_device_that_left_is_not_listed(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [DEVICE], "de-registrations": ["d"]})
        assert await listing(house.app) == 404


async def test_what_goes_straight_to_one_application_makes_no_device(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        reply = await house.gateway.send(
            "POST", "/gateway/v1/applications/app/events", {"registrations": [DEVICE]}
        )
        assert reply.status == 202
        assert await listing(house.app) == 404


async def test_a_registration_that_runs_out_is_told_once_and_leaves_the_directory(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house:
        await house.events()  # makes the channel
        for _ in range(3):
            await house.gateway.post({"reg-updates": [{**DEVICE, "lt": 60}]})
            await trio.sleep(59)
        assert len(await listing(house.app)) == 2
        assert {kind for kind, _ in await house.events()} == {"reg-updates"}
        await trio.sleep(2)
        assert await listing(house.app) == 404
        assert await house.events() == [("registrations-expired", "d")]
        await trio.sleep(86_400)
        assert await house.events() == []


async def test_a_shorter_lifetime_is_noticed_while_a_longer_one_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [{"ep": "slow", "lt": 86_400}]})
        await trio.sleep(1)
        await house.gateway.post({"registrations": [{**DEVICE, "lt": 5}]})
        await trio.sleep(5.1)
        assert await listing(house.app) == 404
        assert await listing(house.app, "slow") == []


async def test_a_registration_refreshed_while_it_is_found_out_does_not_run_out(
    autojump_clock: MockClock,
) -> None:
    async with open_house(SlowRegistry()) as house:
        began_s = trio.current_time()
        await house.gateway.post({"registrations": [{**DEVICE, "lt": 10}]})
        await trio.sleep_until(began_s + 10.5)  # it has run out, and the registry is being asked
        await house.gateway.post({"reg-updates": [{"ep": "d"}]})
        assert len(await listing(house.app)) == 2
        await trio.sleep(5)
        assert len(await listing(house.app)) == 2


async def test_a_lifetime_noted_while_the_registry_is_asked_is_not_overlooked(
    autojump_clock: MockClock,
) -> None:
    async with open_house(SlowRegistry()) as house:
        began_s = trio.current_time()
        await house.gateway.post({"registrations": [{"ep": "long", "lt": 10}]})
        await trio.sleep_until(began_s + 5)
        await house.gateway.post({"reg-updates": [{"ep": "long", "lt": 1000}]})
        await trio.sleep_until(began_s + 10.5)  # the look at the old moment has begun
        await house.gateway.post({"registrations": [{**DEVICE, "lt": 5}]})
        await trio.sleep(10)
        assert await listing(house.app) == 404


async def test_the_directory_survives_and_nothing_runs_out_before_gateways_are_back(
    autojump_clock: MockClock,
) -> None:
    registry = MemoryRegistry()
    async with open_house(registry) as house:
        await house.gateway.post({"registrations": [{**DEVICE, "lt": 60, "ept": "T"}]})
    async with open_house(registry, grace_s=300, unix_s=UNIX_S + 86_400) as house:
        assert len(await listing(house.app)) == 2
        assert house.hub.parts.router.device_type(house.application.account_id, "d") == "T"
        await trio.sleep(200)
        await house.gateway.post({"reg-updates": [{"ep": "d", "lt": 3600}]})
        await trio.sleep(3000)
        assert len(await listing(house.app)) == 2
        await trio.sleep(1000)
        assert await listing(house.app) == 404


async def test_a_directory_on_disk_is_there_before_the_202(tmp_path: Path) -> None:
    async with open_house(folder=tmp_path) as house:
        await house.gateway.post({"registrations": [DEVICE]})
        found = await house.hub.parts.registry.device(house.application.account_id, "d")
        assert found is not None
        assert found.gateway_id == house.gateway.key_id


@pytest.mark.parametrize(
    ("lt", "status"),
    [(0, 202), (limits.REGISTRATION_LIFETIME_S_MAX, 202), (-1, 400), (1.5, 400), ("60", 400), (10**10, 400)],
)
async def test_a_lifetime_is_a_number_of_seconds(lt: object, status: int, autojump_clock: MockClock) -> None:
    async with open_house() as house:
        reply = await house.gateway.send(
            "POST", "/gateway/v1/events", {"registrations": [{"ep": "d", "lt": lt}]}
        )
        assert reply.status == status


async def test_a_lifetime_is_not_passed_on(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.events()
        await house.gateway.post({"registrations": [{"ep": "d", "lt": 60}]})
        assert await house.events() == [("registrations", {"ep": "d", "resources": []})]


# --- subscriptions --------------------------------------------------------------------------------


async def subscribed(house: House, path: str = "3/0/1") -> int:
    return (await house.app.send("GET", f"/v2/subscriptions/d/{path}")).status


async def test_a_full_registration_ends_manual_subscriptions_and_an_update_does_not(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house:
        await house.events()
        assert (await house.app.send("PUT", "/v2/subscriptions/d/3/0/1")).status == 200
        await house.gateway.post({"reg-updates": [{"ep": "d"}]})
        assert await subscribed(house) == 200
        message = {"registrations": [DEVICE], "notifications": [{"ep": "d", "path": "/3/0/1"}]}
        assert (await house.gateway.post(message))["unrouted"] == 1
        assert await subscribed(house) == 404
        assert [kind for kind, _ in await house.events()] == ["reg-updates", "registrations"]
        assert (await house.gateway.post({"notifications": [{"ep": "d", "path": "/3/0/1"}]}))["unrouted"] == 1


async def test_presubscriptions_stay_over_a_registration(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions", [{"endpoint-name": "d"}])
        message = {"registrations": [DEVICE], "notifications": [{"ep": "d", "path": "/3/0/1"}]}
        assert (await house.gateway.post(message))["unrouted"] == 0


async def test_what_is_known_not_to_exist_cannot_be_subscribed(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [DEVICE, {"ep": "gone"}]})
        await house.gateway.post({"de-registrations": ["gone"]})
        statuses = [
            (await house.app.send("PUT", f"/v2/subscriptions/{target}")).status
            for target in ("d/3/0/1", "d/3/0/9", "gone/3/0/1", "unheard-of/3/0/1")
        ]
        assert statuses == [200, 404, 404, 200]


async def test_a_subscription_made_on_seeing_the_registration_stays(autojump_clock: MockClock) -> None:
    """The application does not wait for the gateway's answer, nor does the event."""
    registry = SlowRegistry()
    async with open_house(registry) as house:
        assert (await house.app.send("PUT", "/v2/subscriptions/d/3/0/1")).status == 200
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.gateway.post, {"registrations": [DEVICE]})
            await trio.sleep(0.1)
            assert (await house.app.send("PUT", "/v2/subscriptions/d/3/0/1")).status == 200
        assert await subscribed(house) == 200
        assert len((await registry.load()).subscriptions) == 1
