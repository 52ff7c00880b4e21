"""An application's callback receiver that asks the test what to answer, request by request."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

PATH = "/events"
HANG_UP = b""


class Delivery:
    """One request; its connection waits until ``reply`` was called."""

    def __init__(self, line: str, headers: dict[str, str], body: bytes) -> None:
        self.line = line
        self.headers = headers
        self.body = body
        self.answer = HANG_UP
        self._is_answered = trio.Event()

    @property
    def message(self) -> bytes:
        """The body without its Content-Encoding."""
        return zlib.decompress(self.body, 31) if "content-encoding" in self.headers else self.body

    def reply(self, answer: bytes) -> None:
        """Send exactly this, or hang up."""
        self.answer = answer
        self._is_answered.set()

    async def wait(self) -> bytes:
        """What to answer, once the test has said it."""
        await self._is_answered.wait()
        return self.answer


class CaseReceiver:
    """Deliveries in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self._put, self._deliveries = trio.open_memory_channel[Delivery](math.inf)

    async def next(self) -> Delivery:
        """Wait for the next one."""
        return await self._deliveries.receive()

    @property
    def waiting(self) -> int:
        """How many came and were not taken."""
        return self._deliveries.statistics().current_buffer_used

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        received = bytearray()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while (delivery := await _read(stream, received)) is not None:
                self._put.send_nowait(delivery)
                answer = await delivery.wait()
                if answer == HANG_UP:
                    break
                await stream.send_all(answer)
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_case_receiver() -> AsyncIterator[CaseReceiver]:
    """Listen on a free port until the block ends."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    receiver = CaseReceiver(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()


async def _read(stream: trio.SocketStream, received: bytearray) -> Delivery | None:
    """The next request; None when the connection ends."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        if not await _more(stream, received):
            return None
    line, *fields = received[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    length = end + 4 + int(headers.get("content-length", "0"))
    while len(received) < length:
        if not await _more(stream, received):
            return None
    body = bytes(received[end + 4 : length])
    del received[:length]
    return Delivery(line, headers, body)


async def _more(stream: trio.SocketStream, received: bytearray) -> bool:
    data = await stream.receive_some(65_536)
    received += data
    return bool(data)
