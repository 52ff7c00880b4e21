"""The sink that sends a channel's batches over its WebSocket.

Each message is one text frame, and behind the last one of a batch goes the ping
whose pong confirms it, in the same send.  Frames are laid out in one buffer, header
and body and header and body and ping, so a small batch leaves in one system call,
and a large one in pieces of ``limits.SEND_PIECE_BYTES``.  Nothing here costs per event.
"""

from __future__ import annotations

import trio

from dispatcher.core.websocket_window import window_limits
from dispatcher.deliver.sink import Confirmed, OutgoingBatch, SinkStatistics
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.limits import (
    MAX_CHUNK_SIZE_MAX,
    SEND_BUFFERS_IDLE_MAX,
    SEND_PIECE_BYTES,
    WEBSOCKET_HEADER_BYTES_MAX,
)
from dispatcher.wire.ws_frames import PING_FRAME_BYTES, put_text_header, text_header_bytes

_BUFFER_BYTES = SEND_PIECE_BYTES + WEBSOCKET_HEADER_BYTES_MAX + PING_FRAME_BYTES


class SendBuffers:
    """Buffers that are used again, for all sinks of a process.

    A fresh large buffer costs a page fault for every 4 KiB; one kept by each of
    20,000 idle sockets would cost 5 GB.
    """

    def __init__(self, idle_max: int = SEND_BUFFERS_IDLE_MAX) -> None:
        self._idle: list[bytearray] = []
        self._idle_max = idle_max

    def __repr__(self) -> str:
        return f"<SendBuffers idle={len(self._idle)}>"

    def take(self, bytes_wanted: int) -> bytearray:
        """A buffer of ``bytes_wanted``, or of one piece when that is less.  Its contents are anything."""
        if bytes_wanted <= _BUFFER_BYTES // 16:
            return bytearray(bytes_wanted)
        return self._idle.pop() if self._idle else bytearray(_BUFFER_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Keep it for the next, unless it grew or there are enough."""
        if len(buffer) == _BUFFER_BYTES and len(self._idle) < self._idle_max:
            self._idle.append(buffer)


class WebSocketSink:
    """Implements ``Sink`` on a connection whose ``run`` is running, or about to.

    ``confirmed`` is called from the connection's reader, at most once per pong.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        confirmed: Confirmed,
        *,
        buffers: SendBuffers | None = None,
    ) -> None:
        """``buffers`` None: a fresh buffer for each batch."""
        self.connection = connection
        connection.confirmed = confirmed
        batch_events = connection.limits.batch_events if connection.limits else MAX_CHUNK_SIZE_MAX
        self._bounds = window_limits(batch_events)
        self._buffers = SendBuffers(idle_max=0) if buffers is None else buffers

    def __repr__(self) -> str:
        return f"<WebSocketSink on {self.connection!r}>"

    async def send(self, batch: OutgoingBatch) -> None:
        """Send a batch; see ``Sink.send``.

        What ``batch.read_into`` raises is passed on; in the middle of a batch it
        ends the connection with a reset, as every other failure does there.
        """
        await self._wait_for_room(batch)
        buffer = self._buffers.take(_frames_bytes(batch))
        try:
            await self._send_through(buffer, batch)
        finally:
            self._buffers.give_back(buffer)

    async def drained(self) -> None:
        """Return when everything sent is confirmed; raise ``SinkClosed`` when it never will be."""
        while self.connection.window.events:
            await self.connection.wait_changed()

    def statistics(self) -> SinkStatistics:
        """What is unconfirmed now."""
        window = self.connection.window
        return SinkStatistics(unconfirmed_events=window.events, unconfirmed_bytes=window.bytes_count)

    async def aclose(self) -> None:
        """Drop the connection without a Close frame; ``WebSocketConnection.close`` sends one."""
        self.connection.abort()
        await trio.lowlevel.checkpoint()

    async def _wait_for_room(self, batch: OutgoingBatch) -> None:
        connection = self.connection
        while connection.is_open and not connection.window.has_room(
            self._bounds, batch.bytes_count, _weight(batch)
        ):
            await connection.wait_changed()

    async def _send_through(self, buffer: bytearray, batch: OutgoingBatch) -> None:
        connection = self.connection
        ping = b""
        try:
            pieces = _Pieces(batch, buffer)
            while not pieces.is_done:
                filled = await pieces.fill()
                if not ping:
                    ping = await connection.begin_batch(batch.last, batch.bytes_count, _weight(batch))
                if pieces.is_done:
                    end = filled + PING_FRAME_BYTES
                    buffer[filled:end] = ping  # grows the buffer when it is full to the brim
                    filled = end
                with memoryview(buffer) as whole, whole[:filled] as piece:
                    await connection.write(piece)
        except BaseException:
            if ping:
                connection.abandon_batch()
            raise
        connection.end_batch()


def _weight(batch: OutgoingBatch) -> int:
    """What a batch counts in the window: its events; gaps alone count as one."""
    return max(1, batch.events)


def _frames_bytes(batch: OutgoingBatch) -> int:
    headers = sum(text_header_bytes(message.bytes_count) for message in batch.messages)
    return headers + batch.bytes_count + PING_FRAME_BYTES


class _Pieces:
    """Writes a batch's frames into the buffer, a piece at a time.

    A message that does not fit behind the ones before it starts at the front, so a frame
    spans pieces only when it is larger than the buffer.
    """

    def __init__(self, batch: OutgoingBatch, buffer: bytearray) -> None:
        batch.rewind()
        self._batch = batch
        self._buffer = buffer
        self._messages = [message.bytes_count for message in reversed(batch.messages)]
        self._unread = 0  # bytes of the message whose header is written

    @property
    def is_done(self) -> bool:
        """Whether everything was put into pieces."""
        return not self._messages and not self._unread

    async def fill(self) -> int:
        """Make the next piece, from the buffer's front on; how many bytes it has."""
        filled = 0
        while not self.is_done:
            if not self._unread:
                size = self._messages[-1]
                if filled and filled + text_header_bytes(size) + size > len(self._buffer):
                    return filled
                filled = put_text_header(self._buffer, filled, size)
                self._unread = self._messages.pop()
            await self._batch.warm()
            read_bytes = self._batch.read_into(self._buffer, filled)
            assert 0 < read_bytes <= self._unread
            filled += read_bytes
            self._unread -= read_bytes
            if self._unread:
                return filled
        return filled
