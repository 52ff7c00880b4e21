"""The smallest HTTP client that will do: requests made beforehand, answers with a length."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import trio

_RECEIVE_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Reply(msgspec.Struct, frozen=True):
    """A response."""

    status: int
    body: bytes


class HttpClient:
    """One keep-alive connection to a server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unread = b""

    async def send(self, request: bytes) -> Reply:
        """Send a whole request and wait for its answer."""
        await self.stream.send_all(request)
        return await self.receive()

    async def receive(self) -> Reply:
        """The next answer, to the oldest request that has none."""
        received = self._unread
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += await self._receive()
        length = _LENGTH.search(received, 0, end + 2)
        total = end + 4 + (int(length[1]) if length else 0)
        while len(received) < total:
            received += await self._receive()
        self._unread = received[total:]
        return Reply(int(received[9:12]), received[end + 4 : total])

    async def _receive(self) -> bytes:
        data = await self.stream.receive_some(_RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        return bytes(data)


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[HttpClient]:
    """A connection to a port of this machine."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield HttpClient(stream)


def request(
    method: str, path: str, key: str, body: bytes = b"", media_type: str = "application/json"
) -> bytes:
    """A request's bytes."""
    return render(
        method,
        path,
        {"Authorization": f"Bearer {key}", "Content-Type": media_type, "Content-Length": str(len(body))},
        body,
    )


def render(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request's bytes, with these headers and ``Host``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
