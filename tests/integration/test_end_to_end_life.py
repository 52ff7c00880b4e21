"""A daemon's own life: starting, stopping, starting again on the same data folder."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import trio
from support.daemon import DISPATCHER, READY_S, log_shown, new_tenant, open_daemon
from support.metrics import assert_balanced, scraped
from support.plain_websocket import open_websocket
from support.receiver import answer, open_receiver
from support.tenants import key_of, websocket_tenant

pytestmark = pytest.mark.slow

WEBSOCKET = "/v2/notification/websocket"
GRACE_S = 10.0


def event(number: int) -> dict[str, object]:
    return {"ep": "d1", "path": "/3/0/1", "max-age": number}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_sockets_with_1012_and_the_daemon_exits_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon)
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            await tenant.gateway.post_events([event(1)])
            assert (await application.message())["notifications"][0]["max-age"] == 1
            daemon.send_signal(number)
            with trio.fail_after(GRACE_S):
                assert (await application.wait_closed())[0] == 1012
                assert await daemon.wait() == 0


async def test_a_signal_ends_a_daemon_whose_clients_do_nothing(tmp_path: Path) -> None:
    with open_daemon(tmp_path, config="[server]\ngrace_s = 1\n") as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon)
        async with (
            open_websocket(daemon.port, key_of(tenant.application), answers_pings=False),
            await trio.open_tcp_stream("127.0.0.1", daemon.port),
            await trio.open_tcp_stream("127.0.0.1", daemon.port) as half_a_request,
        ):
            await half_a_request.send_all(
                b"POST /gateway/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            )
            daemon.send_signal(signal.SIGTERM)
            with trio.fail_after(GRACE_S):
                assert await daemon.wait() == 0


async def test_keys_channels_and_subscriptions_survive_a_restart(tmp_path: Path) -> None:
    async with open_receiver(otherwise=answer(200)) as receiver:
        with open_daemon(tmp_path, "--allow-private-callbacks") as first:
            tenant, other = await websocket_tenant(first), await new_tenant(first)
            put = await other.application.send("PUT", "/v2/notification/callback", {"url": receiver.url})
            assert put.status == 204
            await other.application.send("PUT", "/v2/subscriptions/d1/3/0/1")
        with open_daemon(tmp_path, "--allow-private-callbacks") as second, log_shown(second):
            for user in (tenant.gateway, tenant.application, other.gateway, other.application):
                user.port = second.port
            async with open_websocket(second.port, key_of(tenant.application)) as application:
                await tenant.gateway.post_events([event(2)])
                assert (await application.message())["notifications"][0]["max-age"] == 2
            await other.gateway.post_events([event(3)])
            _, delivery = await receiver.wait_requests(2)
            assert json.loads(delivery.body)["notifications"][0]["max-age"] == 3
            assert (await other.application.send("GET", "/v2/subscriptions/d1/3/0/1")).status == 200
        assert len(receiver.requests) == 2  # a registered callback is not verified again


async def test_a_key_revoked_while_no_daemon_runs_stays_revoked(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as first:
        tenant = await websocket_tenant(first)
    assert tenant.application.key is not None
    await first.revoke_key(tenant.application.key)
    with open_daemon(tmp_path) as second, log_shown(second):
        tenant.application.port = second.port
        assert (await tenant.application.send("GET", WEBSOCKET)).status == 401


async def start(*flags: str) -> subprocess.CompletedProcess[bytes]:
    """A start that must fail: with nothing on stdout, and never a traceback."""
    line = [*DISPATCHER, "serve", "--listen=127.0.0.1:0", *flags]
    with trio.fail_after(READY_S):
        done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    return done


async def test_a_second_daemon_on_the_same_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        second = await start(f"--data={daemon.data}")
    assert second.returncode == 1
    assert second.stderr.count(b"\n") == 1


async def test_an_address_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        address = f"127.0.0.1:{daemon.port}"
        second = await start(f"--data={tmp_path}/other", f"--listen={address}")
    assert second.returncode != 0
    assert address.encode() in second.stderr.splitlines()[-1]


async def test_a_damaged_registry_is_told_in_one_line(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon:
        await websocket_tenant(daemon)
    (registry,) = daemon.data.glob("*.sqlite")
    content = registry.read_bytes()
    page = 4096
    registry.write_bytes(content[:page] + b"\xa5" * (len(content) - page))
    second = await start(f"--data={daemon.data}")
    assert second.returncode == 1
    assert registry.name.encode() in second.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--listen=nonsense"], b"HOST:PORT"),
        (["--durability=paper"], b"disk, process or memory"),
        (["--config=nowhere.toml"], b"nowhere.toml"),
        (["--nonsense"], b"--nonsense"),
    ],
)
async def test_a_bad_start_says_what_is_wrong_and_exits_with_2(
    tmp_path: Path, flags: list[str], said: bytes
) -> None:
    done = await start(f"--data={tmp_path}/data", *flags)
    assert done.returncode == 2
    assert said in done.stderr


async def test_the_daemon_logs_no_key_no_header_value_and_no_payload(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
            tenant = await new_tenant(daemon)
            headers = {"X-Mine": "header-value-in-confidence"}
            content = {"url": receiver.url + "path-in-confidence", "headers": headers}
            await tenant.application.send("PUT", "/v2/notification/callback", content)
            await tenant.application.send("PUT", "/v2/subscriptions", [{"endpoint-name": "*"}])
            await tenant.gateway.post_events([{**event(1), "payload": "cGF5bG9hZGluY29uZmlkZW5jZQ=="}])
            await receiver.wait_requests(2)
            async with open_websocket(daemon.port, key_of(tenant.application)) as application:
                await application.wait_closed()
        logged = daemon.log.read_text()
    assert logged
    secrets = [key_of(tenant.application), key_of(tenant.gateway), "in-confidence", "cGF5bG9hZG"]
    assert [secret for secret in secrets if secret in logged] == []


async def test_the_records_balance_in_one_scrape(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        tenant = await websocket_tenant(daemon)
        await tenant.gateway.post_events([event(n) for n in range(100)])
        async with open_websocket(daemon.port, key_of(tenant.application)) as application:
            await application.events(100)
        await tenant.gateway.post_events([event(n) for n in range(10)])
        gone = await websocket_tenant(daemon)
        await gone.gateway.post_events([event(n) for n in range(7)])
        assert (await gone.application.send("DELETE", WEBSOCKET)).status == 204
        metrics = await scraped(daemon)
    assert_balanced(metrics)
    assert metrics["dispatcher_events_accepted_total"] == 117
    assert metrics["dispatcher_records_queued_total"] == 117
    assert metrics["dispatcher_records_deleted_total"] == 7
