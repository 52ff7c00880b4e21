"""An application on a WebSocket: reads frames off the raw stream, answers pings, stores messages."""

from __future__ import annotations

import socket
import struct
from mmap import mmap

import trio

from .arrivals import Arrivals
from .http_client import render

_RECEIVE_BYTES = 1024 * 1024
TEXT, _CLOSE, PING = 0x81, 0x88, 0x89
_PONG, _MASKED = 0x8A, 0x80
_NO_MASK = bytes(4)  # a mask of zeros: the payload stays as it is
_HEAD_BYTES_MAX = 16 * 1024
CONNECT_PATH = "/v2/notification/websocket-connect"


class SinkFailed(Exception):
    """The daemon closed the socket, or sent what this reader does not know."""


class WebSocketSink:
    """Receives until it is cancelled, or until the daemon ends the socket."""

    def __init__(self, arrivals: Arrivals, path: str = CONNECT_PATH) -> None:
        self._arrivals = arrivals
        self._path = path
        self._read_end = 0  # of the bytes received
        self._parsed_end = 0  # of the frames among them

    def begin(self) -> None:
        """A round starts: what comes is stored from the front again."""
        rest = bytes(self._arrivals.view[self._parsed_end : self._read_end])
        self._arrivals.view[: len(rest)] = rest
        self._parsed_end, self._read_end = 0, len(rest)

    def finish(self) -> None:
        """Nothing was put off."""

    async def run(
        self, port: int, key: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Connect, and store what comes."""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await shake_hands(stream, self._path, key)
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(stream.socket)  # a round may begin meanwhile
                room = self._arrivals.room(self._read_end, _RECEIVE_BYTES)
                received = await stream.socket.recv_into(room)
                if not received:
                    raise SinkFailed("the daemon ended the connection")
                self._read_end += received
                pongs = self._parse()
                self._arrivals.moved()
                if pongs:
                    await stream.send_all(pongs)

    def _parse(self) -> bytes:
        """Take the whole frames; return the pongs that are due."""
        memory, pongs = self._arrivals.memory, b""
        while (start := payload_start(memory, self._parsed_end, self._read_end)) is not None:
            first = memory[self._parsed_end]
            end = start + payload_bytes(memory, self._parsed_end)
            if end > self._read_end:
                break
            if first == TEXT:
                self._arrivals.add(start, end)
            elif first == PING:
                pongs += pong_frame(memory[start:end])
            else:
                raise SinkFailed(unexpected(first, memory[start:end]))
            self._parsed_end = end
        return pongs


def pong_frame(payload: bytes) -> bytes:
    """A client's answer to a ping."""
    return bytes((_PONG, _MASKED | len(payload))) + _NO_MASK + payload


def payload_start(memory: mmap | bytearray, frame: int, end: int) -> int | None:
    """Where the payload of the frame starts, or None while its header is not there."""
    if end - frame < 2:
        return None
    start = frame + {126: 4, 127: 10}.get(memory[frame + 1], 2)
    return start if start <= end else None


def payload_bytes(memory: mmap | bytearray, frame: int) -> int:
    """The length that the header of the frame tells."""
    short = memory[frame + 1]
    if short < 126:
        return short
    layout = ">H" if short == 126 else ">Q"
    return int(struct.unpack_from(layout, memory, frame + 2)[0])


def unexpected(first: int, payload: bytes) -> str:
    """What to say of a frame that a reader does not know."""
    if first == _CLOSE:
        return f"the daemon closed with {int.from_bytes(payload[:2])}: {payload[2:].decode()}"
    return f"a frame that begins with {first:#x}"


async def shake_hands(stream: trio.SocketStream, path: str, key: str, extensions: str = "") -> bytes:
    """Open a WebSocket on a fresh connection, and read no byte further than the head of the answer.

    Nothing is compressed unless ``extensions`` offers it.  Raises ``SinkFailed``.
    """
    await stream.send_all(handshake(path, key, extensions))
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_MAX:
        await trio.lowlevel.wait_readable(stream.socket)
        seen = await stream.socket.recv(_HEAD_BYTES_MAX, socket.MSG_PEEK)  # frames may follow
        if not seen:
            break
        end = (head + seen).find(b"\r\n\r\n")
        head += await stream.socket.recv(len(seen) if end < 0 else end + 4 - len(head))
    if not head.startswith(b"HTTP/1.1 101"):
        raise SinkFailed(f"no WebSocket: {head!r}")
    return head


def handshake(path: str, key: str, extensions: str = "") -> bytes:
    """A client's request for a WebSocket."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": f"wss, pelion_{key}",
    }
    if extensions:
        headers["Sec-WebSocket-Extensions"] = extensions
    return render("GET", path, headers)
