"""A server on real sockets, whose handler does what the path says."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio
from support.http_wire import WireClient, get

from dispatcher import limits
from dispatcher.errors import InvalidAuth
from dispatcher.http.door import Door
from dispatcher.http.message import Handle, Request, Response, Upgrade, text_response
from dispatcher.http.server import Server, open_listeners


async def answer(request: Request) -> Response | Upgrade:
    """``/echo`` gives the body back, ``/refuse`` is 401 with the body unread, and so on."""
    match request.path:
        case "/echo":
            return Response(200, await request.body(limits.API_BODY_BYTES_MAX), "application/octet-stream")
        case "/refuse":
            raise InvalidAuth("Invalid access token")
        case "/big":
            return Response(200, bytes(64 * limits.MIB), "application/octet-stream")
        case "/slow":
            await trio.sleep(0.3)
        case "/upgrade":
            return Upgrade(echo_stream, (("Sec-WebSocket-Accept", "x="),))
    return text_response(request.path)


async def echo_stream(stream: trio.abc.Stream, leftover: bytes) -> None:
    """Send everything back, first what came with the request."""
    await stream.send_all(leftover)
    async for data in stream:
        await stream.send_all(data)


async def eventually(condition: Callable[[], bool]) -> None:
    """Look until it holds; fail after five seconds."""
    for _ in range(500):
        if condition():
            return
        await trio.sleep(0.01)
    raise AssertionError("it never came to be")


class RunningServer(msgspec.Struct, frozen=True):
    """A server that listens."""

    server: Server
    port: int

    async def connect(self) -> WireClient:
        """A plain connection."""
        return WireClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    def is_deserted(self) -> bool:
        """No connection is open."""
        return self.server.statistics().connections_open == 0

    async def check_alive(self) -> None:
        """It still answers a good request on a new connection."""
        client = await self.connect()
        with trio.fail_after(5):
            assert (await client.ask(get("/alive"))).body == b"/alive"
        await client.stream.aclose()


@asynccontextmanager
async def running(
    handle: Handle = answer,
    *,
    grace_s: float = 5.0,
    tls: ssl.SSLContext | None = None,
    door: Door | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve; at the end drain, and see that nothing is left (INV-7)."""
    listeners = await open_listeners("127.0.0.1", 0, tls=tls)
    listener = listeners[0]
    sock = (listener.transport_listener if isinstance(listener, trio.SSLListener) else listener).socket
    server = Server(handle, grace_s=grace_s, door=door)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, listeners)
            yield RunningServer(server, sock.getsockname()[1])
            await server.drain()
    statistics = server.statistics()
    assert statistics.connections_open == statistics.requests_running == statistics.upgrades_open == 0
    assert statistics.body_bytes_held == 0
    assert statistics.connections_failed_total == 0
    assert sock.fileno() == -1
