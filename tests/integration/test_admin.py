"""An operator beside a real daemon: the admin API over sockets, and the commands that use it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.daemon import Daemon, Tenant, User, command, new_tenant, open_daemon
from support.http_wire import WireClient, get
from support.receiver import Receiver, answer, open_receiver

pytestmark = pytest.mark.slow

FLAGS = ("--allow-private-callbacks",)
CONFIG = "[tiers.commercial]\nretry_initial_s = 60\n"
HEADER_VALUE = "a-header-value-of-the-application"
PAYLOAD = "cGF5bG9hZC1vZi1hLWRldmljZQ=="


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with open_daemon(tmp_path_factory.mktemp("daemon"), *FLAGS, config=CONFIG) as running:
        yield running


@pytest.fixture
async def operator(daemon: Daemon) -> User:
    return await daemon.user("admin")


class Failing:
    """A tenant whose callback has refused a batch, and waits a minute before the next attempt."""

    def __init__(self, tenant: Tenant, receiver: Receiver, channel: int) -> None:
        self.tenant = tenant
        self.receiver = receiver
        self.channel = channel
        self.path = f"/admin/v1/channels/{channel}"


@asynccontextmanager
async def failing_callback(daemon: Daemon, operator: User) -> AsyncIterator[Failing]:
    async with open_receiver(answer(200), answer(503)) as receiver:
        tenant = await new_tenant(daemon)
        assert (await tenant.application.send("PUT", "/v2/subscriptions", [{}])).status == 204
        webhook = {"url": receiver.url + "secret-path", "headers": {"X-Token": HEADER_VALUE}}
        assert (await tenant.application.send("PUT", "/v2/notification/callback", webhook)).status == 204
        await post(tenant, 1)
        await receiver.wait_requests(2)
        listed = await operator.send("GET", f"/admin/v1/channels?account={tenant.account}")
        (row,) = listed.content()["channels"]
        failing = Failing(tenant, receiver, row["id"])
        await until(operator, failing.path, failures=1)
        yield failing


async def post(tenant: Tenant, number: int) -> None:
    await tenant.gateway.post_events([{"ep": f"dev-{number}", "path": "/1", "payload": PAYLOAD}])


async def until(operator: User, path: str, **wanted: object) -> Any:
    """The content at a path once it has these values."""
    with trio.fail_after(10):
        while True:
            content = (await operator.send("GET", path)).content()
            if all(content[name] == value for name, value in wanted.items()):
                return content
            await trio.sleep(0.02)


# --- the API --------------------------------------------------------------------------------


async def test_a_failing_callback_is_shown_with_its_attempts_and_tried_again_at_once(
    daemon: Daemon, operator: User
) -> None:
    async with failing_callback(daemon, operator) as failing:
        shown = await until(operator, failing.path, status="failing")
        assert shown["target"] == failing.receiver.url.rstrip("/")
        assert shown["last_failure"]["reason"] == "status 503"
        assert shown["sending"]["frozen_events"] == 1
        assert 50 < shown["next_attempt_in_s"] <= 60
        (attempt,) = (await operator.send("GET", f"{failing.path}/deliveries")).content()["deliveries"]
        assert (attempt["outcome"], attempt["error"], attempt["status"], attempt["events"]) == (
            "failed", "status", 503, 1,
        )  # fmt: skip
        assert attempt["bytes"] == len(failing.receiver.requests[1].body)
        assert (await operator.send("POST", f"{failing.path}/retry")).status == 204
        again = (await failing.receiver.wait_requests(3))[2]
        assert again.body == failing.receiver.requests[1].body
        await until(operator, failing.path, status="ok", records=0, failures=0, confirmed=1)
        outcomes = (await operator.send("GET", f"{failing.path}/deliveries")).content()["deliveries"]
        assert [(one["outcome"], one["error"], one["status"]) for one in outcomes] == [
            ("delivered", None, 200),
            ("failed", "status", 503),
        ]


async def test_a_paused_callback_is_not_called_and_gets_the_same_bytes_when_it_is_resumed(
    daemon: Daemon, operator: User
) -> None:
    async with failing_callback(daemon, operator) as failing:
        assert (await operator.send("POST", f"{failing.path}/pause")).status == 204
        refused = await operator.send("POST", f"{failing.path}/retry")
        assert refused.status == 409
        await post(failing.tenant, 2)
        await trio.sleep(0.3)
        assert len(failing.receiver.requests) == 2
        await until(operator, failing.path, status="paused", records=2)
        assert (await operator.send("POST", f"{failing.path}/resume")).status == 204
        requests = await failing.receiver.wait_requests(4)
        assert requests[2].body == requests[1].body
        await until(operator, failing.path, status="ok", records=0)


async def test_a_channel_stays_paused_over_a_restart(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with open_daemon(tmp_path, *FLAGS) as daemon:
            operator, tenant = await daemon.user("admin"), await new_tenant(daemon)
            assert (await tenant.application.send("PUT", "/v2/subscriptions", [{}])).status == 204
            webhook = {"url": receiver.url}
            assert (await tenant.application.send("PUT", "/v2/notification/callback", webhook)).status == 204
            assert (await operator.send("POST", "/admin/v1/channels/1/pause")).status == 204
            await post(tenant, 1)
        with open_daemon(tmp_path, *FLAGS) as daemon:
            assert operator.key is not None
            again = User(daemon.port, operator.key)
            await until(again, "/admin/v1/channels/1", status="paused", records=1)
            await trio.sleep(0.2)
            assert len(receiver.requests) == 1  # the verification
            assert (await again.send("POST", "/admin/v1/channels/1/resume")).status == 204
            await receiver.wait_requests(2)


async def test_nothing_secret_is_in_any_answer_or_in_the_log(daemon: Daemon, operator: User) -> None:
    async with failing_callback(daemon, operator) as failing:
        assert operator.key is not None
        assert failing.tenant.application.key is not None
        texts = [
            (await operator.send("GET", f"/admin/v1/{path}")).body.decode()
            for path in ("channels", "keys", "applications", "stats")
        ]
        texts += [
            (await operator.send("GET", failing.path + rest)).body.decode()
            for rest in ("", "/peek", "/deliveries")
        ]
        assert (await operator.send("GET", f"{failing.path}/peek?payloads=true")).status == 200
        texts.append(daemon.log.read_text())
        for text in texts:
            for secret in (
                HEADER_VALUE,
                PAYLOAD,
                "secret-path",
                operator.key.key,
                failing.tenant.application.key.key,
            ):
                assert secret not in text
        assert f"admin.acted key={operator.key.id} action='peek with payloads'" in texts[-1]


async def test_the_stream_goes_on_over_the_keep_alive_time_and_ends_with_its_key(daemon: Daemon) -> None:
    operator = await daemon.user("admin")
    assert operator.key is not None
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
        client = WireClient(stream)
        head = await client.ask(get("/admin/v1/events", f"Authorization: Bearer {operator.key.key}"))
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        with trio.fail_after(10):
            received = bytes(client.received)
            while received.count(b"\n\n") < 2:
                received += await stream.receive_some()
            await daemon.revoke_key(operator.key)
            while more := await stream.receive_some():
                received += more
    first = json.loads(received.split(b"\n\n")[0].removeprefix(b"event: fleet\ndata: "))
    assert set(first) == {"totals", "channels", "gone", "untold"}


async def test_a_daemon_with_open_streams_stops_in_time(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        operator = await daemon.user("admin")
        assert operator.key is not None
        stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        client = WireClient(stream)
        await client.ask(get("/admin/v1/events", f"Authorization: Bearer {operator.key.key}"))
        began_s = trio.current_time()
    assert trio.current_time() - began_s < 5
    await stream.aclose()


async def test_with_an_internal_address_the_operators_paths_are_there_alone(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as public,
        socket.create_server(("127.0.0.1", 0)) as internal,
        open_daemon(tmp_path, sockets=[public, internal], names="x:internal") as daemon,
    ):
        operator = await daemon.user("admin")
        inside = User(internal.getsockname()[1], operator.key)
        paths = [
            path
            for path in (await inside.send("GET", "/openapi.json")).content()["paths"]
            if path.startswith(("/admin", "/console"))
        ]
        assert len(paths) > 12
        for path in paths:
            target = path.replace("{channel}", "1").replace("{key}", "k_1")
            for method in ("GET", "POST", "DELETE"):
                assert (await operator.send(method, target)).status == 404, target
        assert "/admin" not in (await operator.send("GET", "/openapi.json")).body.decode()
        assert (await inside.send("GET", "/admin/v1/stats")).status == 200
        assert (await inside.send("GET", "/v2/notification/channel")).status == 404


# --- the commands ---------------------------------------------------------------------------


async def test_the_commands_show_what_the_api_tells(daemon: Daemon, operator: User) -> None:
    async with failing_callback(daemon, operator) as failing:
        name = f"{failing.tenant.account}/"
        listed = await command(daemon, operator, "channels", "list", "--status", "failing", "--limit", "0")
        assert listed.returncode == 0, listed.stderr
        lines = [line for line in listed.stdout.decode().splitlines() if name in line]
        assert len(lines) == 1
        assert "CALLBACK" in lines[0]
        assert b"\x1b[" not in listed.stdout  # no colours in a pipe
        rows = json.loads((await command(daemon, operator, "channels", "list", "--json")).stdout)
        assert failing.channel in [row["id"] for row in rows]
        application = next(row["application"] for row in rows if row["id"] == failing.channel)
        shown = await command(daemon, operator, "channels", "show", f"{failing.tenant.account}/{application}")
        assert "status 503" in shown.stdout.decode()
        content = json.loads(
            (await command(daemon, operator, "channels", "show", str(failing.channel), "--json")).stdout
        )
        assert (content["channel"]["failures"], len(content["deliveries"])) == (1, 1)
        peeked = await command(daemon, operator, "peek", str(failing.channel))
        assert b'"ep":"dev-1"' in peeked.stdout
        assert PAYLOAD.encode() not in peeked.stdout
        (record,) = json.loads(
            (await command(daemon, operator, "peek", str(failing.channel), "--payloads", "--json")).stdout
        )
        assert record["event"]["payload"] == PAYLOAD
        assert json.loads((await command(daemon, operator, "stats", "--json")).stdout)["durability"] == "disk"
        assert b"in queues" in (await command(daemon, operator, "stats")).stdout


async def test_the_commands_pause_resume_retry_and_delete(daemon: Daemon, operator: User) -> None:
    async with failing_callback(daemon, operator) as failing:
        number = str(failing.channel)
        assert (
            await command(daemon, operator, "channels", "pause", number)
        ).stdout == f"{number}: paused\n".encode()
        await until(operator, failing.path, status="paused")
        refused = await command(daemon, operator, "channels", "retry", number)
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"the channel is paused" in refused.stderr
        done = await command(daemon, operator, "channels", "resume", number, "--json")
        assert json.loads(done.stdout) == {"channel": number, "outcome": "resumed"}
        await failing.receiver.wait_requests(3)
        unsure = await command(daemon, operator, "channels", "delete", number)
        assert (unsure.returncode, unsure.stderr.count(b"\n")) == (2, 1)
        assert (await operator.send("GET", failing.path)).status == 200
        assert (await command(daemon, operator, "channels", "delete", number, "--yes")).returncode == 0
        assert (await operator.send("GET", failing.path)).status == 404


async def test_what_goes_wrong_is_one_line(daemon: Daemon, operator: User) -> None:
    gateway = await daemon.user("gateway")
    for user, arguments, status, reason in (
        (operator, ("channels", "show", "999999"), 1, "there is no such channel"),
        (operator, ("channels", "show", "nobody/nothing"), 1, "no application 'nothing'"),
        (operator, ("channels", "list", "--status", "well"), 2, "--status"),
        (operator, ("peek",), 2, "CHANNEL"),
        (operator, ("stats", "--url", "http://127.0.0.1:1"), 1, "cannot reach the dispatcher"),
        (gateway, ("stats",), 1, "keys create --role admin"),
    ):
        done = await command(daemon, user, *arguments)
        assert (done.returncode, done.stdout) == (status, b""), arguments
        assert done.stderr.count(b"\n") == 1
        assert reason in done.stderr.decode()
