"""A WebSocket of a case: says and expects one line of a ``frames`` block at a time.

Pings are answered as they are read, unless the case says otherwise; between two blocks
nothing is read.
"""

from __future__ import annotations

import json
from typing import Any

import trio
from support.case_patterns import Variables, check_body, check_no_null
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

_PING_BYTES = 4


class CaseSocket:
    """One open socket, from the client's side."""

    def __init__(self, stream: trio.abc.Stream, received: bytes, extensions: str | None) -> None:
        """``extensions`` is what the server answered to those that the case has offered."""
        self._stream = stream
        deflate = PerMessageDeflate()
        if extensions is not None:
            deflate.finalize(extensions)  # without it the extension is not enabled
        self._protocol = Connection(ConnectionType.CLIENT, [deflate], received)
        self._events: list[Event] = list(self._protocol.events())
        self._answers_pings = True

    async def play(self, line: str, variables: Variables) -> None:
        """One line: ``<`` is what comes, ``>`` what is said."""
        direction, _, rest = line.partition(" ")
        word, _, argument = rest.partition(" ")
        if direction == ">":
            await self._say(word, argument, rest)
            return
        assert direction == "<", f"a line begins with < or >: {line!r}"
        match word:
            case "ping":
                self._answers_pings = argument != "unanswered"
                await self._expect_ping()
            case "pong":
                event = await self.next_but_pings()
                assert isinstance(event, Pong), event
                assert bytes(event.payload).decode() == argument
            case "close":
                await self._expect_close(argument)
            case "end":
                assert await self._next() is None, "the connection goes on"
            case _:
                text = await self._text()
                check_no_null(text.encode())
                check_body(rest, text.encode(), variables)

    async def next_but_pings(self) -> Any:
        """The next event that is no ping; None when the connection ended."""
        while isinstance(event := await self._next(), Ping):
            await self._answer(event)
        return event

    async def _say(self, word: str, argument: str, rest: str) -> None:
        match word:
            case "ping":
                said: Event = Ping(payload=argument.encode())
            case "close":
                said = CloseConnection(code=int(argument))
            case _:
                json.loads(rest)
                said = TextMessage(data=rest)
        await self._stream.send_all(self._protocol.send(said))

    async def _expect_ping(self) -> None:
        ping = await self._next()
        assert isinstance(ping, Ping), f"no ping: {ping}"
        assert len(ping.payload) == _PING_BYTES, ping
        await self._answer(ping)

    async def _expect_close(self, argument: str) -> None:
        code, _, reason = argument.partition(" ")
        event = await self.next_but_pings()
        assert isinstance(event, CloseConnection), f"no close: {event}"
        assert event.code == int(code), event
        assert reason in (event.reason or ""), event
        if self._protocol.state is ConnectionState.REMOTE_CLOSING:
            await self._stream.send_all(self._protocol.send(event.response()))

    async def _text(self) -> str:
        text = ""
        while True:
            event = await self.next_but_pings()
            assert isinstance(event, TextMessage), f"no text: {event}"
            text += event.data
            if event.message_finished:
                return text

    async def _answer(self, ping: Ping) -> None:
        if self._answers_pings and self._protocol.state is ConnectionState.OPEN:
            await self._stream.send_all(self._protocol.send(ping.response()))

    async def _next(self) -> Event | None:
        while not self._events:
            data = await self._stream.receive_some(65_536)
            if not data:
                return None
            self._protocol.receive_data(bytes(data))
            self._events += self._protocol.events()
        return self._events.pop(0)
