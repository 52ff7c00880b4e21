"""Stopping and starting again while everybody goes on: nobody is refused, nothing is lost or torn off.

The test holds the listening socket, as systemd would.  A gateway posts all the time, over a kept-alive
connection and over new ones; three applications receive, one over each kind of channel.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.daemon import DISPATCHER, Daemon, User, log_shown, new_account, open_daemon, passing
from support.http_wire import WireClient, WireResponse, request
from support.plain_websocket import open_websocket
from support.poller import PULL, events_of, open_poller, polling_tenant
from support.receiver import SILENCE, answer, open_receiver
from support.tenants import EVERYTHING, callback_tenant, key_of, small, websocket_tenant

pytestmark = pytest.mark.slow

GRACE_S = 10.0
RESTARTS = 3
FLAGS = ("--allow-private-callbacks",)
WITH_UID = {"serialization": {"type": "v2", "cfg": {"include_uid": True}}}


@contextmanager
def listening() -> Iterator[socket.socket]:
    """The parent's socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        yield sock


def post_head(gateway: User, body_bytes: int) -> bytes:
    return request(
        "POST",
        "/gateway/v1/events",
        f"Authorization: Bearer {key_of(gateway)}",
        "Content-Type: application/json",
        f"Content-Length: {body_bytes}",
    )


# --- load -----------------------------------------------------------------------------


class Load:
    """What was accepted, what arrived where, and when to stop."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted: dict[str, int] = {}  # events, by device: they are numbered from 0
        self.arrived: dict[str, list[Any]] = {}  # events, by receiver
        self.closed_with: list[int] = []  # the codes that the WebSocket's client saw
        self.was_told_to_close = 0  # answers on the kept-alive connection
        self.is_over = False
        self.posters = 0  # that have not ended

    async def post(self, wire: WireClient, gateway: User, device: str, count: int) -> WireResponse:
        first = self.accepted.setdefault(device, 0)
        body = json.dumps({"notifications": [small(first + n, device) for n in range(count)]}).encode()
        with trio.fail_after(2 * GRACE_S):
            response = await wire.ask(post_head(gateway, len(body)) + body)
        assert response.status == 202, response
        self.accepted[device] += count
        return response

    async def connect(self) -> WireClient:
        return WireClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def keep_posting(self, post: Callable[[User], Awaitable[None]], gateway: User) -> None:
        self.posters += 1
        await post(gateway)
        self.posters -= 1

    async def post_kept_alive(self, gateway: User) -> None:
        while not self.is_over:
            wire = await self.connect()
            async with wire.stream:
                while not self.is_over:
                    response = await self.post(wire, gateway, "kept", 5)
                    if response.headers.get("connection") == "close":
                        self.was_told_to_close += 1
                        break
                    await trio.sleep(0.01)

    async def post_anew(self, gateway: User) -> None:
        while not self.is_over:
            wire = await self.connect()
            async with wire.stream:
                await self.post(wire, gateway, "anew", 2)
            await trio.sleep(0.01)

    def take(self, receiver: str, message: Any) -> None:
        self.arrived.setdefault(receiver, []).extend(message["notifications"])

    async def receive_by_websocket(self, application: User) -> None:
        while True:
            async with open_websocket(self.port, key_of(application)) as opened:
                try:
                    while True:
                        self.take("websocket", await opened.message())
                except (AssertionError, trio.TooSlowError):
                    if opened.closed_with is not None:
                        self.closed_with.append(opened.closed_with[0])

    async def receive_by_poll(self, daemon: Daemon, application: User) -> None:
        while True:
            async with open_poller(daemon, application) as poller:
                while True:
                    try:
                        response = await poller.poll()
                    except (AssertionError, trio.BrokenResourceError):
                        break  # it ended without an answer, so nothing was acknowledged
                    assert response.status in (200, 204), response
                    if response.status == 200:
                        self.arrived.setdefault("poll", []).extend(events_of(response))
                    if response.headers.get("connection") == "close":
                        break

    def is_complete(self, receiver: str) -> bool:
        uids = {event["uid"] for event in self.arrived.get(receiver, ())}
        return len(uids) == sum(self.accepted.values())

    def check(self, receiver: str) -> int:
        """All of it, in order, once after uid; how many came a second time."""
        events = self.arrived[receiver]
        once = list({event["uid"]: event for event in events}.values())
        for device, count in self.accepted.items():
            numbers = [event["max-age"] for event in once if event["ep"] == device]
            assert numbers == list(range(count)), (receiver, device)
        return len(events) - len(once)


async def three_applications(daemon: Daemon, callback_url: str) -> tuple[User, dict[str, User]]:
    """A gateway, and an application on each kind of channel, all subscribed to everything."""
    account = new_account()
    gateway = await daemon.user("gateway", account=account)
    kinds = ("callback", "socket", "poll")
    users = {kind: await daemon.user("application", account=account) for kind in kinds}
    put = users["callback"].send("PUT", "/v2/notification/callback", {"url": callback_url, **WITH_UID})
    assert (await put).status == 204
    assert (await users["socket"].send("PUT", "/v2/notification/websocket", WITH_UID)).status == 201
    assert (await users["poll"].send("PUT", PULL, WITH_UID)).status == 204
    for user in users.values():
        assert (await user.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    return gateway, users


async def test_restarts_under_load_refuse_nobody_and_lose_nothing(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with listening() as sock:
            load = Load(sock.getsockname()[1])
            async with trio.open_nursery() as nursery:
                for number in range(RESTARTS + 1):
                    with open_daemon(tmp_path, *FLAGS, sockets=[sock]) as daemon, log_shown(daemon):
                        assert daemon.port == load.port
                        if number == 0:
                            gateway, users = await three_applications(daemon, receiver.url)
                            nursery.start_soon(load.receive_by_websocket, users["socket"])
                            nursery.start_soon(load.receive_by_poll, daemon, users["poll"])
                            for post in (load.post_kept_alive, load.post_anew):
                                nursery.start_soon(load.keep_posting, post, gateway)
                        await trio.sleep(1)
                        if number < RESTARTS:
                            daemon.send_signal(signal.SIGTERM)
                            with trio.fail_after(GRACE_S):
                                assert await daemon.wait() == 0
                            continue
                        load.is_over = True
                        await all_arrived(load, receiver)
                nursery.cancel_scope.cancel()
    assert sum(load.accepted.values()) > 100 * RESTARTS
    assert load.was_told_to_close == RESTARTS
    assert load.closed_with == [1012] * RESTARTS
    # What was confirmed before the stop is in the journal; a poll's answer may not have been.
    assert (load.check("websocket"), load.check("callback")) == (0, 0)
    load.check("poll")


async def all_arrived(load: Load, receiver: Any) -> None:
    with trio.fail_after(60):
        while True:
            bodies = [json.loads(request.body) for request in receiver.requests[1:]]
            load.arrived["callback"] = [event for body in bodies for event in body["notifications"]]
            if not load.posters and all(map(load.is_complete, ("callback", "websocket", "poll"))):
                return
            await trio.sleep(0.1)


# --- one thing at a time --------------------------------------------------------------


async def test_a_client_that_connects_in_between_waits_and_is_served(tmp_path: Path) -> None:
    with listening() as sock:
        port = sock.getsockname()[1]
        with open_daemon(tmp_path, sockets=[sock]):
            pass
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            wire = WireClient(stream)
            await wire.send(request("GET", "/healthz"))
            with open_daemon(tmp_path, sockets=[sock]), trio.fail_after(5):
                assert (await wire.response()).body == b"ok\n"


async def test_the_internal_socket_is_told_by_its_name(tmp_path: Path) -> None:
    with listening() as public, listening() as internal:
        names = "dispatcher.socket:internal"
        with open_daemon(tmp_path, sockets=[public, internal], names=names) as daemon:
            assert daemon.port == public.getsockname()[1]
            assert (await daemon.anyone.send("GET", "/healthz")).status == 404
            inside = User(internal.getsockname()[1])
            assert (await inside.send("GET", "/healthz")).status == 200
            assert (await inside.send("GET", "/v2/notification/channel")).status == 404


async def test_a_file_instead_of_a_socket_is_told_in_one_line(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        line = [*passing([file]), *DISPATCHER, "serve", f"--data={tmp_path}/data"]  # type: ignore[list-item]
        done = await trio.run_process(
            line, capture_stdout=True, capture_stderr=True, check=False, pass_fds=[file.fileno()]
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"file descriptor 3 is not a listening TCP socket" in done.stderr


async def stop(daemon: Daemon) -> None:
    daemon.send_signal(signal.SIGTERM)
    with trio.fail_after(GRACE_S):
        assert await daemon.wait() == 0


async def test_an_open_poll_ends_with_204_and_its_connection(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        tenant = await polling_tenant(daemon)
        async with open_poller(daemon, tenant.application) as poller:
            await poller.send()
            await trio.sleep(0.2)
            daemon.send_signal(signal.SIGTERM)
            with trio.fail_after(2):
                response = await poller.response()
            assert (response.status, response.headers["connection"]) == (204, "close")


async def test_a_callback_in_flight_is_finished_and_not_sent_again(tmp_path: Path) -> None:
    async with open_receiver(answer(200), answer(200, after_s=1.0)) as receiver:
        with open_daemon(tmp_path, *FLAGS) as daemon:
            tenant = await callback_tenant(daemon, receiver)
            await tenant.gateway.post_events([small(1)])
            await receiver.wait_requests(2)
            await stop(daemon)
        with open_daemon(tmp_path, *FLAGS) as daemon, log_shown(daemon):
            tenant.gateway.port = daemon.port
            await tenant.gateway.post_events([small(2)])
            *_, last = await receiver.wait_requests(3)
    assert [event["max-age"] for event in json.loads(last.body)["notifications"]] == [2]
    assert len(receiver.requests) == 3


async def test_a_callback_that_does_not_finish_is_given_back_and_goes_again_byte_for_byte(
    tmp_path: Path,
) -> None:
    config = "[server]\ngrace_s = 1\n"
    async with open_receiver(answer(200), SILENCE) as receiver:
        with open_daemon(tmp_path, *FLAGS, config=config) as daemon:
            tenant = await callback_tenant(daemon, receiver, cfg={"include_uid": True})
            await tenant.gateway.post_events([small(1), small(2)])
            await receiver.wait_requests(2)
            await tenant.gateway.post_events([small(3)])
            daemon.send_signal(signal.SIGTERM)
            with trio.fail_after(1.5):
                assert await daemon.wait() == 0
        with open_daemon(tmp_path, *FLAGS, config=config) as daemon, log_shown(daemon):
            _, cut_off, again, rest = await receiver.wait_requests(4)
    assert again.body == cut_off.body
    assert [event["max-age"] for event in json.loads(rest.body)["notifications"]] == [3]


def pong(payload: bytes) -> bytes:
    """As a client sends it, under a mask of zeros."""
    return bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.mark.parametrize("answers", [True, False])
async def test_a_message_on_its_way_is_confirmed_before_the_close_or_comes_again(
    answers: bool, tmp_path: Path
) -> None:
    with open_daemon(tmp_path) as daemon:
        tenant = await websocket_tenant(daemon)
        async with open_websocket(daemon.port, key_of(tenant.application), answers_pings=False) as opened:
            await tenant.gateway.post_events([small(1)])
            await opened.message()
            daemon.send_signal(signal.SIGTERM)
            await trio.sleep(0.3)
            assert opened.closed_with is None
            if answers:
                await opened.send(pong(opened.pings[-1]))
            with trio.fail_after(GRACE_S):
                assert await opened.wait_closed() == (1012, "restarting")
                assert await daemon.wait() == 0
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        async with open_websocket(daemon.port, key_of(tenant.application)) as opened:
            if answers:
                await opened.stay_silent(0.5)
            else:
                assert [event["max-age"] for event in await opened.events(1)] == [1]


async def test_a_body_that_is_being_sent_may_be_finished(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon)
        body = json.dumps({"notifications": [small(1)]}).encode()
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
            wire = WireClient(stream)
            await wire.send(post_head(tenant.gateway, len(body)) + body[:10])
            await trio.sleep(0.2)
            daemon.send_signal(signal.SIGTERM)
            await trio.sleep(0.5)
            with trio.fail_after(5):
                response = await wire.ask(body[10:])
            assert (response.status, response.headers["connection"]) == (202, "close")
        assert await daemon.wait() == 0
    with open_daemon(tmp_path) as daemon:
        async with open_websocket(daemon.port, key_of(tenant.application)) as opened:
            assert [event["max-age"] for event in await opened.events(1)] == [1]
