"""Long polling against a real daemon over raw sockets: when an answer is settled, and when it goes again."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trustme
from support.daemon import Daemon, Tenant, log_shown, new_tenant, open_daemon
from support.http_wire import WireClient, request
from support.poller import PULL, Poller, events_of, numbers_of, open_poller, polling_tenant, secured
from support.tenants import key_of, small

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)

CALLBACK, WEBSOCKET = "/v2/notification/callback", "/v2/notification/websocket"
HOLD_S = 0.6
IMPATIENT_CONFIG = """\
[limits]
startup_grace_s = 0
[tiers.commercial]
long_poll_hold_s = 0.5
long_poll_idle_s = 1
"""
DAEMON_CONFIG = f"[tiers.commercial]\nlong_poll_hold_s = {HOLD_S}\n"


async def records(daemon: Daemon, name: str) -> float:
    """A counter of the daemon's books."""
    scrape = (await daemon.anyone.send("GET", "/metrics")).body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in scrape.splitlines() if line.startswith(name))


async def mechanism(tenant: Tenant) -> str | None:
    reply = await tenant.application.send("GET", "/v2/notification/channel")
    return str(reply.content()["delivery_mechanism"]) if reply.status == 200 else None


# --- the hold -------------------------------------------------------------------------


async def test_a_poll_makes_the_channel_is_held_and_ends_with_204(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    assert await mechanism(tenant) is None
    async with open_poller(daemon, tenant.application) as poller:
        started_s = trio.current_time()
        response = await poller.poll()
        assert trio.current_time() - started_s >= HOLD_S
        assert (response.status, response.body) == (204, b"")
    assert await mechanism(tenant) == "LONG_POLLING"


async def test_events_come_as_one_json_message_as_soon_as_they_are_there(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    async with open_poller(daemon, tenant.application) as poller:
        await poller.send()
        await trio.sleep(0.1)
        await tenant.gateway.post_events([small(1), small(2)])
        with trio.fail_after(HOLD_S / 2):
            response = await poller.response()
        assert numbers_of(response) == [1, 2]
        assert response.headers.get("connection") != "close"


async def test_a_long_backlog_comes_in_order_poll_by_poll(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    for start in range(0, 25_000, 5_000):
        await tenant.gateway.post_events([small(n) for n in range(start, start + 5_000)])
    found: list[int] = []
    async with open_poller(daemon, tenant.application) as poller:
        while len(found) < 25_000:
            response = await poller.poll()
            assert len(response.body) <= 1_000_000
            found += numbers_of(response)
        assert found == list(range(25_000))
        assert (await poller.poll()).status == 204


@pytest.mark.parametrize("leave", [Poller.reset, Poller.aclose])
async def test_a_client_that_vanishes_in_the_hold_makes_room_at_once(
    daemon: Daemon, leave: Callable[[Poller], Awaitable[None]]
) -> None:
    tenant = await polling_tenant(daemon)
    async with open_poller(daemon, tenant.application) as first:
        await first.send()
        await trio.sleep(0.1)
        await leave(first)
        await trio.sleep(0.1)
    async with open_poller(daemon, tenant.application) as second:
        await second.send()
        await trio.sleep(0.1)
        await tenant.gateway.post_events([small(1)])
        assert numbers_of(await second.response()) == [1]


async def test_a_head_request_takes_nothing(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    await tenant.gateway.post_events([small(1)])
    head = await tenant.application.send("HEAD", PULL)
    assert (head.status, head.headers["allow"]) == (405, "GET, PUT, DELETE")
    async with open_poller(daemon, tenant.application) as poller:
        assert numbers_of(await poller.poll()) == [1]


# --- what acknowledges ----------------------------------------------------------------


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept alive", "closed each time"])
async def test_a_poll_acknowledges_the_answer_before_it(daemon: Daemon, lines: tuple[str, ...]) -> None:
    tenant = await polling_tenant(daemon)
    acked = await records(daemon, "dispatcher_records_acked_total")
    async with open_poller(daemon, tenant.application) as first:
        await tenant.gateway.post_events([small(1)])
        assert numbers_of(await first.poll(*lines)) == [1]
        assert await records(daemon, "dispatcher_records_acked_total") == acked
        if lines:
            await first.aclose()
        else:
            await first.send()
            await tenant.gateway.post_events([small(2)])
            assert numbers_of(await first.response()) == [2]
    async with open_poller(daemon, tenant.application) as second:
        assert (await second.poll(*lines)).status == 204
    assert await records(daemon, "dispatcher_records_acked_total") == acked + (1 if lines else 2)


async def test_a_poll_on_a_new_connection_acknowledges_though_the_old_one_is_open(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    async with (
        open_poller(daemon, tenant.application) as first,
        open_poller(daemon, tenant.application) as second,
    ):
        await tenant.gateway.post_events([small(1)])
        assert numbers_of(await first.poll()) == [1]
        assert (await second.poll()).status == 204


# --- what does not --------------------------------------------------------------------


async def big_answer(tenant: Tenant) -> list[int]:
    """Events that make an answer too large for a client's kernel to take it all unread."""
    await tenant.gateway.post_events([small(n) for n in range(10_000)])
    return list(range(10_000))


async def no_bytes_read(poller: Poller) -> None:
    """The client leaves with the answer in its kernel."""
    await trio.sleep(0.2)
    await poller.aclose()


async def half_read(poller: Poller) -> None:
    """The client dies in the midst of the answer."""
    assert await poller.read_some()
    await poller.aclose()


async def read_and_reset(poller: Poller) -> None:
    """The client has it all, but the connection ends with a reset."""
    assert (await poller.response()).status == 200
    await poller.reset()


@pytest.mark.parametrize("end", [no_bytes_read, half_read, read_and_reset])
async def test_an_answer_that_was_not_received_whole_and_in_peace_goes_again_byte_for_byte(
    daemon: Daemon, end: Callable[[Poller], Awaitable[None]]
) -> None:
    tenant = await polling_tenant(daemon, include_uid=True)
    expected = await big_answer(tenant)
    async with open_poller(daemon, tenant.application) as first:
        await first.send()
        await end(first)
    await tenant.gateway.post_events([small(10_000)])
    found: list[int] = []
    bodies: list[bytes] = []
    async with open_poller(daemon, tenant.application) as second:
        while len(found) <= len(expected):
            response = await second.poll()
            bodies.append(response.body)
            found += numbers_of(response)
    assert found == [*expected, 10_000]
    assert len(set(bodies)) == len(bodies)


async def test_the_same_bytes_go_again_as_often_as_they_are_lost(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon, include_uid=True, include_timestamp=True)
    await tenant.gateway.post_events([small(1), small(2)])
    bodies: list[bytes] = []
    for number in range(3, 7):
        async with open_poller(daemon, tenant.application) as poller:
            bodies.append((await poller.poll()).body)
            await poller.reset()
        await tenant.gateway.post_events([small(number)])
    async with open_poller(daemon, tenant.application) as poller:
        bodies.append((await poller.poll()).body)
        assert len(set(bodies)) == 1
        assert numbers_of(await poller.poll()) == [3, 4, 5, 6]


async def test_bytes_that_no_kernel_has_acknowledged_go_again_and_a_409_meanwhile_settles_nothing(
    daemon: Daemon,
) -> None:
    tenant = await polling_tenant(daemon)
    expected = await big_answer(tenant)
    acked = await records(daemon, "dispatcher_records_acked_total")
    async with (
        open_poller(daemon, tenant.application, receive_bytes=4096) as stuck,
        open_poller(daemon, tenant.application) as second,
    ):
        await stuck.send()
        await trio.sleep(0.2)
        await second.send()
        refused = await tenant.application.send("GET", PULL)
        assert refused.status == 409
        response = await second.response()
        assert numbers_of(response) == expected
        assert await records(daemon, "dispatcher_records_acked_total") == acked
        assert (await second.poll()).status == 204
    assert await records(daemon, "dispatcher_records_acked_total") == acked + len(expected)


async def test_a_poll_with_a_bad_key_settles_nothing(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    await tenant.gateway.post_events([small(1)])
    acked = await records(daemon, "dispatcher_records_acked_total")
    async with open_poller(daemon, tenant.application) as poller:
        assert numbers_of(await poller.poll()) == [1]
        for bad in ({}, {"Authorization": "Bearer ak_nobody"}):
            assert (await daemon.anyone.send("GET", PULL, headers=bad)).status == 401
        assert (await tenant.gateway.send("GET", PULL)).status == 403
        assert await records(daemon, "dispatcher_records_acked_total") == acked
        await poller.reset()
    async with open_poller(daemon, tenant.application) as poller:
        assert numbers_of(await poller.poll()) == [1]


async def test_a_delete_settles_nothing(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    await tenant.gateway.post_events([small(1)])
    acked = await records(daemon, "dispatcher_records_acked_total")
    deleted = await records(daemon, "dispatcher_records_deleted_total")
    async with open_poller(daemon, tenant.application) as poller:
        assert numbers_of(await poller.poll()) == [1]
        assert (await tenant.application.send("DELETE", PULL)).body == b"REMOVED"
        assert (await poller.poll()).status == 204  # a new channel, and nothing of the old one
    assert await records(daemon, "dispatcher_records_acked_total") == acked
    assert await records(daemon, "dispatcher_records_deleted_total") == deleted + 1


# --- several kinds --------------------------------------------------------------------


async def test_each_kind_is_an_answer_of_its_own(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    events = {"registrations": [{"ep": "d2"}], "notifications": [small(1)], "de-registrations": ["d2"]}
    assert (await tenant.gateway.send("POST", "/gateway/v1/events", events)).status == 202
    async with open_poller(daemon, tenant.application) as poller:
        kinds = [next(iter((await poller.poll()).body.split(b'"')[1:])) for _ in range(3)]
        assert kinds == [b"registrations", b"notifications", b"de-registrations"]
        assert (await poller.poll()).status == 204


# --- the end of a channel -------------------------------------------------------------


async def test_a_delete_ends_an_open_poll_with_410_and_frees_the_application_at_once(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    async with open_poller(daemon, tenant.application) as poller:
        await poller.send()
        await trio.sleep(0.1)
        deleted = await tenant.application.send("DELETE", PULL)
        assert (deleted.status, deleted.body) == (200, b"REMOVED")
        assert (await tenant.application.send("PUT", WEBSOCKET)).status == 201
        with trio.fail_after(HOLD_S / 2):
            response = await poller.response()
        assert (response.status, response.body) == (410, b"CHANNEL_DELETED")
        assert response.headers["content-type"].startswith("text/plain")


async def test_a_revoked_key_ends_its_open_poll_with_401(daemon: Daemon) -> None:
    tenant = await polling_tenant(daemon)
    assert tenant.application.key is not None
    async with open_poller(daemon, tenant.application) as poller:
        await poller.send()
        await trio.sleep(0.05)
        await daemon.revoke_key(tenant.application.key)
        assert (await poller.response()).status in (401, 204)  # 204: revoking took longer than the hold
        assert (await poller.poll()).status == 401


# --- time and restarts ----------------------------------------------------------------


async def test_a_channel_that_nobody_polls_is_gone_after_its_time(tmp_path: Path) -> None:
    with open_daemon(tmp_path, config=IMPATIENT_CONFIG) as daemon, log_shown(daemon):
        tenant = await new_tenant(daemon)
        async with open_poller(daemon, tenant.application) as poller:
            for _ in range(4):
                assert (await poller.poll()).status == 204
        assert await mechanism(tenant) == "LONG_POLLING"
        with trio.fail_after(10):
            while await mechanism(tenant) is not None:  # noqa: ASYNC110  another process has no event
                await trio.sleep(0.1)
        assert "nobody polled" in daemon.log.read_text()


async def test_over_tls_and_on_a_passed_socket_the_same_bytes_settle_or_go_again(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    files = f'[server]\ntls_certificate = "{tmp_path}/chain.pem"\ntls_key = "{tmp_path}/key.pem"\n'
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        open_daemon(tmp_path, config=files + DAEMON_CONFIG, sockets=[sock]) as daemon,
        log_shown(daemon),
    ):
        tenant = await new_tenant(daemon)

        async def post(number: int) -> None:
            body = json.dumps({"notifications": [small(number)]}).encode()
            path = f"/gateway/v1/applications/{tenant.application.key.application}/events"  # type: ignore[union-attr]
            lines = (f"Authorization: Bearer {key_of(tenant.gateway)}", "Content-Type: application/json")
            stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
            wire = WireClient(secured(stream, client))
            length = f"Content-Length: {len(body)}"
            assert (await wire.ask(request("POST", path, *lines, length) + body)).status == 202
            await wire.stream.aclose()

        async with open_poller(daemon, tenant.application, tls=client) as poller:
            assert (await poller.poll()).status == 204
            await post(1)
            assert numbers_of(await poller.poll()) == [1]
            await post(2)
            assert numbers_of(await poller.poll("Connection: close")) == [2]
        async with open_poller(daemon, tenant.application, tls=client) as poller:
            assert (await poller.poll()).status == 204
            await post(3)
            await poller.send()
            await trio.sleep(0.2)
            await poller.reset()
        async with open_poller(daemon, tenant.application, tls=client) as poller:
            assert numbers_of(await poller.poll()) == [3]
            assert (await poller.poll()).status == 204


async def test_after_a_restart_the_unacknowledged_answer_goes_again_with_its_uids(tmp_path: Path) -> None:
    with open_daemon(tmp_path, config=DAEMON_CONFIG) as first:
        tenant = await polling_tenant(first, include_uid=True, include_timestamp=True)
        async with open_poller(first, tenant.application) as poller:
            await tenant.gateway.post_events([small(1), small(2)])
            acknowledged = await poller.poll()
            assert numbers_of(acknowledged) == [1, 2]
            await poller.send()
            await trio.sleep(0.1)
            await tenant.gateway.post_events([small(3)])
            unacknowledged = await poller.response()
            await tenant.gateway.post_events([small(4)])
    with open_daemon(tmp_path, config=DAEMON_CONFIG) as second, log_shown(second):
        async with open_poller(second, tenant.application) as poller:
            again = await poller.poll()
            assert again.body == unacknowledged.body
            assert [event["uid"] for event in events_of(again)] != [e["uid"] for e in events_of(acknowledged)]
            assert numbers_of(await poller.poll()) == [4]
            assert (await poller.poll()).status == 204
