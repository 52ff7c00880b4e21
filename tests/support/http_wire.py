"""A client that writes raw bytes and reads responses by its own, plain parser."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import trio


class WireResponse(msgspec.Struct, frozen=True):
    """A response as it came; header names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The body as an ``ErrorResponse``."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        assert value["object"] == "error"
        assert value["code"] == self.status
        assert value["request_id"] == self.headers["x-request-id"]
        return value


class WireClient:
    """One connection, from the client's side."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await self.stream.send_all(data)

    async def ask(self, data: bytes, *, is_head: bool = False) -> WireResponse:
        """Send raw bytes and read one response."""
        await self.send(data)
        return await self.response(is_head=is_head)

    async def response(self, *, is_head: bool = False) -> WireResponse:
        """Read one response, an interim one too.  Fails when the connection ends before."""
        while b"\r\n\r\n" not in self.received:
            await self._more()
        raw_head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received[:] = rest
        first, *lines = raw_head.decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header is there twice"
        length = 0 if is_head else int(headers.get("content-length", "0"))
        while len(self.received) < length:
            await self._more()
        body = bytes(self.received[:length])
        del self.received[:length]
        return WireResponse(int(status), reason, headers, body)

    async def is_at_end(self) -> bool:
        """Wait for the connection's end; false when bytes came instead."""
        if self.received:
            return False
        try:
            return not await self.stream.receive_some(1)
        except trio.BrokenResourceError:
            return True

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        assert data, f"the connection ended; before that came {bytes(self.received)!r}"
        self.received += data


def get(path: str = "/", *lines: str) -> bytes:
    """A GET with extra header lines."""
    return request("GET", path, *lines)


def post(body: bytes, path: str = "/echo", *lines: str) -> bytes:
    """A POST with a body of known length."""
    return request("POST", path, f"Content-Length: {len(body)}", *lines) + body


def request(method: str, path: str, *lines: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: dispatcher", *lines, "", ""]).encode("latin-1")
