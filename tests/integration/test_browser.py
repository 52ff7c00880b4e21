"""A browser with the documented snippet, unchanged, as the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.browser import CHROMIUM, Page, open_page, serve_page
from support.daemon import Daemon, Tenant, new_tenant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"chromium is not installed as {CHROMIUM}"),
]

HTML = """\
<!doctype html>
<meta charset="utf-8">
<title>application</title>
<script>
const HOST = "%(host)s", KEY = "%(key)s";
let blockMs = %(block_ms)d;
const seen = { sizes: [], numbers: [], closed: null, protocol: null, extensions: null };
const waiting = [];
const wake = () => waiting.splice(0).forEach((check) => check());
const until = (condition) => new Promise((resolve) => {
  const check = () => condition() ? resolve(seen) : waiting.push(check);
  check();
});

const socket = new WebSocket("ws://%(host)s/v2/notification/websocket-connect", ["wss", "pelion_" + KEY]);

socket.onopen = () => { seen.protocol = socket.protocol; seen.extensions = socket.extensions; wake(); };
socket.onclose = (close) => { seen.closed = [close.code, close.reason]; wake(); };
socket.onmessage = (message) => {
  const end = performance.now() + blockMs;
  blockMs = 0;
  while (performance.now() < end);
  const events = JSON.parse(message.data).notifications;
  seen.sizes.push(events.length);
  seen.numbers.push(...events.map((event) => event["max-age"]));
  wake();
};
</script>
"""


@asynccontextmanager
async def open_application(
    daemon: Daemon, folder: Path, *, block_s: float = 0
) -> AsyncIterator[tuple[Tenant, Page]]:
    """A tenant whose application is a browser, connected; its first message blocks it for a while."""
    tenant = await new_tenant(daemon)
    assert tenant.application.key is not None
    assert (await tenant.application.send("PUT", "/v2/notification/websocket")).status == 201
    everything = [{"endpoint-name": "*"}]
    assert (await tenant.application.send("PUT", "/v2/subscriptions", everything)).status == 204
    html = HTML % {
        "host": f"127.0.0.1:{daemon.port}",
        "key": tenant.application.key.key,
        "block_ms": block_s * 1000,
    }
    async with serve_page(html) as url, open_page(folder / "profile", url) as page:
        assert await page.evaluate("until(() => seen.protocol !== null).then(() => seen.protocol)") == "wss"
        yield tenant, page


def small(number: int) -> dict[str, Any]:
    return {"ep": "d1", "path": "/3/0/1", "max-age": number}


async def received(page: Page, events: int) -> Any:
    return await page.evaluate(f"until(() => seen.numbers.length >= {events})")


async def test_a_browser_receives_small_messages_and_one_of_ten_thousand_events(
    daemon: Daemon, tmp_path: Path
) -> None:
    async with open_application(daemon, tmp_path) as (tenant, page):
        for number in range(3):
            await tenant.gateway.post_events([small(number)])
            await received(page, number + 1)
        await tenant.gateway.post_events([small(number) for number in range(3, 10_003)])
        seen = await received(page, 10_003)
        assert seen["sizes"] == [1, 1, 1, 10_000]
        assert seen["numbers"] == list(range(10_003))
        assert seen["extensions"].startswith("permessage-deflate;")
        assert (await tenant.application.send("DELETE", "/v2/notification/websocket")).status == 204
        seen = await page.evaluate("until(() => seen.closed !== null)")
        assert seen["closed"][0] == 1000


@pytest.mark.parametrize("block_s", [1.5, 8.0])
async def test_a_browser_whose_handler_blocks_stays_connected_and_catches_up(
    daemon: Daemon, tmp_path: Path, block_s: float
) -> None:
    async with open_application(daemon, tmp_path, block_s=block_s) as (tenant, page):
        for start in range(0, 200_000, 10_000):
            await tenant.gateway.post_events([small(number) for number in range(start, start + 10_000)])
        seen = await received(page, 200_000)
        assert seen["closed"] is None
        assert seen["numbers"] == list(range(200_000))
        await tenant.gateway.post_events([small(200_000)])
        assert (await received(page, 200_001))["numbers"][-1] == 200_000


async def test_a_browser_with_a_wrong_key_is_told_nothing_but_1006(daemon: Daemon, tmp_path: Path) -> None:
    html = HTML % {"host": f"127.0.0.1:{daemon.port}", "key": "ak_unknown", "block_ms": 0}
    async with serve_page(html) as url, open_page(tmp_path / "profile", url) as page:
        seen = await page.evaluate("until(() => seen.closed !== null)")
    assert (seen["closed"][0], seen["protocol"]) == (1006, None)
