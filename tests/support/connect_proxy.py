"""An HTTP proxy on a real socket that knows CONNECT and nothing else, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

_ENDS = (trio.BrokenResourceError, trio.ClosedResourceError)


class ConnectProxy:
    """What was asked of it: the request heads, and the bytes that went through to receivers.

    ``routes`` turns an authority that it is asked for into another address, so that a global
    one may stand for a receiver of the test; what is not in it is dialled as it is asked for.
    """

    def __init__(self, port: int, routes: dict[str, str], answer: bytes) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.heads: list[bytes] = []
        self.sent = bytearray()
        self._routes = routes
        self._answer = answer

    @property
    def authorities(self) -> list[str]:
        """Whom it was asked to connect to, in order."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        with suppress(*_ENDS):
            await self._converse(stream)
        await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some(65_536)
            if not data:
                return
            head += data
        self.heads.append(head)
        if not self._answer.startswith(b"HTTP/1.1 2"):
            await stream.send_all(self._answer)
            return
        asked = self.authorities[-1]
        host, _, port = self._routes.get(asked, asked).rpartition(":")
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as receiver:
            await stream.send_all(self._answer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pipe, receiver, stream, None, nursery.cancel_scope)
                nursery.start_soon(self._pipe, stream, receiver, self.sent, nursery.cancel_scope)

    async def _pipe(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        kept: bytearray | None,
        both: trio.CancelScope,
    ) -> None:
        """The end of one direction is the end of both."""
        with suppress(*_ENDS):
            while data := await source.receive_some(65_536):
                if kept is not None:
                    kept += data
                await sink.send_all(data)
        both.cancel()


@asynccontextmanager
async def open_connect_proxy(
    routes: dict[str, str] | None = None, answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n"
) -> AsyncIterator[ConnectProxy]:
    """Listen on a free port until the block ends; ``answer`` is what every CONNECT gets."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = ConnectProxy(listener.socket.getsockname()[1], routes or {}, answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
