"""The server's end of a gateway's WebSocket: messages come up, and go down.

Beside ``websocket_connection``, whose clients have nothing to say and whose pongs confirm
batches, this one is small: a message up is handed to its owner, and not a byte more is
read until the owner takes the next (that is the backpressure).  So the time that a
silent peer has is counted in the reading alone, and any byte is a sign of life.

Whoever writes holds ``_send_lock``.  A write that was cut off, by cancellation or
because the peer takes nothing for ``limits.GATEWAY_WRITE_STALL_S``, ends the connection
with a reset: what follows half a frame would be read as part of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason as WsprotoReason

from dispatcher import limits
from dispatcher.deliver import tcp_progress
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket_connection import ClosedBy, CloseReason
from dispatcher.errors import CloseCode
from dispatcher.wire.ws_frames import put_text_header, text_header_bytes

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Take = Callable[[bytes], Awaitable[None]]
"""Takes one message; returns when the next may be read."""


class Unfinished(msgspec.Struct):
    """Bytes of the messages that all gateways together have begun and not finished."""

    bytes_held: int = 0
    bytes_max: int = limits.GATEWAY_UNFINISHED_BYTES_MAX


class GatewayConnection:
    """Owns a stream that has answered 101."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        leftover: bytes,
        *,
        ping_interval_s: float,
        pong_timeout_s: float,
        unfinished: Unfinished,
    ) -> None:
        """``leftover`` is what the gateway sent behind its handshake."""
        self._stream = stream
        self._protocol = Connection(ConnectionType.SERVER, trailing_data=leftover)
        self._ping_interval_s = ping_interval_s
        self._pong_timeout_s = pong_timeout_s
        self._unfinished = unfinished
        self._parts: list[bytes] = []  # of the message that is coming in
        self._parts_bytes = 0
        self._send_lock = trio.Lock()
        self._is_half_written = False
        self._is_over = False
        self._reading = trio.CancelScope()
        self._reason: CloseReason | None = None
        self._closed = trio.Event()

    def __repr__(self) -> str:
        state = "closed" if self._is_over else "open" if self._reason is None else "closing"
        return f"<GatewayConnection {state} reason={self._reason}>"

    async def run(self, take: Take) -> CloseReason:
        """Hand over the messages that come, one after the other, until the end; say how it ended.

        Whatever the gateway does ends in a return, never in an exception; what ``take``
        raises comes out.  The stream is closed on every way out.
        """
        try:
            with self._reading:
                await self._read(take)
            with trio.move_on_after(limits.WEBSOCKET_CLOSE_WAIT_S):
                await self._say_goodbye()
        finally:
            self._is_over = True
            self._forget_message()
            if self._reason is None:
                self._reason = CloseReason(by=ClosedBy.NETWORK, code=int(WsprotoReason.ABNORMAL_CLOSURE))
            with trio.move_on_after(limits.WEBSOCKET_CLOSE_WAIT_S, shield=True):
                await self._shut()
            self._closed.set()
        return self._reason

    async def send(self, text: bytes) -> None:
        """Send one text message.  Raises ``SinkClosed``.

        Cancellation, once bytes were handed to the transport, ends the connection.
        """
        frame = bytearray(text_header_bytes(len(text)))
        put_text_header(frame, 0, len(text))
        await self._write(bytes(frame) + text)

    def close_soon(self, code: int, text: str) -> None:
        """Stop reading and close with a Close frame; the first reason stands."""
        if self._reason is None:
            self._reason = CloseReason(by=ClosedBy.SERVER, code=code, text=text)
            self._reading.cancel()

    async def close(self, code: int, text: str) -> None:
        """The same, and return when it is over; ``run`` does the work."""
        self.close_soon(code, text)
        await self._closed.wait()

    # --- reading ----------------------------------------------------------------------

    async def _read(self, take: Take) -> None:
        while self._reason is None:
            for event in self._protocol.events():
                await self._on_event(event, take)
                if self._reason is not None:
                    return
            data = await self._receive()
            if not data:
                return
            self._protocol.receive_data(data)

    async def _receive(self) -> bytes:
        """The next bytes; empty when the connection has ended, or is to be closed."""
        with trio.move_on_after(self._ping_interval_s):
            return await self._receive_some()
        with contextlib.suppress(SinkClosed):
            await self._write(self._protocol.send(Ping()))
        with trio.move_on_after(self._pong_timeout_s):
            return await self._receive_some()
        self.close_soon(CloseCode.GOING_AWAY, f"ping timeout: nothing came within {self._pong_timeout_s:g} s")
        return b""

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(limits.GATEWAY_RECEIVE_BYTES))
        except _GONE:
            return b""

    async def _on_event(self, event: Event, take: Take) -> None:
        match event:
            case TextMessage() | BytesMessage():
                await self._on_message(event, take)
            case Ping():
                with contextlib.suppress(SinkClosed):
                    await self._write(self._protocol.send(event.response()))
            case CloseConnection():
                self._on_close(event)
            case Pong():
                pass

    async def _on_message(self, event: TextMessage | BytesMessage, take: Take) -> None:
        part = bytes(event.data) if isinstance(event, BytesMessage) else event.data.encode()
        if self._parts_bytes + len(part) > limits.REQUEST_BODY_BYTES_MAX:
            self.close_soon(CloseCode.TOO_BIG, f"message over {limits.REQUEST_BODY_BYTES_MAX} bytes")
            return
        if not event.message_finished or self._parts:
            if self._unfinished.bytes_held + len(part) > self._unfinished.bytes_max:
                self.close_soon(CloseCode.TRY_AGAIN_LATER, "too many large messages at once")
                return
            self._unfinished.bytes_held += len(part)
            self._parts_bytes += len(part)
        self._parts.append(part)
        if event.message_finished:
            message = b"".join(self._parts)
            self._forget_message()
            await take(message)

    def _forget_message(self) -> None:
        self._unfinished.bytes_held -= self._parts_bytes
        self._parts_bytes = 0
        self._parts.clear()

    def _on_close(self, event: CloseConnection) -> None:
        """The gateway's Close frame; or wsproto's, for one that broke the protocol."""
        is_ours = self._protocol.state is ConnectionState.OPEN
        if self._reason is None:
            self._reason = CloseReason(
                by=ClosedBy.SERVER if is_ours else ClosedBy.CLIENT,
                code=int(event.code),
                text=event.reason or "",
            )

    # --- writing and ending -----------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        async with self._send_lock:
            if self._is_half_written or self._is_over:
                raise SinkClosed
            self._is_half_written = True
            with trio.move_on_after(limits.GATEWAY_WRITE_STALL_S) as patience:
                try:
                    await self._stream.send_all(data)
                except _GONE:
                    raise SinkClosed from None
            if patience.cancelled_caught:
                self.close_soon(CloseCode.GOING_AWAY, "nothing is read")
                raise SinkClosed
            self._is_half_written = False

    async def _say_goodbye(self) -> None:
        """Send our Close frame, and wait until the gateway has nothing more to say."""
        reason = self._reason
        if reason is None:
            return
        frame = CloseConnection(code=reason.code, reason=reason.text)
        if self._protocol.state is ConnectionState.REMOTE_CLOSING:
            has_code = reason.code != WsprotoReason.NO_STATUS_RCVD
            frame = CloseConnection(code=reason.code if has_code else WsprotoReason.NORMAL_CLOSURE)
        elif self._protocol.state is not ConnectionState.OPEN:
            return
        with contextlib.suppress(SinkClosed):
            await self._write(self._protocol.send(frame))
            while not self._is_closed():
                data = await self._receive_some()
                if not data:
                    return
                self._protocol.receive_data(data)
                for _ in self._protocol.events():
                    pass  # what it still had to say came too late

    def _is_closed(self) -> bool:
        return self._protocol.state is ConnectionState.CLOSED

    async def _shut(self) -> None:
        if not self._is_half_written:
            with contextlib.suppress(*_GONE):
                await self._stream.aclose()
            return
        sock = tcp_progress.transport_socket(self._stream)
        if sock is not None:
            tcp_progress.reset_on_close(sock)
        await trio.aclose_forcefully(tcp_progress.transport_of(self._stream))
