"""The commands in processes of their own, against each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.daemon import DISPATCHER, Daemon, Tenant, new_tenant, open_daemon

pytestmark = pytest.mark.slow

COMMAND_S = 30.0
SERVE = ("serve", "--listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with open_daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def environment(daemon: Daemon | None = None, key: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    if daemon is not None:
        kept["DISPATCHER_URL"] = f"http://127.0.0.1:{daemon.port}"
    return {**kept, "DISPATCHER_KEY": key} if key else kept


async def run(
    *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(COMMAND_S):
        done = await trio.run_process(
            [*DISPATCHER, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment() if env is None else env,
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


async def read_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    """What comes until ``end`` is in it, or until the end of the stream."""
    said = b""
    while end not in said and (more := await stream.receive_some()):
        said += more
    return said


def key_of(tenant: Tenant, role: str) -> str:
    user = tenant.gateway if role == "gateway" else tenant.application
    assert user.key is not None
    return user.key.key


async def subscribe_to_all(tenant: Tenant) -> None:
    assert (await tenant.application.send("PUT", "/v2/subscriptions", [{}])).status == 204


async def wait_for_status(tenant: Tenant, status: str) -> None:
    """Wait until the application's WebSocket channel is there and has this status."""
    with trio.fail_after(COMMAND_S):
        while True:
            reply = await tenant.application.send("GET", "/v2/notification/websocket")
            if reply.status == 200 and reply.content()["status"] == status:
                return
            await trio.sleep(0.05)


def notification(number: int) -> bytes:
    return b'{"notifications":[{"ep":"dev-%d","path":"/1","payload":"MjEuNQ=="}]}\n' % number


# --- serve ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_says_one_line_when_it_is_ready_and_ends_with_0_at_a_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = await trio.lowlevel.open_process(
        [*DISPATCHER, *SERVE, "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with trio.fail_after(COMMAND_S):
            said = await read_until(process.stdout, b"\n")
        process.send_signal(number)
        with trio.fail_after(12):
            said += b"".join([chunk async for chunk in process.stdout])
            status = await process.wait()
            log = b"".join([chunk async for chunk in process.stderr]).decode()
    finally:
        process.kill()
    assert status == 0, log
    lines = said.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ready http://127.0.0.1:")
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--durability", "paper"], "durability"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--config", "/nonexistent.toml"], "nonexistent.toml"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
async def test_serve_with_wrong_settings_exits_2_with_one_line(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    done = await run(*SERVE, "--data", str(tmp_path / "data"), *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1, done.stderr.decode()
    assert reason in done.stderr.decode()


async def test_every_command_tells_what_it_does() -> None:
    for command in ("serve", "demo", "keys", "publish", "tail", "config"):
        done = await run(command, "--help")
        assert done.returncode == 0
        assert b"Usage: dispatcher " + command.encode() in done.stdout


# --- publish and tail -----------------------------------------------------------------


async def test_what_is_published_comes_out_of_tail_in_order(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    await subscribe_to_all(tenant)
    assert (await tenant.application.send("PUT", "/v2/notification/websocket")).status == 201
    posted = b"".join(map(notification, range(2500)))
    gateway = environment(daemon, key_of(tenant, "gateway"))
    done = await run("publish", "-", "--json", env=gateway, stdin=posted)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        "accepted": 2500,
        "queued": 2500,
        "unrouted": 0,
        "rejected": 0,
        "durability": "disk",
    }
    application = environment(daemon, key_of(tenant, "application"))
    received = await run("tail", "--events", "--count", "2500", env=application)
    assert received.returncode == 0, received.stderr.decode()
    eps = [json.loads(line)["notifications"][0]["ep"] for line in received.stdout.splitlines()]
    assert eps == [f"dev-{number}" for number in range(2500)]


async def test_tail_registers_a_channel_and_what_it_printed_does_not_come_again(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    gateway = environment(daemon, key_of(tenant, "gateway"))
    application = environment(daemon, key_of(tenant, "application"))
    assert tenant.application.key is not None
    name = tenant.application.key.application
    assert name is not None

    async def post_when_there_is_a_channel(body: bytes) -> None:
        await wait_for_status(tenant, "connected")
        assert (await run("publish", "-", "--application", name, env=gateway, stdin=body)).returncode == 0

    seen: list[bytes] = []
    for number in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post_when_there_is_a_channel, notification(number))
            seen.append((await run("tail", "--count", "1", env=application)).stdout)
    eps = [json.loads(line)["notifications"][0]["ep"] for line in seen]
    assert eps == ["dev-0", "dev-1", "dev-2"]


async def test_tail_without_registering_says_that_there_is_no_channel(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    done = await run("tail", "--no-register", env=environment(daemon, key_of(tenant, "application")))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"1011: no WebSocket channel is registered" in done.stderr


async def test_tail_keeps_what_another_registration_chose(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    wanted = {"serialization": {"type": "v2", "cfg": {"include_uid": True}}}
    assert (await tenant.application.send("PUT", "/v2/notification/websocket", wanted)).status == 201
    await subscribe_to_all(tenant)
    await tenant.gateway.post_events([{"ep": "a", "path": "/1"}])
    done = await run("tail", "--count", "1", env=environment(daemon, key_of(tenant, "application")))
    assert "uid" in json.loads(done.stdout)["notifications"][0]


async def test_publish_names_the_line_and_field_and_what_was_accepted_before(
    daemon: Daemon, tmp_path: Path
) -> None:
    tenant = await new_tenant(daemon)
    file = tmp_path / "events.ndjson"
    wrong = b'{"notifications":[{"ep":"dev-1","path":"no slash"}]}\n'
    file.write_bytes(b"".join(map(notification, range(50_010))) + wrong)
    done = await run("publish", str(file), env=environment(daemon, key_of(tenant, "gateway")))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"line 50011, notifications[0].path" in done.stderr
    assert b"50000 events were accepted before" in done.stderr


async def test_publish_says_when_events_reach_nobody(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    done = await run(
        "publish", "-", env=environment(daemon, key_of(tenant, "gateway")), stdin=notification(1)
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"accepted 1 events: queued 0 records, unrouted 1")
    assert b"1 events reached nobody" in done.stderr


@pytest.mark.parametrize("command", [("publish", "-"), ("tail",)])
async def test_a_key_of_the_wrong_role_or_of_nobody_exits_1_and_is_not_shown(
    command: tuple[str, ...], daemon: Daemon
) -> None:
    tenant = await new_tenant(daemon)
    other = "application" if command[0] == "publish" else "gateway"
    for key, status in ((key_of(tenant, other), b"403"), ("ak_1nobody", b"401")):
        done = await run(*command, env=environment(daemon, key), stdin=notification(1))
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1
        assert b"was answered " + status in done.stderr
        assert key.encode() not in done.stderr


async def test_tail_ends_quietly_when_its_reader_does(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    await subscribe_to_all(tenant)
    assert (await tenant.application.send("PUT", "/v2/notification/websocket")).status == 201
    await tenant.gateway.post_events([{"ep": "a", "path": "/1"}])
    process = await trio.lowlevel.open_process(
        [*DISPATCHER, "tail"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(daemon, key_of(tenant, "application")),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with trio.fail_after(COMMAND_S):
            assert await process.stdout.receive_some()
            await process.stdout.aclose()
            await tenant.gateway.post_events([{"ep": "b", "path": "/1"}])
            assert b"".join([chunk async for chunk in process.stderr]) == b""
            assert await process.wait() == 1
    finally:
        process.kill()


async def test_a_revoked_key_ends_tail_with_its_reason(daemon: Daemon) -> None:
    tenant = await new_tenant(daemon)
    key = tenant.application.key
    assert key is not None

    async def revoke_when_connected() -> None:
        await wait_for_status(tenant, "connected")
        await daemon.revoke_key(key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(revoke_when_connected)
        done = await run("tail", env=environment(daemon, key.key))
    assert done.returncode == 1
    assert b"1008: the access key was revoked" in done.stderr
