"""SIGHUP to a real daemon: new certificates for new connections, and no connection is dropped."""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import websockets.sync.client
from support.certificates import Authority, Files
from support.daemon import Daemon, User, log_shown, open_daemon
from support.plain_websocket import CONNECT_PATH
from support.receiver import open_receiver
from support.tenants import key_of, numbers, small, websocket_tenant

pytestmark = pytest.mark.slow

LOG_S = 10.0
RELOADED = "certificates.reloaded of"
CONFIG = """\
[server]
tls_certificate = "{folder}/server.pem"
tls_key = "{folder}/server.key"
[callbacks]
allow_private = true
client_certificate = "{folder}/client.pem"
client_key = "{folder}/client.key"
ca = "{folder}/ca.pem"
"""


class House:
    """A daemon with certificates of one authority, which can be renewed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.server = Files(folder / "server.pem", folder / "server.key")
        self.client = Files(folder / "client.pem", folder / "client.key")
        self.tls = self.authority.client_context()
        self.authority.write_root(folder / "ca.pem")
        self.renew("first")

    def renew(self, name: str) -> None:
        """Other certificates; the name is in both."""
        self.server.write(self.authority.issue("localhost", common_name=name))
        self.client.write(self.authority.issue(common_name=name))

    async def name_shown(self, daemon: Daemon) -> str:
        """What the server's certificate calls itself to a new connection."""
        tcp = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        async with trio.SSLStream(
            tcp, self.tls, server_hostname="localhost", https_compatible=True
        ) as stream:
            await stream.do_handshake()
            return dict(pair for part in stream.getpeercert()["subject"] for pair in part)["commonName"]


@contextmanager
def running(house: House) -> Iterator[Daemon]:
    config = CONFIG.format(folder=house.folder)
    with open_daemon(house.folder, config=config, tls=house.tls) as daemon, log_shown(daemon):
        yield daemon


async def hang_up(daemon: Daemon, *words: str) -> str:
    """Send the signal, and wait for a line in the log with each of these words."""
    before = daemon.log.stat().st_size
    daemon.send_signal(signal.SIGHUP)
    with trio.fail_after(LOG_S):
        while True:
            told = daemon.log.read_text()[before:]
            if all(word in told for word in words):
                return told
            await trio.sleep(0.02)


class WssClient:
    """The websockets library's client, over TLS."""

    def __init__(self, daemon: Daemon, application: User, tls: ssl.SSLContext) -> None:
        self._connect = partial(
            websockets.sync.client.connect,
            f"wss://localhost:{daemon.port}{CONNECT_PATH}",
            ssl=tls,
            subprotocols=["wss", f"pelion_{key_of(application)}"],
        )

    async def __aenter__(self) -> WssClient:
        self._stack = ExitStack()
        self._socket = await trio.to_thread.run_sync(lambda: self._stack.enter_context(self._connect()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.to_thread.run_sync(self._stack.close)

    async def message(self) -> Any:
        return json.loads(await trio.to_thread.run_sync(partial(self._socket.recv, timeout=10)))


async def test_new_connections_are_shown_the_new_certificate_and_open_ones_go_on(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running(house) as daemon:
        tenant = await websocket_tenant(daemon)
        async with WssClient(daemon, tenant.application, house.tls) as socket:
            await tenant.gateway.post_events([small(1)])
            assert numbers(await socket.message()) == [1]
            assert await house.name_shown(daemon) == "first"

            house.renew("second")
            assert await house.name_shown(daemon) == "first"  # until it is told
            told = await hang_up(
                daemon, "certificates.reloaded of=server", "certificates.reloaded of=callbacks"
            )
            assert await house.name_shown(daemon) == "second"
            await tenant.gateway.post_events([small(2)])
            assert numbers(await socket.message()) == [2]
            assert "settings.not-reloaded" not in told

            for number, content in enumerate([b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"], 3):
                house.server.certificate.write_bytes(content)
                told = await hang_up(daemon, "certificates.kept of=server reason=", f"{RELOADED}=callbacks")
                assert told.count("\n") == 2
                assert "server.pem" in told
                assert await house.name_shown(daemon) == "second"
                await tenant.gateway.post_events([small(number)])
                assert numbers(await socket.message()) == [number]


async def test_callbacks_show_the_new_client_certificate(tmp_path: Path) -> None:
    house = House(tmp_path)
    tls = house.authority.server_context("127.0.0.1", asks_for=house.authority)
    async with open_receiver(tls=tls) as receiver:
        with running(house) as daemon:
            tenant = await websocket_tenant(daemon)
            await tenant.application.send("DELETE", "/v2/notification/websocket")
            content = {"url": receiver.url}
            for name in ("first", "second"):
                reply = await tenant.application.send("PUT", "/v2/notification/callback", content)
                assert reply.status == 204, reply.body
                assert receiver.requests[-1].client_name == name
                house.renew("second")
                await hang_up(daemon, f"{RELOADED}=callbacks")


async def test_a_changed_setting_is_named_and_not_taken_over(tmp_path: Path) -> None:
    house = House(tmp_path)
    with running(house) as daemon:
        file = tmp_path / "config.toml"
        text = file.read_text()
        changed = text.replace("allow_private = true", "allow_private = false")
        file.write_text(changed + "[tiers.gold]\nqueue_bytes = 4096\n")
        told = await hang_up(daemon, "settings.not-reloaded")
        assert "changed=callbacks.allow_private,tiers.gold." in told
        file.write_text(text + "[nonsense]\na = 1\n")
        told = await hang_up(daemon, "settings.not-reloaded reason=")
        assert "nonsense.a" in told
        tenant = await websocket_tenant(daemon)
        await tenant.application.send("DELETE", "/v2/notification/websocket")
        async with open_receiver() as receiver:
            content = {"url": receiver.url}
            reply = await tenant.application.send("PUT", "/v2/notification/callback", content)
            assert reply.status == 204, reply.body


async def test_without_certificates_a_hangup_ends_nothing(tmp_path: Path) -> None:
    with open_daemon(tmp_path) as daemon, log_shown(daemon):
        told = await hang_up(daemon, f"{RELOADED}=callbacks")
        assert "of=server" not in told
        assert (await daemon.anyone.send("GET", "/healthz")).status == 200
