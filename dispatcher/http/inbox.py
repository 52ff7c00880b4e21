"""The receiving side of a connection: the stream, and what came and was not used yet."""

from __future__ import annotations

import re

import trio

from dispatcher import limits
from dispatcher.deliver.direct_io import receive, receive_into
from dispatcher.errors import BadRequest, HeaderTooLarge

# Two line ends in a row.  Bare line feeds are found too, so that they are refused
# by name and not waited upon; see ``request_head``.
_HEAD_END = re.compile(rb"\n\r?\n")


class Inbox:
    """Buffers at most one head and what came with it (two receives)."""

    __slots__ = ("_searched", "buffer", "is_reset", "stream")

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.is_reset = False  # the peer broke the connection, instead of ending it
        self._searched = 0

    async def receive(self, bytes_max: int) -> bytes:
        """Bytes from the stream, past the buffer; empty when no more will come.

        Cancellation: nothing is lost.
        """
        try:
            return await receive(self.stream, bytes_max)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_reset = True
            return b""

    async def receive_into(self, room: memoryview) -> int:
        """The same, to the front of ``room``: how many bytes; 0 when no more will come."""
        try:
            return await receive_into(self.stream, room)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_reset = True
            return 0

    async def fill(self, bytes_max: int = limits.REQUEST_HEAD_RECEIVE_BYTES) -> bool:
        """Receive once into the buffer; false when no more will come."""
        data = await self.receive(bytes_max)
        self.buffer += data
        return bool(data)

    def take(self, count: int) -> bytes:
        """At most ``count`` bytes from the front of the buffer."""
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        self._searched = 0
        return data

    def has_request(self) -> bool:
        """Whether a request has begun; empty lines before it are dropped (RFC 9112, section 2.2)."""
        while self.buffer.startswith(b"\r\n"):
            del self.buffer[:2]
        return bool(self.buffer) and self.buffer != b"\r"

    def take_head(self) -> bytes | None:
        """The next head with its empty line, or None while it is not complete.

        Each byte is searched once.  Raises ``HeaderTooLarge``, and ``BadRequest`` for
        what cannot become a head, so that nobody waits for its end.
        """
        if self.buffer and self.buffer[0] <= 0x20:  # among them a TLS client's first byte
            raise BadRequest("this is not an HTTP request")
        found = _HEAD_END.search(self.buffer, max(0, self._searched - 2))
        length = len(self.buffer) if found is None else found.end()
        if length > limits.REQUEST_HEAD_BYTES_MAX:
            raise HeaderTooLarge(f"the request's head is larger than {limits.REQUEST_HEAD_BYTES_MAX} bytes")
        if found is None:
            self._searched = length
            return None
        return self.take(length)

    async def wait_end(self) -> None:
        """Return when the peer has ended or broken the connection; keeps what comes before.

        Holds at most ``limits.REQUEST_HEAD_BYTES_MAX`` and one receive; behind that
        the end is not seen, and this waits until it is cancelled.
        """
        while len(self.buffer) < limits.REQUEST_HEAD_BYTES_MAX:
            if not await self.fill():
                return
        await trio.sleep_forever()
