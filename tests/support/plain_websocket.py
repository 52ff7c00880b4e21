"""A WebSocket client that does what a test wants, and shows what the server said.

On wsproto, which checks the server's frames.  Pings are answered, or not.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.utilities import LocalProtocolError

CONNECT_PATH = "/v2/notification/websocket-connect"
WAIT_S = 10.0
RECEIVE_BYTES = 262_144


class Rejected(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}: {body!r}")
        self.status = status
        self.body = body


class PlainWebSocket:
    """An open socket; made by ``open_websocket``.

    A task of its own reads it, so that pings are answered whatever the test does.
    """

    def __init__(
        self, stream: trio.SocketStream, *, answers_pings: bool, offers_deflate: bool = False
    ) -> None:
        self.stream = stream
        self.answers_pings = answers_pings
        self.subprotocol: str | None = None
        self.is_deflated = False  # it was offered, and the server has agreed
        self.bytes_received = 0  # as they came over the wire
        self._offers: list[Extension] = [PerMessageDeflate()] if offers_deflate else []
        self.pings: list[bytes] = []
        self.closed_with: tuple[int, str] | None = None  # 1006: the connection ended without a Close frame
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._parts: list[str] = []
        self._sending = trio.Lock()
        self._put_text, self._texts = trio.open_memory_channel[tuple[str, int]](math.inf)

    async def message(self) -> Any:
        """The next message, from JSON.  Fails when the server closes instead."""
        found = await self.next_message(WAIT_S)
        assert found is not None, f"closed with {self.closed_with}"
        return found[0]

    async def next_message(self, within_s: float) -> tuple[Any, int] | None:
        """The next message, and how many pings came before it; None when the server has closed."""
        found = await self._next_text(within_s)
        return None if found is None else (json.loads(found[0]), found[1])

    async def messages_of(self, events: int, kind: str = "notifications") -> list[Any]:
        """Messages until they hold so many events of one kind."""
        found: list[Any] = []
        while sum(len(message[kind]) for message in found) < events:
            found.append(await self.message())
        return found

    async def events(self, count: int, kind: str = "notifications") -> list[Any]:
        """Exactly so many events of one kind."""
        events = [event for message in await self.messages_of(count, kind) for event in message[kind]]
        assert len(events) == count
        return events

    async def wait_closed(self, within_s: float = WAIT_S) -> tuple[int, str]:
        """Code and reason of the server's Close; messages before it are thrown away."""
        while await self._next_text(within_s) is not None:
            pass
        assert self.closed_with is not None
        return self.closed_with

    async def stay_silent(self, seconds: float) -> None:
        """Check that nothing but pings comes for a while."""
        with trio.move_on_after(seconds):
            text = await self._next_text(WAIT_S)
            raise AssertionError(f"not silent: {text!r}, closed with {self.closed_with}")

    async def send(self, frames: bytes) -> None:
        """Say exactly this."""
        async with self._sending:
            await self.stream.send_all(frames)

    async def close(self, code: int = 1000) -> None:
        """Close as a client does, and wait for the answer."""
        await self.send(self._protocol.send(CloseConnection(code=code)))
        await self.wait_closed()

    def cut(self) -> None:
        """Drop the connection without a word."""
        self.stream.socket.close()

    async def open(self, port: int, headers: Sequence[tuple[str, str]], subprotocols: Sequence[str]) -> None:
        """Shake hands.  Raises ``Rejected``."""
        request = Request(
            host=f"127.0.0.1:{port}",
            target=CONNECT_PATH,
            subprotocols=list(subprotocols),
            extensions=self._offers,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers],
        )
        await self.stream.send_all(self._protocol.send(request))
        answer, body = await self._next_event(), b""
        if isinstance(answer, AcceptConnection):
            self.subprotocol = answer.subprotocol
            self.is_deflated = bool(answer.extensions)
            return
        if answer is None:
            raise trio.BrokenResourceError("the server went away during the handshake")
        assert isinstance(answer, RejectConnection), answer
        while isinstance(part := await self._next_event(), RejectData):
            body += part.data
            if part.body_finished:
                break
        raise Rejected(answer.status_code, body)

    async def read(self) -> None:
        """Take what the server says, until it closes."""
        async with self._put_text:
            while self.closed_with is None:
                event = await self._next_event()
                if isinstance(event, Message):
                    self._take_part(event)
                elif isinstance(event, Ping):
                    await self._answer_ping(event)
                elif isinstance(event, CloseConnection):
                    self.closed_with = (event.code, event.reason or "")
                    await self._say(event.response())
                elif event is None:
                    self.closed_with = (1006, "")

    async def _next_text(self, within_s: float) -> tuple[str, int] | None:
        """The next whole message, or None when the server has closed."""
        with trio.fail_after(within_s):
            try:
                return await self._texts.receive()
            except trio.EndOfChannel:
                return None

    def _take_part(self, part: Message[Any]) -> None:
        self._parts.append(str(part.data))
        if part.message_finished:
            self._put_text.send_nowait(("".join(self._parts), len(self.pings)))
            self._parts = []

    async def _answer_ping(self, ping: Ping) -> None:
        self.pings.append(bytes(ping.payload))
        if self.answers_pings:
            await self._say(ping.response())

    async def _say(self, event: Event) -> None:
        with suppress(LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send(self._protocol.send(event))

    async def _next_event(self) -> Event | None:
        """The next thing the server said; None when the connection has ended."""
        while not self._events:
            try:
                data = await self.stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                return None
            self.bytes_received += len(data)
            self._protocol.receive_data(bytes(data))
            self._events += self._protocol.events()
        return self._events.pop(0)


@asynccontextmanager
async def open_websocket(
    port: int,
    key: str | None = None,
    *,
    subprotocols: Sequence[str] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    answers_pings: bool = True,
    offers_deflate: bool = False,
) -> AsyncIterator[PlainWebSocket]:
    """Connect as an application; ``key`` goes as the documented subprotocols unless others are given.

    Raises ``Rejected``.
    """
    offered = subprotocols if subprotocols is not None else ["wss", f"pelion_{key}"]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        socket = PlainWebSocket(stream, answers_pings=answers_pings, offers_deflate=offers_deflate)
        with trio.fail_after(WAIT_S):
            await socket.open(port, headers, offered)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.read)
            yield socket
            nursery.cancel_scope.cancel()
