"""Many WebSockets that only wait, in plain blocking sockets, which cost the load nothing while they do."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from .fleet import NotProven
from .websocket_sink import (
    PING,
    TEXT,
    SinkFailed,
    handshake,
    payload_bytes,
    payload_start,
    pong_frame,
)

_TIMEOUT_S = 10.0
_RECEIVE_BYTES = 4_096
_RESERVED_FILES = 500  # of the limit: for everything else


def sockets_max() -> int:
    """How many this process and a server may have open; raises its own limit as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - _RESERVED_FILES


class IdleSocket:
    """A WebSocket that is open."""

    def __init__(self, connection: socket.socket, unread: bytes) -> None:
        self._connection = connection
        self._unread = bytearray(unread)

    def expect(self, part: bytes) -> None:
        """Take the one message that must have come, which holds ``part``; raises ``NotProven``."""
        found = self._next_message()
        if part not in found:
            raise NotProven(f"a socket received {found[:200]!r} instead of {part!r}")
        self._connection.setblocking(False)
        with suppress(BlockingIOError):
            self._unread += self._connection.recv(_RECEIVE_BYTES)
        while (frame := self._take_frame()) is not None:
            if frame[0] != PING:
                raise NotProven(f"a socket received more than one message: {frame[1][:200]!r}")
            self._connection.send(pong_frame(frame[1]))

    def _next_message(self) -> bytes:
        while True:
            while (frame := self._take_frame()) is None:
                data = self._connection.recv(_RECEIVE_BYTES)
                if not data:
                    raise SinkFailed("the server ended an idle connection")
                self._unread += data
            first, payload = frame
            if first == TEXT:
                return payload
            if first != PING:
                raise SinkFailed(f"a frame that begins with {first:#x}")
            self._connection.send(pong_frame(payload))

    def _take_frame(self) -> tuple[int, bytes] | None:
        start = payload_start(self._unread, 0, len(self._unread))
        if start is None or len(self._unread) < (end := start + payload_bytes(self._unread, 0)):
            return None
        first, payload = self._unread[0], bytes(self._unread[start:end])
        del self._unread[:end]
        return first, payload


@contextmanager
def open_idle(port: int, targets: Sequence[tuple[str, str]]) -> Iterator[list[IdleSocket]]:
    """Open a WebSocket for each path and key; blocks.  Closed with the block, without a Close frame."""
    with ExitStack() as stack:
        opened = []
        for path, key in targets:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), _TIMEOUT_S))
            connection.sendall(handshake(path, key))
            received = b""
            while (end := received.find(b"\r\n\r\n")) < 0:
                data = connection.recv(_RECEIVE_BYTES)
                if not data:
                    raise SinkFailed("the server ended a connection in its handshake")
                received += data
            if not received.startswith(b"HTTP/1.1 101"):
                raise SinkFailed(f"no WebSocket: {received!r}")
            opened.append(IdleSocket(connection, received[end + 4 :]))
        yield opened
