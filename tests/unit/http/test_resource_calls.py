"""The older calls that read and change resources, with their cache; on a mock clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from support.api_in_process import House, open_house
from support.scripted_gateway import ScriptedGateway, connect
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.http.message import Response
from dispatcher.model import Role

TARGET = "/v2/endpoints/d/3/0/1"


def notification(max_age: object = 60, payload: str = "MjEuNQ==", **rest: Any) -> dict[str, Any]:
    event = {"ep": "d", "path": "/3/0/1", "ct": "text/plain", "payload": payload, "max-age": max_age, **rest}
    return {"notifications": [{key: value for key, value in event.items() if value is not None}]}


async def register(gateway: ScriptedGateway, **told: Any) -> None:
    await gateway.tell({"registrations": [{"ep": "d", "resources": [{"path": "/3/0/1"}], **told}]})


async def read(house: House, query: str = "?cacheOnly=true") -> Response:
    return await house.app.send("GET", TARGET + query)


async def cached(house: House) -> bytes | None:
    reply = await read(house)
    assert reply.status in (200, 205), reply.body
    return reply.body if reply.status == 200 else None


def async_id(reply: Response) -> str:
    assert reply.status == 202, reply.body
    return str(json.loads(reply.body)["async-response-id"])


# --- the cache ------------------------------------------------------------------------------------


async def test_a_notified_value_is_read_while_it_lasts(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await gateway.tell(notification(100))
        await trio.sleep(40)
        reply = await read(house)
        assert (reply.status, reply.body, reply.content_type) == (200, b"21.5", "text/plain")
        assert reply.headers == (("Cache-Control", "max-age=60"),)
        assert await gateway.is_silent()
        await trio.sleep(60)
        assert await cached(house) is None


@pytest.mark.parametrize(
    ("max_age", "kept_s"), [(None, 60), (0, 0), ("0", 0), ("90", 90), (10**9, 3 * 86_400)]
)
@pytest.mark.parametrize("form", ["full", "sparse", "strict"])
async def test_how_long_it_lasts_does_not_depend_on_how_the_event_was_written(
    max_age: object, kept_s: int, form: str, autojump_clock: MockClock
) -> None:
    odd = {"full": {}, "sparse": {"uid": "u"}, "strict": {"colour": "blue"}}[form]
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await gateway.tell(notification(max_age, **odd))
        reply = await read(house)
        assert reply.headers == ((("Cache-Control", f"max-age={kept_s}"),) if kept_s else ())


async def test_a_value_that_may_not_be_kept_replaces_one_that_was(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await gateway.tell(notification(60))
        assert await cached(house) == b"21.5"
        await gateway.tell(notification(0))
        assert await cached(house) is None
        both = notification(60)["notifications"] + notification(0)["notifications"]
        await gateway.tell({"notifications": both})
        assert await cached(house) is None
        await gateway.tell({"notifications": both[::-1]})
        assert await cached(house) == b"21.5"


@pytest.mark.parametrize(
    "message",
    [{"registrations": [{"ep": "d"}]}, {"de-registrations": ["d"]}, {"registrations-expired": ["d"]}],
)
async def test_a_device_that_comes_or_goes_has_no_old_values(
    message: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        await gateway.tell({**notification(60), **message})
        assert (await read(house)).status in (205, 410)
        await gateway.tell(notification(60))
        await gateway.tell({"reg-updates": [{"ep": "d"}]})
        assert await cached(house) == b"21.5"


async def test_another_account_does_not_see_a_value(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await gateway.tell(notification(60))
        stranger = await house.caller(Role.APPLICATION, "other")
        assert (await stranger.send("GET", TARGET + "?cacheOnly=true")).status == 404
        assert await cached(house) == b"21.5"  # a device that never registered may have values


async def test_a_content_type_that_is_none_is_not_repeated(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        for ct in ("", "x\r\nSet-Cookie: a", "text", "ü/ü"):
            await gateway.tell(notification(60, ct=ct))
            assert (await read(house)).content_type == "application/octet-stream"


async def test_what_a_device_answers_to_a_read_is_kept_and_a_change_forgets_it(
    autojump_clock: MockClock,
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        name = async_id(await read(house, ""))
        request = await gateway.request()
        assert request == {"id": name, "ep": "d", "method": "GET", "uri": "/3/0/1"}
        await gateway.tell(
            {"async-responses": [{"id": name, "status": 200, "payload": "MQ==", "max-age": 5}]}
        )
        assert await cached(house) == b"1"
        for method, status, is_kept in (("PUT", 400, True), ("PUT", 204, False)):
            name = async_id(await house.app.send(method, TARGET, body=b"2"))
            await gateway.request()
            await gateway.tell({"async-responses": [{"id": name, "status": status}]})
            assert (await cached(house) is not None) is is_kept


async def test_a_failed_read_is_not_kept(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        name = async_id(await read(house, ""))
        await gateway.request()
        await gateway.tell({"async-responses": [{"id": name, "status": 404, "payload": "MQ=="}]})
        assert await cached(house) is None


# --- asking the device ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_change_goes_to_the_device_and_its_result_over_the_channel(
    method: str, autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        reply = await house.app.send(method, TARGET, body=b"on", content_type="text/plain")
        name = async_id(reply)
        assert await gateway.request() == {
            "id": name, "ep": "d", "method": method, "uri": "/3/0/1",
            "content-type": "text/plain", "payload-b64": "b24=",
        }  # fmt: skip
        await gateway.tell({"async-responses": [{"id": name, "status": 204}]})
        events = await house.events()
        assert [event["id"] for kind, event in events if kind == "async-responses"] == [name]


async def test_without_a_wish_for_a_response_there_is_none(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await house.events()
        await register(gateway)
        for expected in ("answered", "expired"):
            reply = await house.app.send("POST", TARGET + "?noResp=true", body=b"on")
            assert (reply.status, reply.body) == (204, b"")
            request = await gateway.request()
            if expected == "answered":
                await gateway.tell({"async-responses": [{"id": request["id"], "status": 200}]})
        await trio.sleep(86_400)
        assert [kind for kind, _ in await house.events()] == ["registrations"]
        assert (await house.hub.parts.registry.load()).device_requests == ()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "d/3/0/1?cacheOnly=true", 205),
        ("GET", "d/3/0/1?noResp=true", 409),
        ("GET", "d/3/0/1?cacheOnly=maybe", 400),
        ("PUT", "d/3/0/1?noResp=maybe", 400),
        ("POST", "d/" + "1" * 255, 400),
        ("GET", "nobody/3/0/1", 404),
        ("GET", "nobody/3/0/1?cacheOnly=true", 404),
        ("PUT", "nobody/3/0/1", 404),
        ("GET", "d/4/0/1", 404),
        ("GET", "gone/3/0/1", 410),
        ("GET", "gone/3/0/1?cacheOnly=true", 410),
        ("DELETE", "gone/3/0/1", 410),
        ("GET", "full/3/0/1", 429),
        ("POST", "full/3/0/1?noResp=true", 429),
        ("GET", "away/3/0/1", 502),
    ],
)
async def test_every_status_of_the_older_calls(
    method: str, target: str, status: int, autojump_clock: MockClock
) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        for ep in ("d", "full", "gone"):
            await register(gateway, ep=ep)
        await gateway.tell({"de-registrations": ["gone"]})
        posting = await house.caller(Role.GATEWAY)
        await posting.post({"registrations": [{"ep": "away"}]})
        for _ in range(20):
            await house.app.send("DELETE", "/v2/endpoints/full/3/0/1")
        await trio.sleep(limits.GATEWAY_RETURN_S)
        reply = await house.app.send(method, f"/v2/endpoints/{target}", body=b"" if method == "GET" else b"x")
        assert reply.status == status, reply.body


async def test_a_payload_over_a_mebibyte_is_refused(autojump_clock: MockClock) -> None:
    async with open_house() as house, connect(house.gateway) as gateway:
        await register(gateway)
        for extra, status in ((0, 202), (1, 413)):
            body = bytes(limits.DEVICE_REQUEST_PAYLOAD_BYTES_MAX + extra)
            assert (await house.app.send("PUT", TARGET, body=body)).status == status
