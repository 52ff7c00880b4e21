"""The Python SDK that applications have, as it was published, against a real daemon.

It blocks and has a thread of its own, so each call runs on a worker thread.
"""

from __future__ import annotations

import queue
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from support.daemon import Daemon, User, log_shown, new_tenant, open_daemon
from support.receiver import open_receiver
from support.tenants import key_of

pytest.importorskip("mbed_cloud", reason="mbed-cloud-sdk is not installed: pip install '.[test]'")
connect: Any = pytest.importorskip("mbed_cloud.connect")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]

DAEMON_FLAGS = ("--allow-private-callbacks",)

CALL_S = 10.0
CHANNEL = "/v2/notification/channel"
POLLING = 'dispatcher_channels{status="connected",type="LONG_POLLING"} 1'
DEVICE, PATH = "0190aa11bb22000000000001001000a1", "/3303/0/5700"

T = TypeVar("T")


async def call(work: Callable[..., T], *arguments: Any) -> T:
    with trio.fail_after(CALL_S):
        return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


def sdk_of(application: User) -> Any:
    """The SDK with nothing but a key and an address."""
    return connect.ConnectAPI(
        {
            "api_key": key_of(application),
            "host": f"http://127.0.0.1:{application.port}",
            "autostart_notification_thread": False,
        }
    )


def value(text: str) -> dict[str, str]:
    encoded = {"21.5": "MjEuNQ==", "22": "MjI=", "23": "MjM="}[text]
    return {"ep": DEVICE, "path": PATH, "ct": "text/plain", "payload": encoded}


async def next_value(values: queue.Queue[Any]) -> str:
    return bytes(await call(values.get, True, CALL_S)).decode()


async def until_it_polls(port: int) -> None:
    """Until the one application that polls has a poll open.

    Its thread polls in its own time.  To stop it before would race with the poll that it is
    about to send: that makes a new channel, and is held for thirty seconds.
    """
    anyone = User(port)
    with trio.fail_after(CALL_S):
        while POLLING not in (await anyone.send("GET", "/metrics")).body.decode():  # noqa: ASYNC110
            await trio.sleep(0.05)


@asynccontextmanager
async def polling(application: User) -> AsyncIterator[Any]:
    """An SDK whose thread polls until the block ends."""
    sdk = sdk_of(application)
    await call(sdk.start_notifications)
    try:
        await until_it_polls(application.port)
        yield sdk
        if sdk.has_active_notification_thread:
            await until_it_polls(application.port)
    finally:
        with trio.CancelScope(shield=True):
            await call(sdk.stop_notifications)


async def test_notifications_come_to_the_queue_of_a_subscription(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    async with polling(tenant.application) as sdk:
        values = await call(sdk.add_resource_subscription, DEVICE, PATH)
        for text in ("21.5", "22", "23"):
            await tenant.gateway.post_events([value(text)])
            assert await next_value(values) == text


async def test_stopping_returns_at_once_though_a_poll_is_held_for_thirty_seconds(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    for _ in range(2):  # and it can start again at once
        async with polling(tenant.application) as sdk:
            thread = sdk._notifications_thread
            with trio.fail_after(5):
                await call(sdk.stop_notifications)
                await call(thread.join)
            assert (await tenant.application.send("GET", CHANNEL)).status == 404


async def test_a_second_program_with_the_same_key_does_not_disturb_the_first(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    async with polling(tenant.application) as first:
        values = await call(first.add_resource_subscription, DEVICE, PATH)
        async with polling(tenant.application):
            await trio.sleep(0.5)  # its first poll is refused, and it pauses
            await tenant.gateway.post_events([value("21.5")])
            assert await next_value(values) == "21.5"


async def test_subscriptions(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    sdk = sdk_of(tenant.application)
    assert await call(sdk.get_resource_subscription, DEVICE, PATH) is False
    await call(sdk.add_resource_subscription, DEVICE, PATH)
    await call(sdk.add_resource_subscription, DEVICE, "/3/0/1")
    assert await call(sdk.get_resource_subscription, DEVICE, PATH) is True
    assert sorted(await call(sdk.list_device_subscriptions, DEVICE)) == ["/3/0/1", PATH]
    await call(sdk.delete_resource_subscription, DEVICE, PATH)
    assert await call(sdk.list_device_subscriptions, DEVICE) == ["/3/0/1"]
    await call(sdk.delete_device_subscriptions, DEVICE)
    assert await call(sdk.get_resource_subscription, DEVICE, "/3/0/1") is False


async def test_presubscriptions(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    sdk = sdk_of(tenant.application)
    wanted = [{"device_id": "node*", "device_type": "Light", "resource_paths": ["/3/*"]}]
    await call(sdk.update_presubscriptions, wanted)
    (found,) = await call(sdk.list_presubscriptions)
    assert (found.device_id, found.device_type, found.resource_paths) == ("node*", "Light", ["/3/*"])
    await call(sdk.delete_presubscriptions)
    assert await call(sdk.list_presubscriptions) == []


async def test_a_webhook_replaces_the_long_poll_and_its_messages_are_understood(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    assert await call(sdk_of(tenant.application).get_webhook) is None
    async with polling(tenant.application) as sdk, open_receiver() as receiver:
        values = await call(sdk.add_resource_subscription, DEVICE, PATH)
        await call(sdk.update_webhook, receiver.url, {"X-Mine": "yes"})
        assert (await call(sdk.get_webhook)).url == receiver.url
        await tenant.gateway.post_events([value("21.5")])
        probe, delivery = await receiver.wait_requests(2)
        assert (probe.body, probe.values("X-Mine")) == (b"{}", [b"yes"])
        for request in (probe, delivery):
            await call(sdk.notify_webhook_received, request.body.decode())
        assert await next_value(values) == "21.5"
        await call(sdk.delete_webhook)
        assert await call(sdk.get_webhook) is None


async def test_its_poll_survives_a_restart_on_a_passed_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        with open_daemon(tmp_path, sockets=[sock]) as daemon:
            tenant = await new_tenant(daemon)
            sdk = sdk_of(tenant.application)
            await call(sdk.start_notifications)
            await until_it_polls(daemon.port)
            values = await call(sdk.add_resource_subscription, DEVICE, PATH)
            await tenant.gateway.post_events([value("21.5")])
            assert await next_value(values) == "21.5"
            await until_it_polls(daemon.port)
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
        with open_daemon(tmp_path, sockets=[sock]) as daemon, log_shown(daemon):
            await tenant.gateway.post_events([value("22")])
            assert await next_value(values) == "22"
            await until_it_polls(daemon.port)
            await call(sdk.stop_notifications)
