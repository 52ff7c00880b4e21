"""The operator's webhook of a real daemon: what it is told, and what never goes there."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from standardwebhooks import Webhook
from support.daemon import log_shown, open_daemon
from support.receiver import Receiver, Request, open_receiver
from support.tenants import key_of, small, websocket_tenant

import dispatcher
from dispatcher.config import OperatorSettings, Settings, StorageSettings

pytestmark = pytest.mark.slow

SECRET = f"whsec_{base64.b64encode(b'the secret of the operator').decode()}"
TOKEN, PAYLOAD = "TOKENOFTHEOPERATOR", base64.b64encode(b"what a device said").decode()
TIERS = "[tiers.commercial]\nqueue_bytes = 20_000\n"


def settings(receiver: Receiver) -> str:
    return f'{TIERS}[operator]\nwebhook = "{receiver.url}{TOKEN}"\nwebhook_secret = "{SECRET}"\n'


def verified(request: Request) -> Any:
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return Webhook(SECRET).verify(request.body, headers)


async def test_a_queue_that_fills_and_overflows_is_told_of_without_what_is_in_it(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        # callbacks may not go to private addresses here; the operator's own webhook may
        with open_daemon(tmp_path, config=settings(receiver)) as daemon, log_shown(daemon):
            tenant = await websocket_tenant(daemon)
            for _ in range(10):
                events = [{**small(n), "payload": PAYLOAD} for n in range(40)]
                await tenant.gateway.post_events(events)
            seen: dict[str, Any] = {}
            with trio.fail_after(10):
                count = 0
                while "channel.lost-events" not in seen:
                    count += 1
                    (await receiver.wait_requests(count))
                    message = verified(receiver.requests[count - 1])
                    seen |= {one["event"]: one for one in message["data"]["warnings"]}
            assert seen["channel.filling"]["percent"] == 90
            assert seen["channel.filling"]["times"] > 1
            assert seen["channel.lost-events"]["count"] > 0
            metrics = (await daemon.anyone.send("GET", "/metrics")).body.decode()
            assert 'dispatcher_operator_warnings_total{outcome="dropped"} 0.0' in metrics
        sent = b"".join(request.head + request.body for request in receiver.requests)
        assert receiver.requests[0].line == f"POST /{TOKEN} HTTP/1.1".encode()
        for secret in (PAYLOAD, SECRET, key_of(tenant.gateway), key_of(tenant.application)):
            assert secret.encode() not in sent
    logged = daemon.log.read_text()
    assert TOKEN not in logged + metrics
    assert SECRET not in logged + metrics


async def test_a_receiver_that_is_dead_costs_nothing_else_and_the_daemon_stops_in_time(
    tmp_path: Path,
) -> None:
    async with open_receiver() as receiver:
        pass
    with open_daemon(tmp_path, config=settings(receiver)) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon)
        for _ in range(20):
            await tenant.gateway.post_events([small(n) for n in range(40)])
        with trio.fail_after(10):
            while "operator.webhook-failed" not in daemon.log.read_text():  # noqa: ASYNC110  another process
                await trio.sleep(0.05)
        assert (await daemon.anyone.send("GET", "/readyz")).status == 200
    lines = [line for line in daemon.log.read_text().splitlines() if "operator.warnings-dropped" in line]
    assert len(lines) == 1
    assert "the daemon stopped" in lines[0]


async def test_without_the_setting_nobody_is_called(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with open_daemon(tmp_path, config=TIERS) as daemon, log_shown(daemon):
            tenant = await websocket_tenant(daemon)
            for _ in range(10):
                await tenant.gateway.post_events([small(n) for n in range(40)])
            await trio.sleep(1.5)
        assert "channel.filling" in daemon.log.read_text()
        assert receiver.connections == 0
        assert json.dumps(receiver.requests) == "[]"


async def used_folder(folder: Path) -> Path:
    """With a channel and three groups of ten events; its first segment."""
    async with dispatcher.open_dispatcher(Settings(storage=StorageSettings(data=str(folder)))) as hub:
        application = await hub.ensure_application(await hub.ensure_account(), "app")
        async with hub.consume(application):
            for number in range(3):
                event = dispatcher.Notification(ep="device", path=f"/{number}", payload=b"")
                await hub.publish_many(application, [event] * 10)
    return folder / "journal" / "00000001.seg"


async def test_what_a_damaged_journal_had_lost_is_told_after_the_start(tmp_path: Path) -> None:
    segment = await used_folder(tmp_path)
    spoiled = bytearray(segment.read_bytes())
    spoiled[2 * 4096 + 300] ^= 1  # in the second group
    segment.write_bytes(spoiled)
    async with open_receiver() as receiver:
        settings = Settings(
            storage=StorageSettings(data=str(tmp_path)), operator=OperatorSettings(webhook=receiver.url)
        )
        async with dispatcher.open_dispatcher(settings):
            with trio.fail_after(10):
                await receiver.wait_requests(1)
        (request,) = receiver.requests
        found, loss = json.loads(request.body)["data"]["warnings"]
        assert (found["event"], found["damaged_groups"], found["lost_to_damage"]) == (
            "journal.recovered",
            1,
            10,
        )
        assert loss["event"] == "channel.lost-events"
        assert (loss["reason"], loss["count"], loss["first_seq"], loss["last_seq"]) == ("corrupt", 10, 11, 20)


async def test_a_whole_journal_is_no_news(tmp_path: Path) -> None:
    await used_folder(tmp_path)
    settings = Settings(
        storage=StorageSettings(data=str(tmp_path)), operator=OperatorSettings(webhook="http://127.0.0.1:1/")
    )
    async with dispatcher.open_dispatcher(settings) as hub:
        assert " 0 to tell>" in repr(hub.parts.webhook)
