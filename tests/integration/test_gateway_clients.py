"""Gateways on unmodified client libraries against a real daemon."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import websockets.asyncio.client
from support.daemon import Daemon, User, new_tenant, open_daemon
from support.plain_websocket import open_websocket
from support.tenants import key_of, websocket_tenant

pytestmark = pytest.mark.slow

PATH = "/gateway/v1/connect"
MESSAGES = 200


def notification(number: int, payload: str = "") -> str:
    event = {"ep": "d", "path": "/1", "max-age": number, "payload": payload}
    return json.dumps({"notifications": [event], "message-id": f"m{number}"})


async def trio_client(url: str, key: str, texts: list[str]) -> list[Any]:
    headers = [("Authorization", f"Bearer {key}")]
    answers: list[Any] = []
    async with (
        trio_websocket.open_websocket_url(url, extra_headers=headers) as socket,
        trio.open_nursery() as nursery,
    ):

        async def receive() -> None:
            for _ in texts:
                answers.append(json.loads(await socket.get_message()))

        nursery.start_soon(receive)
        for text in texts:
            await socket.send_message(text)
    return answers


async def websockets_client(url: str, key: str, texts: list[str]) -> list[Any]:
    async def run() -> list[Any]:
        protocols = ["wss", f"pelion_{key}"]
        async with websockets.asyncio.client.connect(url, subprotocols=protocols) as socket:  # type: ignore[arg-type]
            for text in texts:
                await socket.send(text)
            return [json.loads(await socket.recv()) for _ in texts]

    return await trio.to_thread.run_sync(asyncio.run, run())


@pytest.mark.parametrize("client", [trio_client, websockets_client])
async def test_messages_sent_without_waiting_are_answered_in_order(
    daemon: Daemon, client: Callable[[str, str, list[str]], Awaitable[list[Any]]]
) -> None:
    tenant = await new_tenant(daemon)
    url = f"ws://127.0.0.1:{daemon.port}{PATH}"
    texts = [notification(number) for number in range(MESSAGES)]
    with trio.fail_after(60):
        answers = await client(url, key_of(tenant.gateway), texts)
        assert answers == [{"accepted": n + 1} for n in range(MESSAGES)]
        again = await client(url, key_of(tenant.gateway), texts[:2])
    assert again == [{"accepted": 1}, {"accepted": 2}]


async def test_a_message_of_many_megabytes_is_one_message(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    url = f"ws://127.0.0.1:{daemon.port}{PATH}"
    event = {"ep": "d", "path": "/1", "payload": "A" * 200_000}
    with trio.fail_after(60):
        for client in (trio_client, websockets_client):
            text = json.dumps({"notifications": [event] * 50})
            assert await client(url, key_of(tenant.gateway), [text]) == [{"accepted": 50}]


async def test_a_daemon_that_stops_says_1012(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await new_tenant(daemon)
        url = f"ws://127.0.0.1:{daemon.port}{PATH}"
        headers = [("Authorization", f"Bearer {key_of(tenant.gateway)}")]
        with trio.fail_after(30):
            async with trio_websocket.open_websocket_url(url, extra_headers=headers) as socket:
                await socket.send_message(notification(1))
                assert json.loads(await socket.get_message()) == {"accepted": 1}
                daemon.send_signal(signal.SIGTERM)
                with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                    await socket.get_message()
                assert closed.value.reason is not None
                assert closed.value.reason.code == 1012
            assert await daemon.wait() == 0


async def test_a_gateway_on_websockets_carries_out_a_request(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    asked = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def gateway() -> None:
        url = f"ws://127.0.0.1:{daemon.port}{PATH}"
        headers = {"Authorization": f"Bearer {key_of(tenant.gateway)}"}
        async with websockets.asyncio.client.connect(url, additional_headers=headers) as socket:
            await socket.send('{"registrations":[{"ep":"d","resources":[{"path":"/3/0/1"}]}]}')
            async for text in socket:
                message = json.loads(text)
                if "device-requests" not in message:
                    token.run_sync_soon(asked.set)
                    continue
                for request in message["device-requests"]:
                    if "id" not in request:  # a hint: the tenant is subscribed to everything
                        continue
                    answer = {"id": request["id"], "status": 200, "payload": request["payload-b64"][:8]}
                    await socket.send(json.dumps({"async-responses": [answer]}))
                    await socket.recv()
                    return

    with trio.fail_after(60):
        async with (
            trio.open_nursery() as nursery,
            open_websocket(daemon.port, key_of(tenant.application)) as channel,
        ):
            nursery.start_soon(trio.to_thread.run_sync, asyncio.run, gateway())
            await asked.wait()
            content = {"method": "PUT", "uri": "/3/0/1", "payload-b64": "A" * 600_000}
            reply = await tenant.application.send("POST", "/v2/device-requests/d?async-id=job", content)
            assert reply.status == 202, reply.body
            while "async-responses" not in (message := await channel.message()):
                pass
        (result,) = message["async-responses"]
        assert (result["id"], result["status"], len(result["payload"])) == ("job", 200, 8)


async def receive_request(socket: trio_websocket.WebSocketConnection) -> Any:
    while "device-requests" not in (message := json.loads(await socket.get_message())):
        pass
    (request,) = message["device-requests"]
    return request


async def test_an_accepted_request_survives_a_killed_daemon(tmp_path: Path) -> None:
    """Sent once before and again after: at least once, with the same id; and one result in the channel."""
    with trio.fail_after(60):
        with open_daemon(tmp_path, exit_status=-signal.SIGKILL) as daemon:
            tenant = await websocket_tenant(daemon)
            headers = [("Authorization", f"Bearer {key_of(tenant.gateway)}")]
            url = f"ws://127.0.0.1:{daemon.port}{PATH}"
            async with trio_websocket.open_websocket_url(url, extra_headers=headers) as socket:
                await socket.send_message('{"registrations":[{"ep":"d"}]}')
                await socket.get_message()
                for async_id in ("first", "second"):
                    target = f"/v2/device-requests/d?async-id={async_id}"
                    reply = await tenant.application.send("POST", target, {"method": "GET", "uri": "/3/0/1"})
                    assert reply.status == 202, reply.body
                assert (await receive_request(socket))["id"] == "first"
                daemon.send_signal(signal.SIGKILL)
                assert await daemon.wait() == -signal.SIGKILL
        with open_daemon(tmp_path) as daemon:
            url = f"ws://127.0.0.1:{daemon.port}{PATH}"
            application = User(daemon.port, tenant.application.key)
            async with (
                trio_websocket.open_websocket_url(url, extra_headers=headers) as socket,
                open_websocket(daemon.port, key_of(application)) as channel,
            ):
                for async_id in ("first", "second"):
                    assert await receive_request(socket) == {
                        "id": async_id, "ep": "d", "method": "GET", "uri": "/3/0/1"
                    }  # fmt: skip
                    answer = {"async-responses": [{"id": async_id, "status": 200, "payload": "MQ=="}]}
                    await socket.send_message(json.dumps(answer))
                found: list[Any] = []
                while len(found) < 2:
                    found += (await channel.message()).get("async-responses", [])
        assert [(result["id"], result["status"]) for result in found] == [("first", 200), ("second", 200)]
