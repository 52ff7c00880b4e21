"""A gateway's socket: events up, answers in order, and how it ends; on a mock clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.api_in_process import SlowRegistry, open_house
from support.scripted_gateway import Refused, connect
from trio.testing import MockClock
from wsproto.events import TextMessage

from dispatcher import limits
from dispatcher.errors import DispatcherError
from dispatcher.http.message import Headers, Request, Upgrade
from dispatcher.model import Role
from dispatcher.registry.memory import MemoryRegistry

NOTHING = {"notifications": []}


def notification(number: int = 0) -> dict[str, Any]:
    return {"notifications": [{"ep": "d", "path": "/1", "max-age": number}]}


async def test_messages_are_answered_once_and_in_order_with_the_total(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        assert await gateway.tell(notification()) == {"accepted": 1}
        assert await gateway.tell({"notifications": notification()["notifications"] * 3}) == {"accepted": 4}
        assert await gateway.tell(NOTHING) == {"accepted": 4}
        assert await gateway.is_silent()


async def test_what_is_sent_without_waiting_is_stored_in_order(autojump_clock: MockClock) -> None:
    count = 3 * limits.GATEWAY_WINDOW_MESSAGES
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        for number in range(count):
            await gateway.send(notification(number))
        assert [await gateway.message() for _ in range(count)] == [{"accepted": n + 1} for n in range(count)]
        assert [event["max-age"] for _, event in await house.events()] == list(range(count))


async def test_a_refused_message_stores_nothing_and_the_next_one_is_taken(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        bad = {"notifications": [*notification()["notifications"], {"ep": "d"}]}
        answer = await gateway.tell(bad)
        assert answer["accepted"] == 0
        assert answer["error"]["code"] == 400
        assert answer["error"]["fields"][0]["name"] == "notifications[1].path"
        for text in ("{", "[]", b"\xff", "null"):
            assert (await gateway.tell(text))["error"]["code"] == 400
        assert await gateway.tell(notification(7)) == {"accepted": 1}
        assert [event["max-age"] for _, event in await house.events()] == [7]


async def test_a_message_id_is_answered_again_and_stored_once(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        named = {**notification(1), "message-id": "m1"}
        async with connect(house.gateway) as gateway:
            assert await gateway.tell(named) == {"accepted": 1}
            assert await gateway.tell(named) == {"accepted": 2}
            other = await gateway.tell({**notification(2), "message-id": "m1"})
            assert other["error"]["code"] == 422
        async with connect(house.gateway) as gateway:
            assert await gateway.tell(named) == {"accepted": 1}
        second = await house.caller(Role.GATEWAY)
        async with connect(second) as gateway:  # another gateway's id is another one
            assert await gateway.tell({**notification(3), "message-id": "m1"}) == {"accepted": 1}
        assert [event["max-age"] for _, event in await house.events()] == [1, 3]


async def test_a_message_whose_socket_vanished_is_stored_once_though_it_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    message = {"registrations": [{"ep": "d"}], "message-id": "m1"}
    async with open_house(SlowRegistry()) as house:
        await house.events()
        async with connect(house.gateway) as gateway:
            await gateway.send(message)
            await trio.sleep(0.1)  # published, and being written
        async with connect(house.gateway) as gateway:
            assert await gateway.tell(message) == {"accepted": 1}
        assert [kind for kind, _ in await house.events()] == ["registrations"]


async def test_registrations_on_a_socket_are_in_the_directory_when_answered(
    autojump_clock: MockClock,
) -> None:
    registry = MemoryRegistry()
    async with open_house(registry) as house, connect(house.gateway) as gateway:
        await gateway.tell({"registrations": [{"ep": "d"}]})
        device = await registry.device(house.application.account_id, "d")
        assert device is not None
        assert device.gateway_id == house.gateway.key_id


async def test_a_message_in_fragments_and_in_bytes_is_one_message(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        protocol = gateway._protocol
        for text, is_last in (('{"notifications":[{"ep":"d"', False), (',"path":"/1"}]}', True)):
            await gateway.stream.send_all(protocol.send(TextMessage(data=text, message_finished=is_last)))
        assert await gateway.message() == {"accepted": 1}
        assert await gateway.tell(b'{"notifications":[{"ep":"d","path":"/1"}]}') == {"accepted": 2}
        assert house.hub.parts.gateways.unfinished.bytes_held == 0


async def test_a_message_over_the_bound_closes_with_1009(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_BODY_BYTES_MAX", 1_000)
    async with open_house() as house, connect(house.gateway) as gateway:
        await gateway.send("x" * 1_001)
        await gateway.ended()
        assert gateway.closed_with == (1009, "message over 1000 bytes")
        assert house.hub.parts.gateways.unfinished.bytes_held == 0


async def test_unfinished_messages_of_all_sockets_together_are_bounded(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house:
        house.hub.parts.gateways.unfinished.bytes_max = 1_000
        async with connect(house.gateway) as first, connect(house.gateway) as second:
            part = TextMessage(data="x" * 600, message_finished=False)
            for gateway in (first, second):
                await gateway.stream.send_all(gateway._protocol.send(part))
                await trio.sleep(1)
            await second.ended()
            assert second.closed_with is not None
            assert second.closed_with[0] == 1013
            assert not first.is_over.is_set()
        assert house.hub.parts.gateways.unfinished.bytes_held == 0


@pytest.mark.parametrize(
    ("role", "headers", "status"),
    [
        (Role.APPLICATION, {}, 403),
        (Role.GATEWAY, {"authorization": "Bearer ak_unknown"}, 401),
        (Role.GATEWAY, {"upgrade": "h2c"}, 426),
        (Role.GATEWAY, {"sec_websocket_version": "8"}, 426),
        (Role.GATEWAY, {"sec_websocket_key": "short"}, 400),
    ],
)
async def test_who_may_not_connect_is_told_in_the_handshake(
    role: Role, headers: dict[str, str], status: int, autojump_clock: MockClock
) -> None:
    async with open_house() as house:
        with pytest.raises(Refused) as refused:
            async with connect(await house.caller(role), **headers):
                raise AssertionError("connected")
        assert refused.value.status == status


async def test_a_gateway_may_authenticate_by_subprotocol(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        fields = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": f"wss, pelion_{house.gateway.key}",
        }
        headers = Headers((name.encode(), value.encode()) for name, value in fields.items())
        request = Request(method="GET", path="/gateway/v1/connect", headers=headers)
        answer = await house.handle(request)
        assert isinstance(answer, Upgrade)
        assert ("Sec-WebSocket-Protocol", "wss") in answer.headers
        bare = Request(method="GET", path="/gateway/v1/connect", headers=Headers())
        with pytest.raises(DispatcherError):
            await house.handle(bare)


async def test_an_account_has_so_many_sockets_and_no_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_SOCKETS_PER_ACCOUNT_MAX", 1)
    async with open_house() as house:
        stranger = await house.caller(Role.GATEWAY, "other")
        async with connect(house.gateway) as gateway:
            await gateway.tell(NOTHING)
            with pytest.raises(Refused) as refused:
                async with connect(house.gateway):
                    pass
            assert refused.value.status == 429
            async with connect(stranger) as other:
                await other.tell(NOTHING)
        async with connect(house.gateway) as gateway:
            assert await gateway.tell(NOTHING) == {"accepted": 0}


# --- how it ends ----------------------------------------------------------------------------------


async def test_a_revoked_key_closes_its_sockets_with_1008(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        other = await house.caller(Role.GATEWAY)
        async with connect(house.gateway) as gateway, connect(other) as bystander:
            await gateway.tell(NOTHING)
            await house.hub.revoke_key(house.gateway.key_id)
            await gateway.ended()
            assert gateway.closed_with == (1008, "access key revoked")
            assert await bystander.tell(NOTHING) == {"accepted": 0}


async def test_a_stop_closes_with_1012(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await gateway.tell(NOTHING)
        await house.hub.stop()
        assert gateway.closed_with == (1012, "restarting")
        async with connect(house.gateway) as late:
            await late.ended()
            assert late.closed_with == (1012, "restarting")


async def test_a_gateway_that_closes_gets_its_code_back(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await gateway.close(1000)
        assert gateway.closed_with == (1000, "")


async def test_a_silent_gateway_is_pinged_and_a_dead_one_closed(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await trio.sleep(95)
        assert gateway.pings == 3
        gateway.answers_pings = False
        await gateway.ended()
        assert gateway.closed_with is not None
        assert gateway.closed_with[0] == 1001
        assert "ping timeout" in gateway.closed_with[1]
        assert trio.current_time() < 150


async def test_a_gateway_that_breaks_the_protocol_is_closed_with_1002(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await gateway.stream.send_all(b"\xff\xff\xff\xff")
        await gateway.ended()
        assert gateway.closed_with is not None
        assert gateway.closed_with[0] == 1002


async def test_a_gateway_that_vanishes_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        async with connect(house.gateway) as gateway:
            await gateway.tell(NOTHING)
        assert house.hub.parts.gateways.open_sockets(house.application.account_id) == 0
