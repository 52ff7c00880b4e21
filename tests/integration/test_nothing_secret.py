"""Everything that a daemon says of itself, searched for everything that it must not say.

Each secret has a name of its own and goes in where its like goes in: keys, header values, a
callback's path, query and user information, signing secrets, payloads, the credentials of the
proxy, the address and secret of the operator's webhook.  The daemon logs all it can, in JSON, while
deliveries go well and badly.  Then its log, metrics, traces, admin API, event stream and settings are
searched, for each secret as it is and in base64, wherever that begins.
"""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from support.connect_proxy import open_connect_proxy
from support.daemon import DISPATCHER, Daemon, Tenant, User, log_shown, new_tenant, open_daemon
from support.plain_websocket import open_websocket
from support.receiver import RESET, Receiver, answer, open_receiver
from support.tenants import EVERYTHING, key_of, small

pytestmark = pytest.mark.slow

HEADER, PATH, QUERY, USER = "S3cret-header-value", "S3cret-url-path", "S3cret-url-query", "S3cret-url-user"
SIGNING, PAYLOAD, ANSWER = b"S3cret that signs deliveries", b"S3cret that a device said", b"S3cret answer"
PROXY, TOKEN, ALARMS = "S3cret-of-the-proxy", "S3cret-webhook-path", b"S3cret that signs the warnings"
REQUEST_ID_KEY, STRANGER, LOCATION = "S3cret-idempotency-key", "S3cret-key-of-no-one", "S3cret-location"
FIXED = (
    HEADER,
    PATH,
    QUERY,
    USER,
    SIGNING,
    PAYLOAD,
    ANSWER,
    PROXY,
    TOKEN,
    ALARMS,
    REQUEST_ID_KEY,
    STRANGER,
    LOCATION,
)
CALLBACK, WEBSOCKET, PULL = (f"/v2/notification/{name}" for name in ("callback", "websocket", "pull"))


def whsec(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def config_of(proxy_port: int, alarms: Receiver, collector: Receiver) -> str:
    return f"""
[server]
log_format = "json"
log_level = "debug"
[callbacks]
proxy = "http://user:{PROXY}@127.0.0.1:{proxy_port}"
[operator]
webhook = "{alarms.url}{TOKEN}"
webhook_secret = "{whsec(ALARMS)}"
[tracing]
endpoint = "{collector.url}"
sample = 1
[tiers.commercial]
retry_initial_s = 0.05
retry_max_s = 0.1
queue_bytes = 20_000
"""


def forms_of(secret: bytes) -> list[bytes]:
    """A secret as it is, and what of it stands in any base64 that holds it whole."""
    shifted = [base64.b64encode(bytes(before) + secret)[4 if before else 0 : -4] for before in range(3)]
    assert all(len(form) >= 12 for form in shifted)
    return [secret, *shifted, *(form.translate(bytes.maketrans(b"+/", b"-_")) for form in shifted)]


class Told:
    """What was said, by where."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def add(self, place: str, text: bytes) -> None:
        assert text, place
        self._texts[place] = self._texts.get(place, b"") + text

    def __getitem__(self, place: str) -> bytes:
        return self._texts[place]

    def leaks(self, secrets: list[bytes]) -> list[tuple[str, bytes]]:
        return [
            (place, secret)
            for place, text in self._texts.items()
            for secret in secrets
            if any(form in text for form in forms_of(secret))
        ]


def test_a_secret_is_found_in_base64_wherever_it_begins() -> None:
    for before in range(5):
        told = Told()
        told.add("x", b"..." + base64.b64encode(b"x" * before + PAYLOAD + b"yy") + b"...")
        assert told.leaks([PAYLOAD]) == [("x", PAYLOAD)]
        assert told.leaks([b"another secret of that length"]) == []


async def use_it_well(daemon: Daemon, tenant: Tenant, receiver: Receiver) -> None:
    """A callback with everything that may be secret, and events for it."""
    content = {
        "url": f"{receiver.url}{PATH}?token={QUERY}",
        "headers": {"Authorization": f"Bearer {HEADER}"},
        "signing": {"secret": whsec(SIGNING)},
    }
    assert (await tenant.application.send("PUT", CALLBACK, content)).status == 400  # the receiver says 500
    assert (await tenant.application.send("PUT", CALLBACK, content)).status == 204
    assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    event = {**small(1), "payload": base64.b64encode(PAYLOAD).decode()}
    headers = {"Idempotency-Key": REQUEST_ID_KEY, "X-Mine": HEADER}
    for _ in range(2):
        reply = await tenant.gateway.send(
            "POST", "/gateway/v1/events", {"notifications": [event]}, headers=headers
        )
        assert reply.status == 202
    await receiver.wait_requests(7)


async def use_it_badly(daemon: Daemon, tenant: Tenant, receiver: Receiver) -> None:
    """What is refused, and what a client might get wrong."""
    for url in (
        f"http://{USER}:{USER}@127.0.0.1/{PATH}?{QUERY}",
        f"nonsense://{PATH}",
        f"http://no-such-host.invalid/{PATH}",
    ):
        content = {"url": url, "headers": {"A": HEADER}, "signing": {"secret": whsec(SIGNING)}}
        assert (await tenant.application.send("PUT", CALLBACK, content)).status == 400
    bad = {"url": receiver.url, "headers": {f"X {HEADER}": "x", "Y": f"{HEADER}\n"}}
    assert (await tenant.application.send("PUT", CALLBACK, bad)).status == 400
    encoded = base64.b64encode(PAYLOAD).decode()
    for body in (
        f'{{"notifications": "{encoded}"}}',
        f'{{"{PAYLOAD.decode()}": 1}}',
        encoded,
        f'{{"notifications": [{{"ep": "d", "path": "{encoded}", "payload": "{encoded}!"}}]}}',
    ):
        reply = await tenant.gateway.send(
            "POST", "/gateway/v1/events", body=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert reply.status == 400
    for headers in (
        {"Authorization": f"Bearer {STRANGER}"},
        {"Authorization": f"Basic {STRANGER}"},
        {"X-Mine": f"{HEADER}\x01"},
    ):
        reply = await daemon.anyone.send("GET", CALLBACK, headers=headers)
        assert reply.status in (400, 401)


async def overflow(tenant: Tenant) -> None:
    for _ in range(5):
        await tenant.gateway.post_events(
            [{**small(n), "payload": base64.b64encode(PAYLOAD).decode()} for n in range(60)]
        )


async def other_channels(daemon: Daemon) -> list[User]:
    """A socket that is opened with a key, and a poll; their events are taken, wait, and run over."""
    polling, listening = await new_tenant(daemon), await new_tenant(daemon)
    assert (await listening.application.send("PUT", WEBSOCKET)).status == 201
    for one in (polling, listening):
        assert (await one.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    async with open_websocket(daemon.port, key_of(listening.application)) as socket:
        await listening.gateway.post_events([{**small(1), "payload": base64.b64encode(PAYLOAD).decode()}])
        await socket.events(1)
    await overflow(listening)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polling.application.send, "GET", PULL)
        await trio.sleep(0.2)
        await polling.gateway.post_events([{**small(1), "payload": base64.b64encode(PAYLOAD).decode()}])
    assert listening.application.key is not None
    await daemon.revoke_key(listening.application.key)
    return [polling.application, polling.gateway, listening.application, listening.gateway]


async def look_at_all(daemon: Daemon, operator: User, told: Told) -> None:
    """All that the daemon answers to an operator, but the payloads that one asks for."""
    for accept in ("text/plain", "application/openmetrics-text"):
        told.add("metrics", (await daemon.anyone.send("GET", "/metrics", headers={"Accept": accept})).body)
    paths = ["stats", "channels", "accounts", "applications", "keys", "tiers"]
    channels = (await operator.send("GET", "/admin/v1/channels")).content()["channels"]
    assert len(channels) == 3
    for channel in channels:
        paths += [f"channels/{channel['id']}{rest}" for rest in ("", "/deliveries", "/peek")]
    for path in paths:
        reply = await operator.send("GET", f"/admin/v1/{path}")
        assert reply.status == 200, path
        told.add(path, reply.body)
    for path in ("/openapi.json", "/console", "/readyz"):
        told.add(path, (await daemon.anyone.send("GET", path)).body)
    followed = ",".join(str(channel["id"]) for channel in channels)
    told.add("stream", await some_events(daemon, operator, followed))


async def some_events(daemon: Daemon, operator: User, channels: str) -> bytes:
    head = (
        f"GET /admin/v1/events?channels={channels} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {key_of(operator)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
        await stream.send_all(head.encode())
        received = b""
        with trio.fail_after(10):
            while received.count(b"\nevent: fleet") < 2:
                received += await stream.receive_some(65_536)
    return received


async def settings_shown(tmp_path: Path) -> bytes:
    line = [*DISPATCHER, "config", "show", "--json", f"--config={tmp_path / 'config.toml'}"]
    return bytes((await trio.run_process(line, capture_stdout=True)).stdout)


async def test_nothing_that_is_said_has_any_of_it(tmp_path: Path) -> None:
    told, users = Told(), []
    script = [
        answer(500, ANSWER),
        answer(),
        answer(500, ANSWER),
        RESET,
        answer(302, ANSWER, headers=(("Location", f"/{LOCATION}"),)),
        answer(413, ANSWER),
        answer(200, ANSWER),
    ]
    routes: dict[str, str] = {}
    async with (
        open_receiver(*script, otherwise=answer(500, ANSWER)) as receiver,
        open_receiver(answer(500, ANSWER)) as alarms,
        open_receiver() as collector,
        open_connect_proxy(routes) as proxy,
    ):
        config = config_of(proxy.port, alarms, collector)
        with open_daemon(tmp_path, "--allow-private-callbacks", config=config) as daemon, log_shown(daemon):
            operator = await daemon.user("admin")
            tenant = await new_tenant(daemon)
            await use_it_well(daemon, tenant, receiver)
            assert any(base64.b64encode(f"user:{PROXY}".encode()) in head for head in proxy.heads)
            await use_it_badly(daemon, tenant, receiver)
            users = [operator, tenant.gateway, tenant.application, *await other_channels(daemon)]
            await overflow(tenant)
            await alarms.wait_requests(2)
            await look_at_all(daemon, operator, told)
            (tmp_path / "config.toml").write_text(
                config.replace(PROXY, f"{PROXY}-2").replace(TOKEN, f"{TOKEN}-2")
            )
            daemon.send_signal(signal.SIGHUP)
            with trio.fail_after(5):
                while "settings.not-reloaded" not in daemon.log.read_text():  # noqa: ASYNC110  another process
                    await trio.sleep(0.02)
            daemon.send_signal(signal.SIGTERM)
            await daemon.wait()
        told.add("settings", await settings_shown(tmp_path))
        told.add("log", daemon.log.read_bytes())
        told.add("warnings", b"".join(request.body for request in alarms.requests))
        told.add("traces", b"".join(request.head + request.body for request in collector.requests))
    secrets = [one if isinstance(one, bytes) else one.encode() for one in FIXED]
    assert told.leaks([*secrets, *(key_of(user).encode() for user in users)]) == []
    for request in receiver.requests[2:]:
        assert request.values("Authorization") == [
            f"Bearer {HEADER}".encode()
        ]  # they did go where they belong
    check_log(told["log"])


def check_log(text: bytes) -> None:
    """Every line is an object with an event, and the events that secrets could have come with are there."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.decode().split("\n") if line]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert {
        "delivery.failed",
        "channel.lost-events",
        "channel.filling",
        "socket.opened",
        "socket.closed",
        "settings.not-reloaded",
        "operator.webhook-failed",
    } <= {line["event"] for line in lines}
