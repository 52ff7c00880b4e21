"""A headless Chromium on one page, and a server for that page.

Driven over its DevTools socket.  It gets an empty profile, stays on this machine, and
is stopped by its handle.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio
from support.daemon import User
from trio_websocket import WebSocketConnection, open_websocket_url

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_S = 30.0
STOP_S = 10.0
_UNTIL = "new Promise((done) => { const look = () => (%s) ? done() : setTimeout(look, 50); look(); })"
POLL_S = 0.05  # another process has no event to wait for
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class DevtoolsError(Exception):
    """The browser did not do what it was told."""


class Page:
    """What the browser shows; made by ``open_page``."""

    def __init__(self, devtools: WebSocketConnection) -> None:
        self._devtools = devtools
        self._calls = 0
        self.told: list[dict[str, Any]] = []  # by the domains that were enabled

    async def call(self, method: str, within_s: float = START_S, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol; its result."""
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": params}
        with trio.fail_after(within_s):
            await self._devtools.send_message(json.dumps(call))
            while (answer := json.loads(await self._devtools.get_message())).get("id") != self._calls:
                self.told.append(answer)
        if "error" in answer:
            raise DevtoolsError(answer["error"]["message"])
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, expression: str, within_s: float = START_S) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = await self.call(
            "Runtime.evaluate", within_s, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait(self, condition: str, within_s: float = START_S) -> None:
        """Return when a JavaScript expression is true, looked at again and again."""
        try:
            await self.evaluate(_UNTIL % condition, within_s)
        except trio.TooSlowError:
            raise AssertionError(f"never came: {condition}") from None

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def resize(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Show it in a window of this size, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if is_phone else 1}
        await self.call("Emulation.setDeviceMetricsOverride", mobile=is_phone, **metrics)

    async def prefer(self, scheme: str) -> None:
        """Show it as to someone who likes "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, path: Path) -> None:
        """Write what is to be seen to a PNG file."""
        shot = await self.call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def serve_page(html: str) -> AsyncIterator[str]:
    """Serve one page to whoever asks; its address."""
    body = html.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"

    async def answer(stream: trio.SocketStream) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            data = await stream.receive_some(65536)
            if not data:
                return
            asked += data
        await stream.send_all(head.encode() + b"Connection: close\r\n\r\n" + body)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_page(profile: Path, url: str) -> AsyncIterator[Page]:
    """Start a browser with an empty ``profile`` folder on a page, and wait until that is loaded."""
    with _running_chromium(profile, url):
        with trio.fail_after(START_S):
            address = await _devtools_of_page(await _devtools_port(profile), url)
        async with open_websocket_url(address, max_message_size=MESSAGE_BYTES_MAX) as devtools:
            page = Page(devtools)
            await _wait_loaded(page, url)
            yield page


@contextmanager
def _running_chromium(profile: Path, url: str) -> Iterator[None]:
    profile.mkdir()
    line = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", url]
    with profile.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()


async def _devtools_port(profile: Path) -> int:
    """The port that the browser writes down when it listens."""
    file = trio.Path(profile / "DevToolsActivePort")
    while not (await file.exists() and "\n" in (text := await file.read_text())):  # noqa: ASYNC110
        await trio.sleep(POLL_S)
    return int(text.partition("\n")[0])


async def _devtools_of_page(port: int, url: str) -> str:
    """The address of the page's DevTools socket, once it is there."""
    while True:
        for target in (await User(port).send("GET", "/json/list")).content():
            if target["type"] == "page" and target["url"] == url:
                return str(target["webSocketDebuggerUrl"])
        await trio.sleep(POLL_S)


async def _wait_loaded(page: Page, url: str) -> None:
    with trio.fail_after(START_S):
        loaded = f"document.readyState == 'complete' && location.href == '{url}'"
        while True:
            with suppress(DevtoolsError):  # between two pages there is nothing to ask
                if await page.evaluate(loaded):
                    return
            await trio.sleep(POLL_S)
