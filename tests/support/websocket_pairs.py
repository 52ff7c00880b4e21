"""A server connection and a raw client joined in memory, each end's bytes in plain view."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from support.ws_test_server import channel_limits
from trio.testing import memory_stream_pair
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from dispatcher.deliver.websocket_connection import CloseReason, WebSocketConnection
from dispatcher.model import ChannelLimits
from dispatcher.wire.ws_extensions import DeflateTerms

COUNTER = 2**32 - 2  # so that every test that sends three batches crosses the wrap
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A frame as clients send it, or as they must not."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        header = bytes((first, mask_bit | len(payload)))
    elif len(payload) < 2**16:
        header = bytes((first, mask_bit | 126)) + len(payload).to_bytes(2, "big")
    else:
        header = bytes((first, mask_bit | 127)) + len(payload).to_bytes(8, "big")
    return header + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing


def close_payload(code: int, text: str = "") -> bytes:
    return code.to_bytes(2, "big") + text.encode()


def client_extension(terms: DeflateTerms) -> PerMessageDeflate:
    """wsproto's own permessage-deflate, which was answered with these terms."""
    extension = PerMessageDeflate()
    extension.finalize(terms.answer())
    return extension


class RawClient:
    """Reads server frames; says only what it is told to."""

    def __init__(self, stream: trio.abc.Stream, deflate: DeflateTerms | None = None) -> None:
        self.stream = stream
        extensions = [] if deflate is None else [client_extension(deflate)]
        self.parser = Connection(ConnectionType.CLIENT, extensions)
        self.at_end = False
        self._text = ""
        self._events: list[Event] = []

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def next_event(self) -> Event | None:
        """The next whole message or control frame; None at the end of the stream."""
        while not self._events:
            if self.at_end:
                return None
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self.at_end = not data
            if data:
                self.parser.receive_data(bytes(data))
                self._take(self.parser.events())
        return self._events.pop(0)

    def _take(self, events: object) -> None:
        for event in events:
            if isinstance(event, (TextMessage, BytesMessage)):
                self._text += event.data
                if event.message_finished:
                    self._events.append(TextMessage(data=self._text))
                    self._text = ""
            else:
                self._events.append(event)

    async def next_message(self) -> tuple[str, ...]:
        """The messages up to the next ping, which is answered."""
        messages = []
        while True:
            event = await self.next_event()
            if isinstance(event, Ping):
                await self.pong(event)
                return tuple(messages)
            assert isinstance(event, TextMessage), event
            messages.append(event.data)

    async def pong(self, ping: Ping) -> None:
        await self.send(client_frame(PONG, bytes(ping.payload)))

    async def until_close(self, *, answers_pings: bool = False) -> tuple[int, str] | None:
        """The code and text of the server's Close frame; None when the stream ends without one."""
        while (event := await self.next_event()) is not None:
            if isinstance(event, CloseConnection):
                return int(event.code), event.reason or ""
            if answers_pings and isinstance(event, Ping):
                await self.pong(event)
        return None

    async def answer_close(self, code: int) -> None:
        await self.send(client_frame(CLOSE, close_payload(code)))


class CountingStream(trio.abc.HalfCloseableStream):
    """Passes everything on and remembers the length of each send."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream
        self.sends: list[int] = []
        self.is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends.append(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.is_closed = True
        await self._stream.aclose()


class Pair:
    """Both ends, and what ``run`` returned."""

    def __init__(
        self, connection: WebSocketConnection, client: RawClient, server_stream: CountingStream
    ) -> None:
        self.connection = connection
        self.client = client
        self.server_stream = server_stream
        self.reason: CloseReason | None = None
        self.ended = trio.Event()
        self.ended_s = 0.0
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            self.reason = await self.connection.run()
        self.ended_s = trio.current_time()
        self.ended.set()

    async def end(self) -> CloseReason:
        await self.ended.wait()
        assert self.reason is not None
        return self.reason


@asynccontextmanager
async def connected_pair(
    *,
    leftover: bytes = b"",
    limits: ChannelLimits | None = None,
    streams: tuple[trio.StapledStream, trio.StapledStream] | None = None,
    deflate: DeflateTerms | None = None,
) -> AsyncIterator[Pair]:
    """A running connection and its client; the connection is cancelled at the end of the block."""
    server_end, client_end = streams or memory_stream_pair()
    server_stream = CountingStream(server_end)
    connection = WebSocketConnection(
        server_stream, leftover, limits=limits or channel_limits(), random_counter=COUNTER, deflate=deflate
    )
    pair = Pair(connection, RawClient(client_end, deflate), server_stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        yield pair
        nursery.cancel_scope.cancel()
