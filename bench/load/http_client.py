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


def parse_reply(received: bytes) -> tuple[Reply, bytes] | None:
    """The answer at the front and what follows it; None while it has not come whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(received, 0, end + 2)
    total = end + 4 + (int(length[1]) if length else 0)
    if len(received) < total:
        return None
    return Reply(int(received[9:12]), received[end + 4 : total]), received[total:]


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
        while (parsed := parse_reply(self._unread)) is None:
            self._unread += await self._receive()
        reply, self._unread = parsed
        return reply

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


async def call(port: int, method: str, path: str, key: str, content: object = None) -> None:
    """One request of the notification API, on a connection of its own, that must succeed."""
    body = b"" if content is None else msgspec.json.encode(content)
    async with connect(port) as client:
        reply = await client.send(request(method, path, key, body))
    if not 200 <= reply.status < 300:
        raise ConnectionError(f"{method} {path} was answered {reply.status}: {reply.body!r}")
