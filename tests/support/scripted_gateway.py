"""A gateway on a socket that does what a test says, over streams in memory or over TCP."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
import trio.testing
from support.api_in_process import Caller
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from dispatcher.http.message import Response, Upgrade

WAIT_S = 3_600.0  # of a mock clock

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class ScriptedGateway:
    """An open socket; a task of its own reads it, so that pings are answered whatever the test does."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.answers_pings = True
        self.pings = 0
        self.closed_with: tuple[int, str] | None = None  # None: no Close frame came
        self.is_over = trio.Event()
        self._protocol = Connection(ConnectionType.CLIENT)
        self._text = ""
        self._put, self._messages = trio.open_memory_channel[Any](math.inf)
        self._set_aside: list[Any] = []

    async def send(self, message: object) -> None:
        """Send one message: an object as JSON, or a text or bytes as they are."""
        if isinstance(message, bytes):
            data = self._protocol.send(BytesMessage(data=message))
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            data = self._protocol.send(TextMessage(data=text))
        await self.stream.send_all(data)

    async def message(self, key: str | None = None) -> Any:
        """The next message; of those that have ``key``, leaving the others for later."""
        for index, message in enumerate(self._set_aside):
            if key is None or key in message:
                return self._set_aside.pop(index)
        with trio.fail_after(WAIT_S):
            while True:
                message = await self._messages.receive()
                if key is None or key in message:
                    return message
                self._set_aside.append(message)

    async def tell(self, message: object) -> Any:
        """Send one message and return its answer."""
        await self.send(message)
        return await self.message("accepted")

    async def requests(self) -> list[Any]:
        """The next device requests."""
        return list((await self.message("device-requests"))["device-requests"])

    async def request(self) -> Any:
        """The next device request, which must come alone."""
        (found,) = await self.requests()
        return found

    async def is_silent(self, seconds: float = 1.0) -> bool:
        """Whether nothing comes for a while."""
        if self._set_aside:
            return False
        with trio.move_on_after(seconds):
            self._set_aside.append(await self._messages.receive())
            return False
        return True

    async def close(self, code: int = 1000) -> None:
        """Close with a Close frame, and wait for the server's."""
        await self.stream.send_all(self._protocol.send(CloseConnection(code=code)))
        await self.ended()

    async def ended(self) -> None:
        """Wait for the end."""
        with trio.fail_after(WAIT_S):
            await self.is_over.wait()

    async def read(self) -> None:
        """Read until the end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.stream.receive_some(65_536):
                self._protocol.receive_data(bytes(data))
                for event in self._protocol.events():
                    await self._on_event(event)
        self.is_over.set()

    async def _on_event(self, event: object) -> None:
        match event:
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    self._put.send_nowait(json.loads(self._text))
                    self._text = ""
            case Ping():
                self.pings += 1
                if self.answers_pings:
                    await self.stream.send_all(self._protocol.send(event.response()))
            case CloseConnection():
                self.closed_with = (int(event.code), event.reason or "")
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError, Exception):
                    await self.stream.send_all(self._protocol.send(event.response()))


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@asynccontextmanager
async def connect(
    caller: Caller, path: str = "/gateway/v1/connect", **headers: str
) -> AsyncIterator[ScriptedGateway]:
    """Open a gateway's socket in memory; at the end it vanishes without a Close frame.

    With the ``path`` of applications it is one of theirs, which reads messages just so.
    """
    answer = await caller.ask("GET", path, **{**UPGRADE, **headers})
    if isinstance(answer, Response):
        raise Refused(answer.status)
    assert isinstance(answer, Upgrade)
    ours, theirs = trio.testing.memory_stream_pair()
    gateway = ScriptedGateway(ours)

    async def serve() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await answer.run(theirs, b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(gateway.read)
        yield gateway
        await trio.aclose_forcefully(ours)
