"""A batch as frames, a buffer at a time.

Frames are laid out in one buffer, header and body and header and body, so that a small
batch leaves in one system call and a large one in pieces of ``limits.SEND_PIECE_BYTES``.
A frame's header has its length, which of a message that is compressed only its end
tells.  Such a message is compressed until it has ended or fills the buffer: in the first
case it is one frame, in the other the buffer is one of several (RFC 6455, section 5.4).
"""

from __future__ import annotations

from collections.abc import Callable

from dispatcher.deliver.sink import OutgoingBatch
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.deliver.websocket_deflate import MessageDeflater
from dispatcher.limits import SEND_PIECE_BYTES, WEBSOCKET_HEADER_BYTES_MAX
from dispatcher.wire.ws_frames import (
    CONTINUATION,
    DEFLATED,
    FIN,
    TEXT,
    put_header,
    put_text_header,
    text_header_bytes,
)

Begin = Callable[[int], MessageDeflater | None]
"""Called once with the length of each message: how to compress it, if at all."""


class Pieces:
    """Writes a batch's frames into the buffer, a piece at a time.

    A message that does not fit behind the ones before it starts at the front, so a frame
    spans pieces only when it is larger than the buffer.
    """

    def __init__(self, batch: OutgoingBatch, buffer: bytearray) -> None:
        batch.rewind()
        self._batch = batch
        self._buffer = buffer
        self._messages = [message.bytes_count for message in reversed(batch.messages)]
        self.unread = 0  # bytes of the message that was begun

    @property
    def is_done(self) -> bool:
        """Whether everything was put into pieces."""
        return not self._messages and not self.unread

    async def fill(self) -> int:
        """Make the next piece, from the buffer's front on; how many bytes it has."""
        filled, is_full = 0, False
        while not is_full and not self.is_done:
            filled, is_full = await self._put(filled)
        return filled

    @property
    def is_in_last(self) -> bool:
        """Whether the message at hand is the batch's last."""
        return not self._messages

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        """Send a piece that is full, and what follows of its message; see ``direct_io.Source``."""
        sent, begin, end, self.unread = self._batch.pour(socket, buffer, filled, self.unread, tail)
        return sent, begin, end

    async def _put(self, filled: int) -> tuple[int, bool]:
        """Put a message, or what there is room for, behind ``filled``; whether the piece is to go now."""
        if not self.unread:
            size = self._messages[-1]
            if filled and filled + text_header_bytes(size) + size > len(self._buffer):
                return filled, True
            filled = put_text_header(self._buffer, filled, size)
            self.unread = self._messages.pop()
        filled += await self._read_into(self._buffer, filled)
        return filled, self.unread > 0

    async def _read_into(self, buffer: bytearray, offset: int) -> int:
        read_bytes = await self._batch.read_into(buffer, offset)
        assert 0 < read_bytes <= self.unread
        self.unread -= read_bytes
        return read_bytes


class DeflatedPieces(Pieces):
    """The same, with some of its messages compressed.

    While a message is being compressed there are a compressor and a second buffer; both are gone
    with its end, which comes before it is sent unless it fills the first one.
    """

    def __init__(self, batch: OutgoingBatch, buffer: bytearray, begin: Begin, buffers: SendBuffers) -> None:
        super().__init__(batch, buffer)
        self._begin = begin
        self._buffers = buffers
        self._judged = 0  # how many messages were left when one of them was last judged
        self._deflater: MessageDeflater | None = None
        self._source = bytearray()
        self._ready = bytearray()  # compressed, and not put into the buffer
        self._first_byte: int | None = None  # of the next frame; None: no message is compressed now

    @property
    def is_done(self) -> bool:
        return super().is_done and self._first_byte is None

    async def _put(self, filled: int) -> tuple[int, bool]:
        if not self.unread and self._first_byte is None and self._judged != len(self._messages):
            self._begin_message()
        if self._first_byte is None:
            return await super()._put(filled)
        return await self._put_deflated(filled, self._first_byte)

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        """The same of a message that is not compressed."""
        return super().pour(socket, buffer, filled, tail) if self._first_byte is None else (0, 0, filled)

    def _begin_message(self) -> None:
        size, self._judged = self._messages[-1], len(self._messages)
        self._deflater = self._begin(size)
        if self._deflater is not None:
            self.unread = self._messages.pop()
            self._first_byte = DEFLATED | TEXT
            self._source = self._buffers.take(min(size, SEND_PIECE_BYTES))

    async def _put_deflated(self, filled: int, first_byte: int) -> tuple[int, bool]:
        room = len(self._buffer) - filled - WEBSOCKET_HEADER_BYTES_MAX
        while self.unread and len(self._ready) <= room:
            await self._compress()
        if filled and len(self._ready) > room:
            return filled, True
        count = min(len(self._ready), room)
        is_last = not self.unread and count == len(self._ready)
        filled = put_header(self._buffer, filled, first_byte | (FIN if is_last else 0), count)
        self._buffer[filled : filled + count] = self._ready[:count]
        del self._ready[:count]
        self._first_byte = None if is_last else CONTINUATION
        return filled + count, not is_last

    async def _compress(self) -> None:
        assert self._deflater is not None
        count = await self._read_into(self._source, 0)
        with memoryview(self._source) as whole, whole[:count] as part:
            self._ready += await self._deflater.compress(part, is_last=not self.unread)
        if not self.unread:
            self._deflater = None
            self._buffers.give_back(self._source)
            self._source = bytearray()
