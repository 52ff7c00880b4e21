"""An application on a WebSocket that offers permessage-deflate, and stores what it unpacked.

Unpacking is part of what the load's core does while the clock runs: a client cannot put it off.
"""

from __future__ import annotations

import zlib

import trio

from .arrivals import Arrivals
from .websocket_sink import (
    CONNECT_PATH,
    PING,
    TEXT,
    SinkFailed,
    payload_bytes,
    payload_start,
    pong_frame,
    shake_hands,
    unexpected,
)

_RECEIVE_BYTES = 1024 * 1024
_OFFER = "permessage-deflate; client_max_window_bits"  # as Node ws, websockets and browsers put it
_DEFLATED, _FIN, _CONTINUATION = 0x40, 0x80, 0x00
_TAIL = b"\0\0\xff\xff"


class DeflatedSink:
    """Receives until it is cancelled, or until the daemon ends the socket."""

    def __init__(self, arrivals: Arrivals) -> None:
        self.wire_bytes = 0  # that came, of all rounds
        self._arrivals = arrivals
        self._end = 0  # of the messages stored
        self._start = 0  # of the message that is coming in
        self._inflate: zlib._Decompress | None = None  # of that message, if it is compressed

    def begin(self) -> None:
        """A round starts: what comes is stored from the front again."""
        self._start = self._end = 0

    def finish(self) -> None:
        """Nothing was put off."""

    async def run(
        self, port: int, key: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Connect, and store what comes."""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            head = await shake_hands(stream, CONNECT_PATH, key, _OFFER)
            if b"permessage-deflate" not in head:
                raise SinkFailed("the daemon compresses nothing")
            task_status.started()
            unread = bytearray()
            while True:
                data = await stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    raise SinkFailed("the daemon ended the connection")
                self.wire_bytes += len(data)
                unread += data
                pongs = self._parse(unread)
                self._arrivals.moved()
                if pongs:
                    await stream.send_all(pongs)

    def _parse(self, unread: bytearray) -> bytes:
        """Take the whole frames away; return the pongs that are due."""
        at, pongs = 0, b""
        while (start := payload_start(unread, at, len(unread))) is not None:
            end = start + payload_bytes(unread, at)
            if end > len(unread):
                break
            first, payload = unread[at], bytes(unread[start:end])
            if first == PING:
                pongs += pong_frame(payload)
            elif first & ~(_FIN | _DEFLATED) in (_CONTINUATION, TEXT & ~_FIN):
                self._take(first, payload)
            else:
                raise SinkFailed(unexpected(first, payload))
            at = end
        del unread[:at]
        return pongs

    def _take(self, first: int, payload: bytes) -> None:
        if first & ~_FIN != _CONTINUATION:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if first & _DEFLATED else None
        if self._inflate is not None:
            payload = self._inflate.decompress(payload + _TAIL if first & _FIN else payload)
        self._arrivals.room(self._end, len(payload))[:] = payload
        self._end += len(payload)
        if first & _FIN:
            self._arrivals.add(self._start, self._end)
            self._start = self._end
