"""An application behind a callback: reads PUT bodies by their length and answers 200."""

from __future__ import annotations

import re

import trio

from .arrivals import Arrivals

_RECEIVE_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_PROBE_BYTES = len(b"{}")


class NotUnderstood(Exception):
    """The daemon sent a request that this reader does not know."""


class CallbackSink:
    """A listener that stores the body of every request; ``url`` is its address."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._end = 0  # of the bodies stored
        self._may_answer = trio.Event()
        self._may_answer.set()
        self.url = ""

    def receive_into(self, arrivals: Arrivals) -> None:
        """Store what comes elsewhere from now on."""
        self._arrivals = arrivals

    def begin(self) -> None:
        """A round starts: what comes is stored from the front again."""
        self._end = 0

    def finish(self) -> None:
        """Nothing was put off."""

    def hold(self) -> None:
        """Take no more than the request that comes next: answer nothing until ``release``."""
        self._may_answer = trio.Event()

    def release(self) -> None:
        """Answer what was held, and what follows."""
        self._may_answer.set()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/events"
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        unread = b""
        while True:
            while (head_end := unread.find(b"\r\n\r\n")) < 0:
                data = await stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    return
                unread += data
            length = _LENGTH.search(unread, 0, head_end + 2)
            if not unread.startswith(b"PUT ") or length is None:
                raise NotUnderstood(f"want a PUT with a Content-Length: {unread[:head_end]!r}")
            unread = await self._receive_body(stream, unread[head_end + 4 :], int(length[1]))
            await self._may_answer.wait()
            await stream.send_all(_OK)

    async def _receive_body(self, stream: trio.SocketStream, begun: bytes, length: int) -> bytes:
        """Store one body; return what came behind it."""
        start, end = self._end, self._end + length
        self._end = end
        room = self._arrivals.room(start, length)
        filled = min(len(begun), length)
        room[:filled] = begun[:filled]
        while filled < length:
            received = await stream.socket.recv_into(room[filled:])
            if not received:
                raise NotUnderstood("the daemon ended the connection in the middle of a body")
            filled += received
        if length > _PROBE_BYTES:
            self._arrivals.add(start, end)
            self._arrivals.moved()
        return begun[length:]
