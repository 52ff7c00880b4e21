"""The buffers that WebSockets are sent from."""

from __future__ import annotations

from dispatcher.limits import SEND_BUFFERS_IDLE_MAX, SEND_PIECE_BYTES, WEBSOCKET_HEADER_BYTES_MAX
from dispatcher.wire.ws_frames import PING_FRAME_BYTES

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
