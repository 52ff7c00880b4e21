"""The sink that sends a channel's batches over its WebSocket.

Each message is one text frame (compressed, it may be several), and behind the last one
of a batch goes the ping whose pong confirms it, in the same send.  ``websocket_pieces``
lays them out in one buffer.  Nothing here costs per event.
"""

from __future__ import annotations

import trio

from dispatcher.core.websocket_window import window_limits
from dispatcher.deliver.sink import Confirmed, OutgoingBatch, SinkStatistics
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.deliver.websocket_deflate import Deflater
from dispatcher.deliver.websocket_pieces import DeflatedPieces, Pieces
from dispatcher.limits import MAX_CHUNK_SIZE_MAX
from dispatcher.wire.ws_frames import PING_FRAME_BYTES, text_header_bytes


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
        deflater: Deflater | None = None,
    ) -> None:
        """``buffers`` None: a fresh buffer for each batch.

        ``deflater`` compresses when the connection's handshake has agreed on it; None: nothing.
        """
        self.connection = connection
        connection.confirmed = confirmed
        batch_events = connection.limits.batch_events if connection.limits else MAX_CHUNK_SIZE_MAX
        self._bounds = window_limits(batch_events)
        self._buffers = SendBuffers(idle_max=0) if buffers is None else buffers
        self._deflater = deflater

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
            pieces = self._pieces(batch, buffer)
            while not pieces.is_done:
                filled = await pieces.fill()
                if not ping:
                    ping = await connection.begin_batch(batch.last, batch.bytes_count, _weight(batch))
                if pieces.is_done:
                    end = filled + PING_FRAME_BYTES
                    buffer[filled:end] = ping  # grows the buffer when it is full to the brim
                    filled = end
                await connection.pour(pieces, buffer, filled, ping if pieces.is_in_last else b"")
        except BaseException:
            if ping:
                connection.abandon_batch()
            raise
        connection.end_batch()

    def _pieces(self, batch: OutgoingBatch, buffer: bytearray) -> Pieces:
        deflater, terms = self._deflater, self.connection.deflate
        if deflater is None or terms is None:
            return Pieces(batch, buffer)
        return DeflatedPieces(
            batch, buffer, lambda size: deflater.begin(size, terms.window_bits), self._buffers
        )


def _weight(batch: OutgoingBatch) -> int:
    """What a batch counts in the window: its events; gaps alone count as one."""
    return max(1, batch.events)


def _frames_bytes(batch: OutgoingBatch) -> int:
    headers = sum(text_header_bytes(message.bytes_count) for message in batch.messages)
    return headers + batch.bytes_count + PING_FRAME_BYTES
