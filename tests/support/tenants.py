"""Tenants of a real daemon with a channel and a subscription to everything, and their events."""

from __future__ import annotations

from typing import Any

import trio
from support.daemon import Daemon, Tenant, User, new_tenant
from support.receiver import Receiver

EVERYTHING = [{"endpoint-name": "*"}]


def small(number: int, device: str = "d1", path: str = "/3/0/1") -> dict[str, Any]:
    return {"ep": device, "path": path, "payload": "", "ct": "", "max-age": number}


def numbers(message: Any, kind: str = "notifications") -> list[int]:
    return [event["max-age"] for event in message[kind]]


async def websocket_tenant(daemon: Daemon, **serialization: object) -> Tenant:
    """A tenant with a WebSocket channel, subscribed to everything."""
    tenant = await new_tenant(daemon)
    await register_websocket(tenant.application, **serialization)
    return tenant


async def register_websocket(application: User, **serialization: object) -> None:
    content = {"serialization": {"type": "v2", **serialization}} if serialization else None
    assert (await application.send("PUT", "/v2/notification/websocket", content)).status == 201
    assert (await application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204


async def callback_tenant(daemon: Daemon, receiver: Receiver, **serialization: object) -> Tenant:
    """A tenant with a callback channel, subscribed to everything."""
    tenant = await new_tenant(daemon)
    content: dict[str, object] = {"url": receiver.url, "headers": {"X-Mine": "yes"}}
    if serialization:
        content["serialization"] = {"type": "v2", **serialization}
    registered = await tenant.application.send("PUT", "/v2/notification/callback", content)
    assert registered.status == 204, registered.body
    assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    return tenant


def key_of(user: User) -> str:
    assert user.key is not None
    return user.key.key


async def queue_size(application: User) -> int:
    return int((await application.send("GET", "/v2/notification/websocket")).content()["queue_size"])


async def until_queue_is_empty(application: User) -> None:
    with trio.fail_after(5):
        while await queue_size(application):  # noqa: ASYNC110  another process has no event to wait for
            await trio.sleep(0.01)
