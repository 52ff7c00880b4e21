"""Receivers that do not receive: sockets that are never read, callbacks that hang or are gone.

Each looks alive when it is registered.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

import trio

from .http_client import call
from .websocket_sink import CONNECT_PATH, SinkFailed, handshake

_TIMEOUT_S = 10.0
_RECEIVE_BYTES = 4_096  # also of the buffer of a socket that is never read, so that it is soon full
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_PROBE_END = b"\r\n\r\n{}"


@asynccontextmanager
async def open_dead(port: int, keys: Sequence[str]) -> AsyncIterator[None]:
    """Give each of these applications a dead receiver: half of them sockets, a quarter each kind of callback.

    ``port`` is the daemon's.  The WebSocket channels are registered already; those of
    the callbacks are replaced.
    """
    unread, hanging, gone = keys[0::2], keys[1::4], keys[3::4]
    with ExitStack() as stack:
        for key in unread:
            stack.enter_context(_unread_socket(port, key))
        async with trio.open_nursery() as nursery:
            await _register(port, hanging, await _listen(nursery))
            async with trio.open_nursery() as short_lived:
                await _register(port, gone, await _listen(short_lived))
                short_lived.cancel_scope.cancel()
            yield
            nursery.cancel_scope.cancel()


def _unread_socket(port: int, key: str) -> socket.socket:
    """A WebSocket whose client never reads, nor answers a ping."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    connection.settimeout(_TIMEOUT_S)
    connection.connect(("127.0.0.1", port))
    connection.sendall(handshake(CONNECT_PATH, key))
    answer = connection.recv(_RECEIVE_BYTES)
    if not answer.startswith(b"HTTP/1.1 101"):
        raise SinkFailed(f"no WebSocket: {answer!r}")
    return connection


async def _listen(nursery: trio.Nursery) -> int:
    """A callback's port: it answers the request that verifies it, and no other."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, _answer_probe_only, listeners)
    return int(listeners[0].socket.getsockname()[1])


async def _answer_probe_only(stream: trio.SocketStream) -> None:
    request = b""
    with suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(_RECEIVE_BYTES):
            request = (request + data)[-_RECEIVE_BYTES:]
            if request.endswith(_PROBE_END):
                await stream.send_all(_OK)


async def _register(port: int, keys: Sequence[str], callback_port: int) -> None:
    for key in keys:
        await call(port, "DELETE", "/v2/notification/websocket", key)
        url = f"http://127.0.0.1:{callback_port}/events"
        await call(port, "PUT", "/v2/notification/callback", key, {"url": url})
