"""NATS as a peer: published over its own protocol, received over its WebSocket, one event per message.

To NATS an event is opaque: nothing is checked, nothing is kept, and who is not
connected gets nothing.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import trio

from ..load.arrivals import Arrivals
from ..load.fleet import BodyForm, Fleet
from ..load.paced import Moments
from ..load.websocket_sink import SinkFailed, payload_bytes, payload_start, shake_hands
from ..process import Absent, ServerProcess, free_port, open_server

_SUBJECT = b"events"
_SUBSCRIPTION = b"1"
_RECEIVE_BYTES = 256 * 1024
_TEXT, _BINARY = 0x81, 0x82
_CONNECT = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
_CONFIG = """\
listen: "127.0.0.1:{port}"
max_pending: 256MB
ping_interval: "10m"
websocket {{ listen: "127.0.0.1:{websocket_port}", no_tls: true }}
"""


class Nats(msgspec.Struct, frozen=True):
    """A running server."""

    server: ServerProcess  # its port takes publishers
    websocket_port: int


@contextmanager
def open_nats() -> Iterator[Nats]:
    """Start ``nats-server``.  Raises ``Absent``."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None:
        raise Absent("there is no nats-server: apt-get install nats-server")
    port, websocket_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        config = Path(folder, "nats.conf")
        config.write_text(_CONFIG.format(port=port, websocket_port=websocket_port))
        with open_server([program, "-c", config], Path(folder, "log"), port=port, statuses=(0, 1)) as server:
            yield Nats(server, websocket_port)


class NatsPublisher:
    """Publishes a fleet's events on one connection, some thousand at a time, paced by what arrives."""

    def __init__(self, fleet: Fleet, *, post_events: int, ahead_events_max: int) -> None:
        """Makes every byte now.  The fleet has one lane, so that all is in order."""
        assert fleet.lanes == 1
        self._ahead_events_max = ahead_events_max
        self._posts = [
            (b"".join(map(publication, body.content.splitlines())), body.events)
            for body in fleet.bodies(0, BodyForm.NDJSON, post_events)
        ]

    async def run(self, port: int, arrivals: Arrivals) -> None:
        """Publish everything once."""
        posted = 0
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(_CONNECT)
            for content, events in self._posts:
                posted += events
                await arrivals.wait_until(posted - self._ahead_events_max)
                await stream.send_all(content)
            await arrivals.wait_complete()  # closed earlier, it would take what it has not read with it


class PacedNatsPublisher:
    """Publishes each event by itself at its moment; see ``bench.load.paced``."""

    def __init__(self, fleet: Fleet, rate_per_s: float) -> None:
        """The fleet has one lane."""
        assert fleet.lanes == 1
        self.moments = Moments(fleet.events, rate_per_s)
        self._posts = [publication(body.content) for body in fleet.bodies(0, BodyForm.JSON, 1)]

    async def run(self, port: int, arrivals: Arrivals) -> None:
        """Publish everything once."""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(_CONNECT)
            async for number in self.moments.pass_by():
                await stream.send_all(self._posts[number])
            await arrivals.wait_complete()


def publication(message: bytes) -> bytes:
    """What publishes a message."""
    return b"PUB %s %d\r\n%s\r\n" % (_SUBJECT, len(message), message)


class NatsSink:
    """Receives over the WebSocket.  The messages are told apart when the clock has stopped.

    While it runs they are counted by their bytes: all have the same size, and what the
    server says beside them is shorter than one of them.
    """

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._unread = bytearray()  # of a frame that has not come whole
        self._end = 0  # of the payloads stored
        self._message_bytes = 0  # with what goes around it; 0: none has come
        self._received: list[tuple[int, float]] = []  # how much was there when

    def begin(self) -> None:
        """A round starts: what comes is stored from the front again."""
        self._end, self._message_bytes, self._received = 0, 0, []

    def finish(self) -> None:
        """Find the messages in what was received."""
        memory, place = self._arrivals.memory, 0
        received = iter(self._received)
        there, at_s = next(received, (0, 0.0))
        while (line_end := memory.find(b"\r\n", place, self._end)) >= 0:
            start = line_end + 2
            if memory[place : place + 4] == b"MSG ":
                end = start + int(memory[place:line_end].rpartition(b" ")[2])
                while there < end + 2:
                    there, at_s = next(received)
                self._arrivals.note(start, end, at_s)
                start = end + 2
            place = start

    async def run(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Connect and subscribe; store what comes until cancelled."""
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await shake_hands(stream, "/", "none")
            await stream.send_all(masked(_CONNECT + b"SUB %s %s\r\nPING\r\n" % (_SUBJECT, _SUBSCRIPTION)))
            while b"PONG\r\n" not in self._unread:
                self._unread += await stream.receive_some(_RECEIVE_BYTES)
            self._unread.clear()
            task_status.started()
            while data := await stream.receive_some(_RECEIVE_BYTES):
                self._unread += data
                self._store()
                self._arrivals.moved()
        raise SinkFailed("the server ended the connection")

    def _store(self) -> None:
        """Move the payloads of whole frames into the arrivals' memory, and count the messages."""
        frame = 0
        while (start := payload_start(self._unread, frame, len(self._unread))) is not None:
            end = start + payload_bytes(self._unread, frame)
            if end > len(self._unread):
                break
            if self._unread[frame] not in (_TEXT, _BINARY):
                raise SinkFailed(f"a frame that begins with {self._unread[frame]:#x}")
            self._arrivals.room(self._end, end - start)[:] = memoryview(self._unread)[start:end]
            self._end += end - start
            frame = end
        del self._unread[:frame]
        self._received.append((self._end, time.perf_counter()))
        self._count()

    def _count(self) -> None:
        if not self._message_bytes:
            self._message_bytes = self._first_message_bytes()
        if self._message_bytes:
            self._arrivals.count(self._end // self._message_bytes - self._arrivals.events)

    def _first_message_bytes(self) -> int:
        memory = self._arrivals.memory
        line = memory.find(b"MSG ", 0, self._end)
        line_end = memory.find(b"\r\n", line, self._end)
        if line < 0 or line_end < 0:
            return 0
        return line_end + 2 - line + int(memory[line:line_end].rpartition(b" ")[2]) + 2


def masked(payload: bytes) -> bytes:
    """A client's binary frame, with a mask of zeros."""
    assert len(payload) < 126
    return bytes((_BINARY, 0x80 | len(payload))) + bytes(4) + payload
