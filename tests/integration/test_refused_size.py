"""A WebSocket client that refuses large messages is never stuck on one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
import websockets
from support.daemon import Daemon, open_daemon
from support.tenants import key_of, numbers, small, websocket_tenant

pytestmark = pytest.mark.slow

MESSAGE_BYTES_MAX = 200_000  # what the client takes; the daemon begins with 1,000,000
EVENTS = 10_000  # about 600 kB


class SmallClient:
    """Connects again after each refusal; remembers what came and how often it refused."""

    def __init__(self, daemon: Daemon, key: str) -> None:
        self._url = f"ws://127.0.0.1:{daemon.port}/v2/notification/websocket-connect"
        self._headers = {"Authorization": f"Bearer {key}"}
        self.came: list[int] = []
        self.refusals = 0

    async def receive(self, count: int) -> None:
        """Receive until ``count`` events have come in all."""
        await trio.to_thread.run_sync(asyncio.run, asyncio.wait_for(self._receive(count), 20))

    async def _receive(self, count: int) -> None:
        while len(self.came) < count:
            try:
                async with websockets.connect(
                    self._url, additional_headers=self._headers, max_size=MESSAGE_BYTES_MAX
                ) as socket:
                    while len(self.came) < count:
                        self.came += numbers(msgspec.json.decode(await socket.recv()))
            except websockets.ConnectionClosedError as closed:
                if closed.sent is None or closed.sent.code != 1009:
                    raise
                self.refusals += 1


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with open_daemon(tmp_path) as opened:
        yield opened


async def test_a_refused_size_is_halved_until_it_fits_and_stays_so(daemon: Daemon) -> None:
    tenant = await websocket_tenant(daemon)
    client = SmallClient(daemon, key_of(tenant.application))
    await tenant.gateway.post_events([small(number) for number in range(EVENTS)])
    await client.receive(EVENTS)
    assert client.came == list(range(EVENTS))
    assert 1 <= client.refusals <= 6  # three halvings; a client that is back at once may see a size twice

    refusals = client.refusals
    await tenant.gateway.post_events([small(EVENTS + number) for number in range(EVENTS)])
    await client.receive(2 * EVENTS)
    assert client.came == list(range(2 * EVENTS))
    assert client.refusals == refusals
