"""Subscriptions whose gateway must observe first, and what it is told besides; on a mock clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from support.api_in_process import Caller, House, open_house
from support.scripted_gateway import ScriptedGateway, connect
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.http.message import Response
from dispatcher.model import Application, Role

TARGET = "/v2/subscriptions/d/3/0/1"
RESOURCES = [{"path": "/3/0/1", "obs": True}, {"path": "/3/0/2"}, {"path": "/3/0/3", "obs": False}]


async def register(gateway: ScriptedGateway, kind: str = "registrations", **told: Any) -> None:
    await gateway.tell({kind: [{"ep": "d", "resources": RESOURCES, **told}]})


async def subscribe(caller: Caller, target: str = TARGET) -> Response:
    return await caller.send("PUT", target)


async def is_subscribed(caller: Caller) -> bool:
    return (await caller.send("GET", TARGET)).status == 200


def async_id(reply: Response) -> str:
    assert reply.status == 202, reply.body
    return str(json.loads(reply.body)["async-response-id"])


def answer(name: str, status: int = 200) -> dict[str, Any]:
    return {"async-responses": [{"id": name, "status": status, "payload": "MQ=="}]}


def observe(path: str = "/3/0/1", *, begin: bool = True) -> dict[str, Any]:
    return {"ep": "d", "method": "GET", "uri": path, "observe": begin}


async def other_application(house: House) -> tuple[Caller, Application]:
    caller = await house.caller(Role.APPLICATION, application="two")
    return caller, await house.hub.ensure_application(await house.hub.ensure_account("acme"), "two")


# --- manual ---------------------------------------------------------------------------------------


async def test_the_gateway_is_asked_to_observe_and_its_answer_is_told(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        name = async_id(await subscribe(house.app))
        assert await gateway.request() == {"id": name, **observe()}
        assert (await house.gateway.post({"notifications": [{"ep": "d", "path": "/3/0/1"}]}))["queued"] == 1
        await gateway.tell(answer(name))
        assert [kind for kind, _ in await house.events()][-1] == "async-responses"
        assert await is_subscribed(house.app)
        assert (await subscribe(house.app)).status == 200
        assert await gateway.is_silent()


async def test_what_another_application_observes_already_needs_no_asking(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        other, _ = await other_application(house)
        await register(gateway)
        first = async_id(await subscribe(house.app))
        second = async_id(await subscribe(other))  # not sure yet: each gets its answer
        for name in (first, second):
            assert (await gateway.request())["id"] == name
            await gateway.tell(answer(name))
        third = await house.caller(Role.APPLICATION, application="three")
        assert (await subscribe(third)).status == 200
        assert await gateway.is_silent()


@pytest.mark.parametrize("status", [404, 405, 503])
async def test_a_refused_observation_takes_the_subscription_back(
    status: int, autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        name = async_id(await subscribe(house.app))
        await gateway.request()
        await gateway.tell(answer(name, status))
        assert not await is_subscribed(house.app)
        kind, event = (await house.events())[-1]
        assert (kind, event["id"], event["status"]) == ("async-responses", name, status)
        assert (await house.gateway.post({"notifications": [{"ep": "d", "path": "/3/0/1"}]}))["queued"] == 0
        await house.hub.parts.devices.kept()
        assert (await house.hub.parts.registry.load()).subscriptions == ()
        assert async_id(await subscribe(house.app)) != name  # and it can be tried again


async def test_an_observation_that_nobody_answers_takes_it_back_too(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        name = async_id(await subscribe(house.app))
        await gateway.request()
        await trio.sleep(limits.DEVICE_ANSWER_TIMEOUT_S + 1)
        assert not await is_subscribed(house.app)
        assert (await house.events())[-1][1]["error"] == "TIMEOUT"
        assert name


async def test_a_gateway_that_only_posts_is_not_asked(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [{"ep": "d", "resources": RESOURCES}]})
        assert (await subscribe(house.app)).status == 200
        assert (await subscribe(house.app, "/v2/subscriptions/unheard-of/3/0/1")).status == 200


async def test_a_gateway_that_cannot_be_asked_now(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        async with connect(house.gateway) as gateway:
            await register(gateway)
            for number in range(20):
                target = f"/v2/device-requests/d?async-id={number}"
                assert (
                    await house.app.send("POST", target, {"method": "GET", "uri": "/3/0/2"})
                ).status == 202
            assert (await subscribe(house.app)).status == 429
            assert not await is_subscribed(house.app)
        await trio.sleep(limits.GATEWAY_RETURN_S + 1)
        assert (await subscribe(house.app)).status == 502
        assert not await is_subscribed(house.app)


async def test_a_full_registration_ends_an_observation_that_can_be_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        for _ in range(2):
            name = async_id(await subscribe(house.app))
            await gateway.request()
            await gateway.tell(answer(name))
            await register(gateway)
            assert not await is_subscribed(house.app)


# --- hints ----------------------------------------------------------------------------------------


async def test_a_gateway_is_told_what_presubscriptions_choose_when_it_tells_of_a_device(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        assert await gateway.is_silent()
        await house.app.send("PUT", "/v2/subscriptions", [{"endpoint-type": "Lamp"}])
        await register(gateway, "reg-updates", ept="Light")
        assert await gateway.is_silent()
        await register(gateway, ept="Lamp")
        assert await gateway.requests() == [observe("/3/0/1"), observe("/3/0/2")]
        await register(gateway, "reg-updates")
        assert await gateway.is_silent()  # it knows
        await house.app.send("PUT", "/v2/subscriptions", [{"resource-path": ["/3/0/2"]}])
        assert await gateway.is_silent()  # applied when the device is heard of
        await register(gateway, "reg-updates")
        assert await gateway.requests() == [observe("/3/0/2")]


async def test_another_socket_does_not_know_yet(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        async with connect(house.gateway) as gateway:
            await register(gateway)
            name = async_id(await subscribe(house.app))
            await gateway.request()
            await gateway.tell(answer(name))
        async with connect(house.gateway) as gateway:
            await register(gateway, "reg-updates")
            assert await gateway.requests() == [observe("/3/0/1")]
            assert await is_subscribed(house.app)


async def test_a_hint_wants_no_answer_and_blocks_no_request(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.app.send("PUT", "/v2/subscriptions", [{"endpoint-name": "*"}])
        await register(gateway)
        assert len(await gateway.requests()) == 2
        target = "/v2/device-requests/d?async-id=a"
        await house.app.send("POST", target, {"method": "GET", "uri": "/3/0/1"})
        assert (await gateway.request())["id"] == "a"
        await gateway.tell({"de-registrations": ["d"]})
        assert await gateway.is_silent()


async def test_when_the_last_subscription_goes_the_gateway_may_stop(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        other, _ = await other_application(house)
        await register(gateway)
        for caller in (house.app, other):
            reply = await subscribe(caller)
            if reply.status == 202:
                await gateway.request()
                await gateway.tell(answer(async_id(reply)))
        await house.app.send("DELETE", TARGET)
        assert await gateway.is_silent()
        await other.send("DELETE", "/v2/subscriptions/d")
        assert await gateway.requests() == [observe(begin=False)]
        await other.send("DELETE", TARGET)  # there was none
        assert await gateway.is_silent()


async def test_what_a_presubscription_wants_goes_on(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        reply = await subscribe(house.app)
        await gateway.request()
        await gateway.tell(answer(async_id(reply)))
        await house.app.send("PUT", "/v2/subscriptions", [{"endpoint-name": "d"}])
        assert (await house.app.send("DELETE", TARGET)).status == 204
        assert await gateway.is_silent()


async def test_a_gateway_that_does_not_read_holds_an_application_only_so_long(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await trio.sleep_forever()

    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        reply = await subscribe(house.app)
        await gateway.request()
        await gateway.tell(answer(async_id(reply)))
        (socket,) = house.hub.parts.gateways._sockets.values()
        monkeypatch.setattr(socket.connection._stream, "send_all", never)
        began_s = trio.current_time()
        assert (await house.app.send("DELETE", TARGET)).status == 204
        assert trio.current_time() - began_s <= limits.GATEWAY_WRITE_STALL_S + 1
        await gateway.ended()
