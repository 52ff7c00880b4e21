"""What becomes of a gateway's request: all of it or nothing, once, and in the form that was asked for."""

from __future__ import annotations

import json
import uuid

import pytest
import trio
from support.daemon import Daemon
from support.plain_websocket import open_websocket
from support.tenants import (
    key_of,
    numbers,
    queue_size,
    small,
    websocket_tenant,
)

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)


# --- all or nothing, once -------------------------------------------------------------


async def test_a_bad_event_in_line_7000_leaves_nothing_behind(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    lines = [json.dumps({"notifications": [small(n)]}) for n in range(10_000)]
    lines[6_999] = json.dumps({"notifications": [{**small(6_999), "payload": "not base64!"}]})
    ndjson = {"Content-Type": "application/x-ndjson"}
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        refused = await tenant.gateway.send(
            "POST", "/gateway/v1/events", body="\n".join(lines).encode(), headers=ndjson
        )
        assert refused.status == 400
        error = refused.content()
        assert (error["type"], error["code"], error["object"]) == ("validation_error", 400, "error")
        assert error["fields"][0]["line"] == 7_000
        assert "payload" in error["fields"][0]["name"]
        await tenant.gateway.post_events([small(10_001)])
        assert numbers(await application.message()) == [10_001]


async def test_ndjson_and_json_carry_the_same_events(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    lines = [json.dumps({"notifications": [small(n), small(n + 1)]}) for n in (1, 3)]
    posted = await tenant.gateway.send(
        "POST",
        "/gateway/v1/events",
        body="\n".join(lines).encode() + b"\n",
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert (posted.status, posted.content()["accepted"]) == (202, 4)
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        assert numbers({"notifications": await application.events(4)}) == [1, 2, 3, 4]


async def test_an_idempotency_key_stores_once_and_answers_the_same(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    content, once = {"notifications": [small(1)]}, {"Idempotency-Key": "order-1"}
    first = await tenant.gateway.send("POST", "/gateway/v1/events", content, headers=once)
    second = await tenant.gateway.send("POST", "/gateway/v1/events", content, headers=once)
    assert (first.status, second.status) == (202, 202)
    assert second.body == first.body
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    other = await tenant.gateway.send(
        "POST", "/gateway/v1/events", {"notifications": [small(2)]}, headers=once
    )
    assert (other.status, other.content()["code"]) == (422, 422)
    assert await queue_size(tenant.application) == 1


async def test_an_idempotency_key_of_a_refused_request_can_be_used_again(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    once = {"Idempotency-Key": "order-2"}
    bad = await tenant.gateway.send("POST", "/gateway/v1/events", {"notifications": [{}]}, headers=once)
    good = await tenant.gateway.send(
        "POST", "/gateway/v1/events", {"notifications": [small(1)]}, headers=once
    )
    assert (bad.status, good.status) == (400, 202)
    assert await queue_size(tenant.application) == 1


async def test_the_same_idempotency_key_twenty_times_at_once_stores_once(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    content = {"notifications": [small(n) for n in range(1_000)]}
    answers: list[tuple[int, bytes]] = []

    async def post() -> None:
        reply = await tenant.gateway.send(
            "POST", "/gateway/v1/events", content, headers={"Idempotency-Key": "order-3"}
        )
        answers.append((reply.status, reply.body))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(post)
    assert len(set(answers)) == 1
    assert answers[0][0] == 202
    assert await queue_size(tenant.application) == 1_000


async def test_two_gateways_may_use_the_same_idempotency_key(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    other = await daemon.user("gateway", account=tenant.account)
    for number, gateway in enumerate((tenant.gateway, other)):
        reply = await gateway.send(
            "POST",
            "/gateway/v1/events",
            {"notifications": [small(number)]},
            headers={"Idempotency-Key": "order-4"},
        )
        assert reply.status == 202
    assert await queue_size(tenant.application) == 2


# --- serialization --------------------------------------------------------------------

ON = {"include_uid": True, "include_timestamp": True, "include_original_ep": True}


@pytest.mark.parametrize("written", ["plain", "strings"])
async def test_serialization_options_work_as_numbers_booleans_and_strings(
    daemon: Daemon, written: str
) -> None:
    cfg = {**ON, "deregistrations_as_object": True}
    plain: dict[str, object] = {"max_chunk_size": 100, "cfg": cfg}
    strings = {"max_chunk_size": "100", "cfg": dict.fromkeys(cfg, "true")}
    tenant = await websocket_tenant(daemon, **(plain if written == "plain" else strings))
    found = (await tenant.application.send("GET", "/v2/notification/websocket")).content()["serialization"]
    assert found["type"] == "v2"
    assert found["max_chunk_size"] == 100
    assert {name: found["cfg"][name] for name in cfg} == cfg

    events = [{**small(n), "original-ep": "greenhouse-7"} for n in range(250)]
    await tenant.gateway.post_events(events)
    await tenant.gateway.post_events(["d9"], kind="de-registrations")
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        messages = await application.messages_of(250)
        gone = (await application.message())["de-registrations"][0]
    assert [len(message["notifications"]) for message in messages] == [100, 100, 50]
    event = messages[0]["notifications"][0]
    assert event["original-ep"] == "greenhouse-7"
    assert uuid.UUID(event["uid"]).version == 8
    assert isinstance(event["timestamp"], int)
    assert (gone["ep"], gone["original-ep"]) == ("d9", "d9")
    assert gone["uid"] != event["uid"]


async def test_without_options_events_are_plain(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    await tenant.gateway.post_events([{"ep": "d1", "path": "/1", "uid": "x", "timestamp": 1, "foo": 2}])
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        (event,) = await application.events(1)
    assert event == {"ep": "d1", "path": "/1", "payload": "", "ct": "", "max-age": 0}


async def test_registering_the_websocket_again_changes_the_next_batch_and_keeps_the_queue(
    daemon: Daemon,
) -> None:
    tenant = await websocket_tenant(daemon)
    await tenant.gateway.post_events([small(1)])
    changed = {"serialization": {"type": "v2", "cfg": {"include_uid": True}}}
    assert (await tenant.application.send("PUT", "/v2/notification/websocket", changed)).status == 200
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        (event,) = await application.events(1)
        assert "uid" in event
