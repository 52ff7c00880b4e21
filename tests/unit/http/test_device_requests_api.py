"""Device requests from an application's call to its async response; the whole dispatcher, on a mock clock."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from support.api_in_process import UNIX_S, Caller, House, open_house
from support.scripted_gateway import ScriptedGateway, connect
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.http.message import Response
from dispatcher.model import Role
from dispatcher.registry.memory import MemoryRegistry

GET = {"method": "GET", "uri": "/3/0/1"}
DEVICE = {"ep": "d", "resources": [{"path": "/3/0/1"}, {"path": "/3/0/2"}]}
DAY_S = 86_400.0


async def ask(
    caller: Caller, async_id: str = "job", content: object = GET, *, ep: str = "d", query: str = ""
) -> Response:
    return await caller.send("POST", f"/v2/device-requests/{ep}?async-id={async_id}{query}", content)


async def accepted(caller: Caller, async_id: str = "job", content: object = GET, **rest: Any) -> None:
    reply = await ask(caller, async_id, content, **rest)
    assert (reply.status, reply.body) == (202, b"")


async def register(gateway: ScriptedGateway, **told: Any) -> None:
    await gateway.tell({"registrations": [{**DEVICE, **told}]})


def response(async_id: str, status: int = 200, **rest: Any) -> dict[str, Any]:
    return {"async-responses": [{"id": async_id, "status": status, **rest}]}


async def results(house: House) -> list[Any]:
    return [event for kind, event in await house.events() if kind == "async-responses"]


def ours(async_id: str, status: int, error: str) -> dict[str, Any]:
    return {"id": async_id, "status": status, "payload": "", "ct": "", "error": error}


# --- the straight way -----------------------------------------------------------------------------


async def test_a_request_goes_to_the_gateway_and_its_answer_to_who_asked(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        content = {
            "method": "PUT",
            "uri": "/3/0/1?x=1",
            "accept": "text/plain",
            "content-type": "application/cbor",
            "payload-b64": base64.b64encode(b"\x00hi").decode(),
        }
        await accepted(house.app, "job-1", content)
        assert await gateway.request() == {"id": "job-1", "ep": "d", **content}
        answer = response("job-1", 205, payload="MjEuNQ==", ct="text/plain")
        answer["async-responses"][0]["max-age"] = 60
        assert await gateway.tell(answer) == {"accepted": 2}
        assert await results(house) == [answer["async-responses"][0]]
        assert await gateway.is_silent()


async def test_absent_and_null_members_are_left_out_on_the_way_down(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        nothing = {"accept": None, "content-type": None, "payload-b64": None}
        await accepted(house.app, "job", {**GET, **nothing})
        assert await gateway.request() == {"id": "job", "ep": "d", **GET}


async def test_requests_of_one_device_go_one_at_a_time_and_those_of_others_beside_them(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await register(gateway, ep="e")
        for number in range(3):
            await accepted(house.app, f"d{number}")
        await accepted(house.app, "e0", ep="e")
        assert (await gateway.request())["id"] == "d0"
        assert (await gateway.request())["id"] == "e0"
        assert await gateway.is_silent()
        for number in (1, 2):
            await gateway.tell(response(f"d{number - 1}"))
            assert (await gateway.request())["id"] == f"d{number}"


async def test_an_answer_may_come_by_post(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app)
        await gateway.request()
        assert (await house.gateway.post(response("job")))["queued"] == 1
        assert [result["id"] for result in await results(house)] == ["job"]


async def test_without_a_channel_the_result_is_discarded(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await accepted(house.app)
        await gateway.request()
        assert await gateway.tell(response("job")) == {"accepted": 2}
        await trio.sleep(DAY_S)
        assert await results(house) == []


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "content", "status", "message"),
    [
        ("d?async-id=a", {"method": "GET", "uri": "no-slash"}, 400, "RESOURCE_NOT_FOUND"),
        ("d?async-id=a", {"method": "GET", "uri": "/"}, 400, "RESOURCE_NOT_FOUND"),
        ("d?async-id=a", {"method": "GET", "uri": "/" + "1" * 255}, 400, "RESOURCE_NOT_FOUND"),
        ("away?async-id=a", GET, 400, "DEVICE_NOT_CONNECTED"),
        ("d?async-id=a", {"method": "PATCH", "uri": "/3/0/1"}, 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", {"uri": "/3/0/1"}, 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", {"method": "GET"}, 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", {**GET, "payload-b64": "?"}, 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", {**GET, "uri": 3}, 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", [], 400, "MALFORMED_JSON_CONTENT"),
        ("d?async-id=a", None, 400, "MALFORMED_JSON_CONTENT"),
        ("d", GET, 400, "MALFORMED_ASYNC_ID"),
        ("d?async-id=", GET, 400, "MALFORMED_ASYNC_ID"),
        ("d?async-id=a.b", GET, 400, "MALFORMED_ASYNC_ID"),
        ("d?async-id=a%0A", GET, 400, "MALFORMED_ASYNC_ID"),
        ("d?async-id=" + "a" * 41, GET, 400, "MALFORMED_ASYNC_ID"),
        ("full?async-id=a", GET, 400, "QUEUE_IS_FULL"),
        ("nobody?async-id=a", GET, 404, "DEVICE_NOT_FOUND"),
        ("gone?async-id=a", GET, 404, "DEVICE_NOT_FOUND"),
        ("d?async-id=a", {"method": "GET", "uri": "/4/0"}, 404, "URI_PATH_DOES_NOT_EXISTS"),
    ],
)
async def test_every_refusal_has_its_word(
    target: str, content: object, status: int, message: str, autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await register(gateway, ep="full")
        await register(gateway, ep="gone")
        await gateway.tell({"de-registrations": ["gone"]})
        posting = await house.caller(Role.GATEWAY)
        await posting.post({"registrations": [{"ep": "away"}]})
        for number in range(20):
            await accepted(house.app, f"n{number}", ep="full")
        await trio.sleep(limits.GATEWAY_RETURN_S)
        reply = await house.app.send("POST", f"/v2/device-requests/{target}", content)
        body = json.loads(reply.body)
        assert (reply.status, body["message"], body["code"]) == (status, message, status)
        assert body["object"] == "error"
        assert body["fields"][0]["message"]


@pytest.mark.parametrize(
    "query", ["retry=11", "retry=-1", "retry=x", "expiry-seconds=59", "expiry-seconds=2592001"]
)
async def test_numbers_out_of_their_limits_are_named(query: str, autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        reply = await ask(house.app, query=f"&{query}")
        body = json.loads(reply.body)
        assert (reply.status, body["fields"][0]["name"]) == (400, query.partition("=")[0])
        assert await gateway.is_silent()


async def test_another_account_s_device_is_not_found_and_gateways_do_not_ask(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        stranger = await house.caller(Role.APPLICATION, "other")
        assert (await ask(stranger)).status == 404
        assert (await ask(house.gateway)).status == 403
        assert await gateway.is_silent()


async def test_a_device_in_queue_mode_is_asked_though_its_gateway_is_away(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.gateway.post({"registrations": [{**DEVICE, "q": True}]})
        await trio.sleep(DAY_S)
        await accepted(house.app)
        async with connect(house.gateway) as gateway:
            assert (await gateway.request())["id"] == "job"


async def test_the_same_request_again_is_the_same_request(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app)
        await accepted(house.app)
        reply = await ask(house.app, content={"method": "GET", "uri": "/3/0/2"})
        assert json.loads(reply.body)["message"] == "MALFORMED_ASYNC_ID"
        await gateway.request()
        await gateway.tell(response("job"))
        assert await gateway.is_silent()
        assert len(await results(house)) == 1
        await accepted(house.app)  # done is done: this is a new one
        assert (await gateway.request())["id"] == "job"


# --- whose answer it is ---------------------------------------------------------------------------


async def test_two_applications_with_the_same_id_get_their_own_answers(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        other = await house.caller(Role.APPLICATION, application="two")
        second = await house.hub.ensure_application(await house.hub.ensure_account("acme"), "two")
        await house.events()
        await house.events(second)
        await register(gateway)
        await accepted(house.app)
        await accepted(other)
        first_id = (await gateway.request())["id"]
        await gateway.tell(response(first_id, payload="MQ=="))
        second_id = (await gateway.request())["id"]
        assert first_id == "job" != second_id
        await gateway.tell(
            {
                "notifications": [{"ep": "d", "path": "/x"}],
                **response(second_id, payload="Mg=="),
                "reg-updates": [{"ep": "d"}],
            }
        )
        first = [(kind, e.get("id"), e.get("payload")) for kind, e in await house.events()]
        assert first[1:] == [("async-responses", "job", "MQ=="), ("reg-updates", None, None)]
        two = [(kind, e.get("id"), e.get("payload")) for kind, e in await house.events(second)]
        assert two[1:] == [("async-responses", "job", "Mg=="), ("reg-updates", None, None)]


async def test_another_gateway_does_not_answer_for_a_device(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app)
        await gateway.request()
        neighbour = await house.caller(Role.GATEWAY)
        stranger = await house.caller(Role.GATEWAY, "other")
        for forger in (neighbour, stranger):
            assert (await forger.post(response("job")))["unrouted"] == 1
        assert await results(house) == []
        await gateway.tell(response("job", 204))
        assert [result["status"] for result in await results(house)] == [204]


async def test_an_answer_that_comes_twice_or_unasked_reaches_nobody(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app)
        await gateway.request()
        twice = response("job")["async-responses"] * 2
        assert await gateway.tell({"async-responses": twice}) == {"accepted": 3}
        assert await gateway.tell(response("job")) == {"accepted": 4}
        assert await gateway.tell(response("unasked")) == {"accepted": 5}
        assert len(await results(house)) == 1


# --- results of our own ---------------------------------------------------------------------------


async def test_a_request_expires_after_what_was_asked(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway, q=True)
        await accepted(house.app, query="&expiry-seconds=60")
        await gateway.request()
        await trio.sleep(59)
        assert await results(house) == []
        await trio.sleep(2)
        assert await results(house) == [ours("job", 429, "REQUEST_EXPIRED")]
        assert await gateway.tell(response("job")) == {"accepted": 2}
        assert await results(house) == []  # a result after expiry is nobody's


@pytest.mark.parametrize(("q", "expires_s"), [(False, 7_200.0), (True, 3 * DAY_S)])
async def test_what_was_not_asked_goes_by_the_device_s_mode(
    q: bool, expires_s: float, autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway, q=q)
        await accepted(house.app, "first", query="&retry=10")
        await accepted(house.app, "second")
        requests = house.hub.parts.registry
        waiting = [request for request, _ in (await requests.load()).device_requests]
        assert [request.retry for request in waiting] == [10, 2 if q else 0]
        assert {r.expires_unix_ms - r.accepted_unix_ms for r in waiting} == {expires_s * 1000}


async def test_no_answer_is_tried_again_and_then_a_timeout(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app, query="&retry=2")
        for _ in range(3):
            assert (await gateway.request())["id"] == "job"
        assert await gateway.is_silent(limits.DEVICE_ANSWER_TIMEOUT_S + 10)
        assert await results(house) == [ours("job", 504, "TIMEOUT")]


async def test_an_attempt_that_did_not_reach_the_device_is_not_the_result(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        await accepted(house.app, query="&retry=1")
        await gateway.request()
        await gateway.tell(response("job", 503, error="NOT_CONNECTED"))
        await gateway.request()
        assert await results(house) == []
        await gateway.tell(response("job", 504, error="TIMEOUT"))
        assert await results(house) == [ours("job", 504, "TIMEOUT")]


async def test_when_the_gateway_stays_away_the_device_is_not_connected(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.events()
        async with connect(house.gateway) as gateway:
            await register(gateway)
            await accepted(house.app)
            await gateway.request()
        await trio.sleep(limits.GATEWAY_RETURN_S - 1)
        assert await results(house) == []
        await trio.sleep(2)
        assert await results(house) == [ours("job", 503, "NOT_CONNECTED")]
        assert json.loads((await ask(house.app)).body)["message"] == "DEVICE_NOT_CONNECTED"


@pytest.mark.parametrize("kind", ["de-registrations", "registrations-expired"])
async def test_a_device_that_leaves_ends_its_requests(kind: str, autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        for name in ("a", "b"):
            await accepted(house.app, name)
        await gateway.request()
        await gateway.tell({kind: ["d"]})
        await trio.sleep(1)
        assert await results(house) == [ours(name, 429, "DEVICE_REMOVED_REGISTRATION") for name in "ab"]
        assert (await house.hub.parts.registry.load()).device_requests == ()


# --- reconnects and restarts ----------------------------------------------------------------------


async def test_what_had_no_answer_goes_again_after_a_reconnect(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        await house.events()
        async with connect(house.gateway) as gateway:
            await register(gateway)
            for name in ("a", "b"):
                await accepted(house.app, name)
            assert (await gateway.request())["id"] == "a"
        await accepted(house.app, "c")
        async with connect(house.gateway) as gateway:
            for name in "abc":
                assert (await gateway.request())["id"] == name
                await gateway.tell(response(name))
        assert [result["id"] for result in await results(house)] == ["a", "b", "c"]


async def test_requests_go_to_the_socket_that_last_told_of_the_device_or_else_to_any(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as first:
        async with connect(house.gateway) as second:
            await register(first)
            await second.tell({"notifications": []})
            await accepted(house.app, "a")
            assert (await first.request())["id"] == "a"
            await first.tell(response("a"))
            await second.tell({"reg-updates": [{"ep": "d"}]})
            await accepted(house.app, "b")
            assert (await second.request())["id"] == "b"
            assert await first.is_silent()
        assert (await first.request())["id"] == "b"  # the second socket has ended


async def test_requests_survive_a_restart(tmp_path: Path) -> None:
    async with open_house(folder=tmp_path) as house:
        await house.events()
        async with connect(house.gateway) as gateway:
            await register(gateway)
            for name in ("a", "b"):
                await accepted(house.app, name)
            await gateway.request()
        key, key_id = house.gateway.key, house.gateway.key_id
    async with open_house(folder=tmp_path) as house, connect(Caller(house, key, key_id)) as gateway:
        for name in "ab":
            assert await gateway.request() == {"id": name, "ep": "d", **GET}
            await gateway.tell(response(name))
        assert [result["id"] for result in await results(house)] == ["a", "b"]
        await house.hub.parts.device_requests.flush()
        assert (await house.hub.parts.registry.load()).device_requests == ()


async def test_a_request_that_expired_while_we_were_down_is_told_after_the_start(
    autojump_clock: MockClock,
) -> None:
    registry = MemoryRegistry()
    async with open_house(registry) as house:
        await house.events()
        async with connect(house.gateway) as gateway:
            await register(gateway, q=True)
            await accepted(house.app)
    async with open_house(registry, unix_s=UNIX_S + 4 * DAY_S) as house:
        await trio.sleep(1)
        assert await results(house) == [ours("job", 429, "REQUEST_EXPIRED")]


async def test_many_requests_go_down_in_few_messages_of_bounded_size(autojump_clock: MockClock) -> None:
    sizes = [1, 1, 300_000, 500_000, 1_048_576, 1, 400_000, 1]
    async with open_house() as house:
        async with connect(house.gateway) as gateway:
            for number in range(len(sizes)):
                await register(gateway, ep=f"d{number}")
        for number, size in enumerate(sizes):  # they wait, and go together as the gateway comes back
            payload = base64.b64encode(bytes(size)).decode()
            content = {"method": "PUT", "uri": "/3/0/1", "payload-b64": payload}
            await accepted(house.app, f"a{number}", content, ep=f"d{number}")
        async with connect(house.gateway) as gateway:
            found: list[str] = []
            messages = 0
            while len(found) < len(sizes):
                message = await gateway.requests()
                assert len(message) == 1 or len(json.dumps(message)) < limits.GATEWAY_MESSAGE_BYTES
                found += [request["id"] for request in message]
                messages += 1
        assert found == [f"a{number}" for number in range(len(sizes))]
        assert messages == 4
