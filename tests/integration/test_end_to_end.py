"""What users get from a real daemon over real HTTP: every event, once, in order, and only theirs."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import trio
from support.daemon import Daemon, new_tenant
from support.plain_websocket import open_websocket
from support.receiver import RESET, answer, open_receiver
from support.tenants import (
    callback_tenant,
    key_of,
    numbers,
    queue_size,
    register_websocket,
    small,
    until_queue_is_empty,
    websocket_tenant,
)

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)

DAEMON_CONFIG = """\
[tiers.commercial]
retry_initial_s = 0.1
retry_max_s = 0.2
"""
QUIET_S = 0.3


# --- whole batches --------------------------------------------------------------------


async def test_ten_thousand_events_arrive_as_one_websocket_message(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        posted = await tenant.gateway.post_events([small(n) for n in range(10_000)])
        assert posted == {
            "accepted": 10_000,
            "queued": 10_000,
            "unrouted": 0,
            "rejected": 0,
            "durability": posted["durability"],
        }
        assert numbers(await application.message()) == list(range(10_000))
        await until_queue_is_empty(tenant.application)
        await application.stay_silent(QUIET_S)


@pytest.mark.parametrize("offers_deflate", [True, False])
async def test_a_socket_is_compressed_when_its_client_offers_it_and_only_then(
    daemon: Daemon, offers_deflate: bool
) -> None:
    tenant = await websocket_tenant(daemon)
    key = key_of(tenant.application)
    async with open_websocket(daemon.port, key, offers_deflate=offers_deflate) as application:
        assert application.is_deflated is offers_deflate
        for first in (0, 1_000, 1_001):
            last = 1_000 if first == 0 else first + 1
            await tenant.gateway.post_events([small(n) for n in range(first, last)])
        found = [n for message in await application.messages_of(1_002) for n in numbers(message)]
        assert found == list(range(1_002))
        await until_queue_is_empty(tenant.application)
    assert (application.bytes_received < 20_000) is offers_deflate


async def test_ten_thousand_events_arrive_as_one_callback(daemon: Daemon) -> None:
    async with open_receiver() as receiver:
        tenant = await callback_tenant(daemon, receiver)
        await tenant.gateway.post_events([small(n) for n in range(10_000)])
        _, delivery = await receiver.wait_requests(2)
        assert numbers(json.loads(delivery.body)) == list(range(10_000))
        assert delivery.line == b"PUT / HTTP/1.1"
        assert delivery.values("X-Mine") == [b"yes"]
        assert delivery.values("Content-Type") == [b"application/json"]
        await trio.sleep(QUIET_S)
        assert len(receiver.requests) == 2


async def test_one_event_more_than_a_batch_goes_in_a_second_message(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        await tenant.gateway.post_events([small(n) for n in range(10_001)])
        messages = await application.messages_of(10_001)
    assert [len(message["notifications"]) for message in messages] == [10_000, 1]
    assert [n for message in messages for n in numbers(message)] == list(range(10_001))


# --- failures, and what comes again ---------------------------------------------------


async def test_a_failing_callback_gets_the_same_bytes_again_then_the_rest_in_order(daemon: Daemon) -> None:
    async with open_receiver(answer(204), answer(500), RESET, answer(302), answer(200)) as receiver:
        tenant = await callback_tenant(daemon, receiver, cfg={"include_uid": True, "include_timestamp": True})
        await tenant.gateway.post_events([small(1), small(2)])
        await receiver.wait_requests(2)
        for number in range(3, 8):
            await tenant.gateway.post_events([small(number)])
        with trio.fail_after(10):
            while sum(len(json.loads(r.body)["notifications"]) for r in receiver.requests[4:]) < 7:
                await receiver.wait_requests(len(receiver.requests) + 1)
    _, *failed = (request.body for request in receiver.requests[:4])
    first_accepted, *rest = (request.body for request in receiver.requests[4:])
    assert {first_accepted, *failed} == {first_accepted}
    assert numbers(json.loads(first_accepted)) == [1, 2]
    assert [n for body in rest for n in numbers(json.loads(body))] == [3, 4, 5, 6, 7]


async def test_a_cut_websocket_gets_the_unconfirmed_again_with_the_same_uids_and_nothing_confirmed(
    daemon: Daemon,
) -> None:
    tenant = await websocket_tenant(daemon, cfg={"include_uid": True, "include_timestamp": True})
    key = key_of(tenant.application)
    async with open_websocket(daemon.port, key) as first:
        await tenant.gateway.post_events([small(1), small(2)])
        confirmed = await first.events(2)
        await until_queue_is_empty(tenant.application)
        first.answers_pings = False
        await tenant.gateway.post_events([small(3)])
        await tenant.gateway.post_events([small(4), small(5)])
        unconfirmed = await first.events(3)
        assert await queue_size(tenant.application) == 3
        first.cut()
    async with open_websocket(daemon.port, key) as second:
        again = await second.events(3)
        assert again == unconfirmed
        await tenant.gateway.post_events([small(6)])
        (newer,) = await second.events(1)
    uids = [event["uid"] for event in (*confirmed, *unconfirmed, newer)]
    assert len({uuid.UUID(uid) for uid in uids}) == 6


async def test_a_pong_to_the_last_ping_confirms_everything_before_it(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    async with open_websocket(daemon.port, key_of(tenant.application), answers_pings=False) as application:
        for number in range(3):
            await tenant.gateway.post_events([small(number)])
            await application.events(1)
        assert await queue_size(tenant.application) == 3
        application.answers_pings = True
        await tenant.gateway.post_events([small(3)])
        await until_queue_is_empty(tenant.application)
        assert len(set(application.pings)) == len(application.pings)
        assert {len(payload) for payload in application.pings} == {4}


# --- the ends of a socket -------------------------------------------------------------


async def test_a_revoked_key_is_refused_and_its_socket_closes_with_1008_within_a_second(
    daemon: Daemon,
) -> None:
    tenant = await websocket_tenant(daemon)
    assert tenant.application.key is not None
    name = tenant.application.key.application
    other = await daemon.user("application", account=tenant.account, application=name)
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        await daemon.revoke_key(tenant.application.key)
        code, reason = await application.wait_closed(within_s=1.0)
        assert code == 1008
        assert key_of(tenant.application) not in reason
    refused = await tenant.application.send("GET", "/v2/notification/websocket")
    assert (refused.status, refused.content()["type"]) == (401, "invalid_auth")
    await tenant.gateway.post_events([small(1)])
    async with open_websocket(daemon.port, key_of(other)) as application:
        assert numbers(await application.message()) == [1]


async def test_a_revoked_gateway_key_posts_nothing_more(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    assert tenant.gateway.key is not None
    await daemon.revoke_key(tenant.gateway.key)
    with trio.fail_after(1):
        while (await tenant.gateway.send("POST", "/gateway/v1/events", {})).status != 401:  # noqa: ASYNC110
            await trio.sleep(0.02)


# --- who gets what --------------------------------------------------------------------


async def test_presubscriptions_match_names_and_paths_with_a_star(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    await tenant.application.send("PUT", "/v2/notification/websocket")
    wanted = [{"endpoint-name": "green*", "resource-path": ["/3303/*", "/3/0/1"]}, {"endpoint-name": "x"}]
    assert (await tenant.application.send("PUT", "/v2/subscriptions", wanted)).status == 204
    events = [
        small(1, "greenhouse", "/3303/0/5700"),
        small(2, "greenhouse", "/3/0/1"),
        small(3, "greenhouse", "/3/0/10"),
        small(4, "red", "/3303/0/5700"),
        small(5, "x", "/9/9/9"),
        small(6, "xx", "/9/9/9"),
    ]
    posted = await tenant.gateway.post_events(events)
    assert (posted["queued"], posted["unrouted"]) == (3, 3)
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        assert numbers({"notifications": await application.events(3)}) == [1, 2, 5]


async def test_one_event_reaches_every_subscribed_application_of_the_account(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    other = await daemon.user("application", account=tenant.account)
    await register_websocket(other)
    posted = await tenant.gateway.post_events([small(1)])
    assert (posted["accepted"], posted["queued"]) == (1, 2)
    for user in (tenant.application, other):
        async with open_websocket(daemon.port, key_of(user)) as application:
            assert numbers(await application.message()) == [1]


async def test_life_cycle_events_go_to_every_channel_without_a_subscription(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    await tenant.application.send("PUT", "/v2/notification/websocket")
    resources = [{"path": "/3/0/1", "obs": True}]
    events = {
        "registrations": [{"ep": "d1", "ept": "light", "q": True, "resources": resources}],
        "reg-updates": [{"ep": "d1"}],
        "de-registrations": ["d1"],
        "registrations-expired": [{"ep": "d2"}],
    }
    posted = await tenant.gateway.send("POST", "/gateway/v1/events", events)
    assert posted.content()["queued"] == 4
    found: dict[str, Any] = {}
    async with open_websocket(daemon.port, key_of(tenant.application)) as application:
        for _ in range(4):
            message = await application.message()
            assert len(message) == 1  # a WebSocket gets one kind per message
            found.update(message)
    assert found["registrations"][0]["resources"] == resources
    assert found["reg-updates"][0]["ep"] == "d1"
    assert (found["de-registrations"], found["registrations-expired"]) == (["d1"], ["d2"])
