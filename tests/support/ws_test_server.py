"""A WebSocket server of a hundred lines, for tests that need nothing else of the dispatcher.

Reads a request's head by hand, answers 101, and serves a ``WebSocketConnection``.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from dispatcher.deliver.websocket_connection import CloseReason, WebSocketConnection
from dispatcher.model import ChannelLimits, Overflow
from dispatcher.wire.ws_extensions import DeflateTerms, agree_on_deflate
from dispatcher.wire.ws_handshake import check_upgrade

HEAD_BYTES_MAX = 16 * 1024


def channel_limits(**changes: object) -> ChannelLimits:
    """The default tier's limits, with changes."""
    settings: dict[str, object] = {
        "queue_bytes": 50_000_000,
        "event_lifetime_s": 86_400.0,
        "overflow": Overflow.DROP_OLDEST,
        "idle_timeout_s": 172_800.0,
        "delivery_failure_timeout_s": 86_400.0,
        "websocket_disconnected_timeout_s": 86_400.0,
        "websocket_inactivity_s": 86_400.0,
        "batch_events": 10_000,
        "batch_bytes": 8_388_608,
        "websocket_batch_bytes": 1_000_000,
        "delete_channel_on_client_close": False,
        "callback_timeout_s": 20.0,
        "retry_initial_s": 1.0,
        "retry_max_s": 120.0,
        "ping_interval_s": 30.0,
        "pong_timeout_s": 5.0,
        "ack_timeout_s": 120.0,
        "long_poll_hold_s": 30.0,
        "long_poll_idle_s": 600.0,
    }
    return ChannelLimits(**{**settings, **changes})


async def answer_upgrade(stream: trio.abc.Stream) -> bytes:
    """Read a request's head, answer 101 without any extension; return what came behind the head."""
    return (await _answer_upgrade(stream, may_deflate=False))[0]


async def _answer_upgrade(stream: trio.abc.Stream, *, may_deflate: bool) -> tuple[bytes, DeflateTerms | None]:
    data = b""
    while b"\r\n\r\n" not in data:
        received = await stream.receive_some(4096)
        assert received, "the client left in its handshake"
        data += received
        assert len(data) <= HEAD_BYTES_MAX
    head, _, leftover = data.partition(b"\r\n\r\n")
    headers = _headers(head.decode("latin-1"))
    request = check_upgrade(headers)
    terms = agree_on_deflate(headers.get("sec-websocket-extensions")) if may_deflate else None
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Accept: {request.accept}",
    ]
    if "wss" in request.subprotocols:
        lines.append("Sec-WebSocket-Protocol: wss")
    if terms is not None:
        lines.append(f"Sec-WebSocket-Extensions: {terms.answer()}")
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
    return leftover, terms


def _headers(head: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return headers


class ServedSocket:
    """One client of the test server; ``reason`` is set when it has ended."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.reason: CloseReason | None = None
        self.ended = trio.Event()


@asynccontextmanager
async def serve_websockets(
    serve: Callable[[ServedSocket], Awaitable[None]],
    limits: ChannelLimits,
    tls: ssl.SSLContext | None = None,
    *,
    may_deflate: bool = False,
) -> AsyncIterator[int]:
    """Serve on a free port of 127.0.0.1, which is yielded, until the block is left.

    ``serve`` runs beside each connection's ``run`` and is cancelled when that returns.
    """

    async def handle(transport: trio.SocketStream) -> None:
        stream = trio.SSLStream(transport, tls, server_side=True) if tls else transport
        leftover, terms = await _answer_upgrade(stream, may_deflate=may_deflate)
        connection = WebSocketConnection(
            stream, leftover, limits=limits, random_counter=2**32 - 2, deflate=terms
        )
        socket = ServedSocket(connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, socket)
            socket.reason = await connection.run()
            socket.ended.set()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
