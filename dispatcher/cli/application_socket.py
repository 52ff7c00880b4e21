"""An application's WebSocket, as ``tail`` and ``demo`` use it, over trio-websocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from dispatcher import limits
from dispatcher.cli.api_client import refusal
from dispatcher.cli.server_address import ServerAddress, open_stream
from dispatcher.errors import CloseCode, ServerUnreachable
from dispatcher.model import Role

PATH = "/v2/notification/websocket-connect"
CLOSE_ABNORMAL = 1006
"""Stands for a connection that ended without a Close frame; never on the wire."""

Take = Callable[[str], bool]
"""Takes one message and says whether to go on."""

Dial = Callable[[ServerAddress], Awaitable[trio.abc.Stream]]


class SocketEnd(msgspec.Struct, frozen=True):
    """How a socket ended: a close code and the server's words."""

    code: int
    reason: str


_ENOUGH = SocketEnd(CloseCode.NORMAL, "")  # ``take`` said stop


async def receive_messages(
    address: ServerAddress,
    key: str,
    take: Take,
    *,
    opened: Callable[[], None] = lambda: None,
    dial: Dial = open_stream,
) -> SocketEnd:
    """Connect, call ``opened``, then ``take`` for each message, until the socket ends.

    When ``take`` says to stop, the socket is closed with 1000.  No message waits in the
    library: of what the server counts as received, ``take`` has had all but perhaps the
    newest; and what it had last may come again on the next socket.

    Raises ``ServerUnreachable``, or ``RequestRefused`` with the status of the handshake;
    what ``take`` raises comes out in an exception group.  Cancellation drops the connection.
    """
    stream = await dial(address)
    try:
        return await _receive(stream, address, key, take, opened)
    finally:
        await trio.aclose_forcefully(stream)


async def _receive(
    stream: trio.abc.Stream, address: ServerAddress, key: str, take: Take, opened: Callable[[], None]
) -> SocketEnd:
    rejection: trio_websocket.ConnectionRejected | None = None
    end: SocketEnd | None = None
    try:
        async with trio.open_nursery() as nursery:
            socket = await _handshake(nursery, stream, address, key)
            if socket is not None:
                opened()
                end = await _take_all(socket, take)
                if end is _ENOUGH:
                    await _say_goodbye(socket)
            nursery.cancel_scope.cancel()  # the library's reader
    except* trio_websocket.ConnectionRejected as group:
        rejection = _first(group)
    except* LocalProtocolError:
        if end is not _ENOUGH:
            raise
        # The library's reader does so when a ping comes after our Close frame.
    if rejection is not None:
        raise refusal("GET", PATH, rejection.status_code, "no WebSocket for this key", Role.APPLICATION)
    if end is None:
        raise ServerUnreachable(
            f"the dispatcher at {address} did not answer the WebSocket handshake "
            f"within {limits.CLIENT_CONNECT_S:g} s"
        )
    return end


async def _handshake(
    nursery: trio.Nursery, stream: trio.abc.Stream, address: ServerAddress, key: str
) -> trio_websocket.WebSocketConnection | None:
    """The open socket; None when the server does not answer in time."""
    with trio.move_on_after(limits.CLIENT_CONNECT_S):
        return await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # the library works with any stream
            address.host_header,
            address.prefix + PATH,
            extra_headers=[(b"Authorization", b"Bearer " + key.encode())],
            message_queue_size=0,
            max_message_size=limits.TAIL_MESSAGE_BYTES_MAX,
            receive_buffer_size=limits.CLIENT_RECEIVE_BYTES,
        )
    return None


async def _take_all(socket: trio_websocket.WebSocketConnection, take: Take) -> SocketEnd:
    try:
        while True:
            message = await socket.get_message()
            if not take(message if isinstance(message, str) else message.decode()):
                return _ENOUGH
    except trio_websocket.ConnectionClosed as closed:
        if closed.reason is None:
            return SocketEnd(CLOSE_ABNORMAL, "")
        return SocketEnd(closed.reason.code, closed.reason.reason or "")


async def _say_goodbye(socket: trio_websocket.WebSocketConnection) -> None:
    """Close, but first let the pong to the last message go out.

    When the answer to a ping of ours is there, everything before it has been answered.
    It does not come through while another message waits to be taken.
    """
    with trio.move_on_after(limits.TAIL_LAST_PONG_S), suppress(trio_websocket.ConnectionClosed):
        await socket.ping()
    with trio.move_on_after(limits.TAIL_CLOSE_S):
        await socket.aclose()


def _first(group: BaseExceptionGroup[trio_websocket.ConnectionRejected]) -> trio_websocket.ConnectionRejected:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
