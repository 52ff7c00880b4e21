"""The server's end of one WebSocket, from its 101 to its end.

wsproto knows the rules: what a client may send, and in which order a connection
closes.  Messages to the client do not pass through it: a text frame of ours is a
header in front of bytes that lie ready, so the sink writes it from its own buffer
(``begin_batch``, ``write``, ``end_batch``).

Two tasks, both children of ``run``:

    reader    receives, and keeps the time: its receive is under one long-lived
              cancel scope whose deadline is the next moment to look at the clock
    control   writes what is not a message: pongs, idle pings, the Close frame;
              there only while there is such a thing, for a task takes 2 KB

so the reader never waits for a write, and a client that floods us with pings has
one pong, with the newest payload, waiting and no more (RFC 6455, section 5.5.3).

Whoever writes has the ``_baton``, and ``_is_half_written`` from the first byte to
the last.  If it is still set when the connection ends, the transport is reset: a
Close frame in the middle of a message would be read as part of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import msgspec
import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason as WsprotoReason

from dispatcher.core import websocket_window
from dispatcher.deliver import tcp_progress
from dispatcher.deliver.baton import Baton
from dispatcher.deliver.direct_io import Source, pour, receive, send
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket_inflate import NOT_DEFLATE, BoundedInflate
from dispatcher.errors import CloseCode
from dispatcher.limits import (
    WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX,
    WEBSOCKET_CLOSE_WAIT_S,
    WEBSOCKET_RECEIVE_BYTES,
)
from dispatcher.model import ChannelLimits, Position
from dispatcher.wire.ws_extensions import DeflateTerms
from dispatcher.wire.ws_frames import ping_frame
from dispatcher.wire.ws_pongs import FrameWalk, lone_pongs

_CODE_LOST = int(WsprotoReason.ABNORMAL_CLOSURE)  # 1006: never on the wire
_NO_LIMITS = websocket_window.LivenessRules(
    ping_interval_s=math.inf, pong_timeout_s=math.inf, ack_timeout_s=math.inf, inactivity_s=math.inf
)
_CLOSED_BY_CLIENT = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class ClosedBy(StrEnum):
    """Who ended a connection."""

    CLIENT = "client"  # it sent a Close frame
    SERVER = "server"  # we did, or would have
    NETWORK = "network"  # it ended without a Close frame from either side


class CloseReason(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection ended."""

    by: ClosedBy
    code: int  # of the Close frame that began it; 1005: it had none; 1006: there was no frame
    text: str = ""  # the client's own words when ``by`` is CLIENT: do not trust them
    is_ack_timeout: bool = False  # the next slice should be smaller

    @property
    def is_too_big(self) -> bool:
        """Whether the client refused a message for its size."""
        return self.is_client_close and self.code == CloseCode.TOO_BIG

    @property
    def is_client_close(self) -> bool:
        """Whether the client closed, rather than vanished."""
        return self.by is ClosedBy.CLIENT


class WebSocketConnection:
    """Owns a stream that has answered 101.

    ``confirmed`` is called, on the Trio thread and from the reader, with each
    position that a pong confirms; whoever sends sets it.
    """

    __slots__ = (
        "_active_s",
        "_alive_s",
        "_baton",
        "_bytes_acked",
        "_bytes_written",
        "_changed",
        "_close_due",
        "_ends_s",
        "_idle_pinged_s",
        "_is_closed",
        "_is_control_running",
        "_is_control_wanted",
        "_is_deaf",
        "_is_half_written",
        "_is_over",
        "_is_peer_silent",
        "_is_ping_due",
        "_is_unwritable",
        "_message_bytes",
        "_nursery",
        "_parser",
        "_pinged_s",
        "_pong_due",
        "_reason",
        "_rules",
        "_socket",
        "_stream",
        "_timer",
        "_walk",
        "confirmed",
        "deflate",
        "limits",
        "opened_s",
        "window",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        leftover: bytes,
        *,
        limits: ChannelLimits | None,
        random_counter: int,
        deflate: DeflateTerms | None = None,
    ) -> None:
        """``leftover`` is what the client sent behind its handshake.

        ``limits`` None: no time limits, for a connection that is about to be closed.
        ``random_counter`` is where the pings' counter begins.  ``deflate`` is what the
        handshake agreed on: the client may compress, and so may whoever sends.
        """
        now_s = trio.current_time()
        self.opened_s = now_s  # on Trio's clock
        self.limits = limits
        self.deflate = deflate
        self.window = websocket_window.Window(random_counter)
        self.confirmed: Callable[[Position], None] | None = None
        self._stream = stream
        self._socket = tcp_progress.transport_socket(stream)
        self._rules = _NO_LIMITS if limits is None else websocket_window.liveness_rules(limits)
        self._parser = self._new_parser(leftover) if leftover else None
        walk = FrameWalk()
        self._walk = None if walk.step(leftover) else walk  # inside a client's frame; None: between two
        self._is_deaf = False  # the client closed or broke the rules: what it sends now is thrown away
        self._message_bytes = 0  # of the client's unfinished message
        self._baton = Baton()
        self._is_half_written = False
        self._is_unwritable = False  # a write failed; a Close frame may still be there to read
        self._bytes_written = 0
        self._bytes_acked = 0
        self._alive_s = self._pinged_s = self._active_s = now_s
        self._idle_pinged_s: float | None = None
        self._pong_due: bytes | None = None
        self._is_ping_due = False
        self._close_due: CloseConnection | None = None  # the Close frame to write
        self._is_control_wanted = False
        self._is_control_running = False
        self._changed = trio.lowlevel.ParkingLot()
        self._timer: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None  # that of ``run``
        self._reason: CloseReason | None = None
        self._ends_s: float | None = None  # set: it is ending, and is over by then
        self._is_over = False
        self._is_peer_silent = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_over else "open" if self._ends_s is None else "closing"
        return f"<WebSocketConnection {state} {self.window!r} reason={self._reason}>"

    @property
    def is_open(self) -> bool:
        """Whether a batch may still be begun."""
        return self._ends_s is None and not self._is_over

    @property
    def close_reason(self) -> CloseReason | None:
        """How it ended, or began to; None while it is open."""
        return self._reason

    # --- the owner's side -------------------------------------------------------------

    @classmethod
    async def refuse(cls, stream: trio.abc.Stream, leftover: bytes, code: int, text: str) -> None:
        """Close a connection that should not have been opened; return when it is over."""
        connection = cls(stream, leftover, limits=None, random_counter=0)
        connection.close_soon(code, text)
        await connection.run()

    async def run(self) -> CloseReason:
        """Serve the connection until it is over, and say how it ended.

        Whatever the client does ends in a return, never in an exception.  The
        stream is closed on every way out.  Cancellation drops the connection
        without a Close frame.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self._is_over:
                    nursery.cancel_scope.cancel()
                if self._is_control_wanted:
                    self._want_control()
                try:
                    await self._read()
                finally:
                    self._is_over = True  # from here on the nursery takes no task
        finally:
            self._nursery = None
            if self._reason is None:
                self._reason = CloseReason(by=ClosedBy.NETWORK, code=_CODE_LOST)
            self._changed.unpark_all()
            with trio.move_on_after(WEBSOCKET_CLOSE_WAIT_S, shield=True):
                await self._shut()
            self._is_closed = True
            self._changed.unpark_all()
        return self._reason

    async def close(self, code: int, text: str) -> None:
        """Close with a Close frame, or with a reset when a message stays half-written.

        Returns when the connection is over, after ``2 * WEBSOCKET_CLOSE_WAIT_S`` at
        most.  ``run`` does the work and must be running, or be about to.
        Cancellation ends the waiting, not the closing.
        """
        self.close_soon(code, text)
        while not self._is_closed:
            await self._changed.park()

    def close_soon(self, code: int, text: str) -> None:
        """Like ``close``, without waiting.  Does nothing when it is closing already."""
        self._begin_close(CloseReason(by=ClosedBy.SERVER, code=code, text=text))

    def abort(self) -> None:
        """Drop the connection now, without a Close frame; a half-written message is reset."""
        if self._reason is None:
            self._reason = CloseReason(by=ClosedBy.SERVER, code=_CODE_LOST, text="aborted")
        self._finish()

    # --- the sender's side ------------------------------------------------------------

    async def begin_batch(self, position: Position, bytes_count: int, events: int) -> bytes:
        """Take the right to write, and return the ping frame that must end this batch.

        Until ``end_batch`` or ``abandon_batch`` nothing else is written.  Raises
        ``SinkClosed``.  Cancellation: nothing was begun.
        """
        await self._baton.take()
        if not self.is_open or self._is_half_written:
            self._baton.give_back()
            raise SinkClosed
        now_s = trio.current_time()
        if self.window.events == 0:
            self._alive_s = now_s
        payload = self.window.push(position, bytes_count, events)
        self._pinged_s = self._active_s = now_s
        self._arm(now_s + websocket_window.progress_interval_s(self._rules))
        self._is_half_written = True
        return ping_frame(payload)

    async def write(self, data: memoryview) -> None:
        """Hand bytes to the transport.  Raises ``SinkClosed``.

        After an exception, ``Cancelled`` too, the batch must be abandoned.
        """
        if self._is_over:
            raise SinkClosed
        try:
            await send(self._stream, data)
        except _GONE:
            self._on_write_failed()
            raise SinkClosed from None
        self._bytes_written += len(data)

    async def pour(self, source: Source, buffer: bytearray, filled: int, tail: bytes) -> None:
        """The same of the front of a buffer, and what is behind that; see ``direct_io.pour``."""
        if self._is_over:
            raise SinkClosed
        try:
            self._bytes_written += await pour(self._stream, source, buffer, filled, tail)
        except _GONE:
            self._on_write_failed()
            raise SinkClosed from None

    def end_batch(self) -> None:
        """The batch and its ping are written."""
        self._is_half_written = False
        self._baton.give_back()

    def abandon_batch(self) -> None:
        """The batch cannot be finished: the connection ends with a reset."""
        self._baton.give_back()
        if not self._is_unwritable:
            self.abort()

    async def wait_changed(self) -> None:
        """Return when the window has shrunk.  Raises ``SinkClosed`` when it never will again."""
        if self._is_over:
            raise SinkClosed
        await self._changed.park()

    # --- the reader -------------------------------------------------------------------

    @property
    def _protocol(self) -> Connection:
        """wsproto: it takes a tenth of an idle socket, and is not there until more than pongs come or go."""
        if self._parser is None:
            self._parser = self._new_parser()
        return self._parser

    def _new_parser(self, leftover: bytes = b"") -> Connection:
        inflate: list[Extension] = []
        if self.deflate:
            inflate.append(BoundedInflate(WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX))
        return Connection(ConnectionType.SERVER, extensions=inflate, trailing_data=leftover)

    @property
    def _state(self) -> ConnectionState:
        return ConnectionState.OPEN if self._parser is None else self._parser.state

    async def _read(self) -> NoReturn:
        if self._parser is not None:
            self._take_events()
        while True:
            with trio.CancelScope(deadline=self._on_timer()) as self._timer:
                while True:  # few frames deep, for each is kept by every idle socket
                    try:
                        data = await receive(self._stream, WEBSOCKET_RECEIVE_BYTES)
                    except _GONE:
                        data = b""
                    if not data:
                        await self._on_end()
                    if not self._is_deaf:
                        self._take(data)

    async def _on_end(self) -> NoReturn:
        """Nothing more will come: wait until its Close frame is answered, or the timer ends it."""
        if self._state not in _CLOSED_BY_CLIENT:
            self._finish()
        await trio.sleep_forever()

    def _take(self, data: bytes) -> None:
        pongs = lone_pongs(data) if self._walk is None else None
        if pongs is not None:
            for payload in pongs:
                self._on_pong(payload)
            return
        walk = FrameWalk() if self._walk is None else self._walk
        self._walk = None if walk.step(data) else walk
        self._protocol.receive_data(data)
        self._take_events()

    def _take_events(self) -> None:
        for event in self._protocol.events():
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Pong(payload=payload):
                self._on_pong(bytes(payload))
            case Ping(payload=payload):
                self._pong_due = bytes(payload)
                self._want_control()
            case TextMessage() | BytesMessage():
                self._on_message(event)
            case CloseConnection():
                self._on_close(event)

    def _on_pong(self, payload: bytes) -> None:
        confirmation = self.window.confirm(payload)
        if confirmation is None:
            return
        self._alive_s = trio.current_time()
        if not self.window.awaits_idle_pong:
            self._idle_pinged_s = None
        if confirmation.position is not None and self.confirmed is not None:
            self.confirmed(confirmation.position)
        if self._changed:  # mostly nobody waits, and to wake nobody costs more than to look
            self._changed.unpark_all()

    def _on_message(self, event: TextMessage | BytesMessage) -> None:
        """Clients have nothing to say: what they send is measured and forgotten."""
        data = event.data if isinstance(event, BytesMessage) else event.data.encode()
        self._message_bytes += len(data)
        if self._message_bytes > WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX:
            self.close_soon(CloseCode.TOO_BIG, f"message over {WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX} bytes")
        elif event.message_finished:
            self._message_bytes = 0
            self._active_s = trio.current_time()

    def _on_close(self, event: CloseConnection) -> None:
        """The client's Close frame; or wsproto's, for a client that broke the protocol."""
        self._is_deaf = True
        match self._state:
            case ConnectionState.REMOTE_CLOSING:
                self._begin_close(
                    CloseReason(by=ClosedBy.CLIENT, code=int(event.code), text=event.reason or "")
                )
                self._want_close(event.response())
            case ConnectionState.OPEN:
                text = event.reason or ""
                if event.code == WsprotoReason.INVALID_FRAME_PAYLOAD_DATA and text != NOT_DEFLATE:
                    text = "not UTF-8"
                self.close_soon(int(event.code), text)
            case _:  # the answer to our Close frame, or garbage instead of one
                self._finish()

    # --- the clock --------------------------------------------------------------------

    def _on_timer(self) -> float:
        """Do what the time asks for; return when to look again."""
        now_s = trio.current_time()
        if self._ends_s is not None and now_s >= self._ends_s:
            self._is_peer_silent = True
            self._finish()
        while self._ends_s is None:
            if self._is_unconfirmed:
                self._look_for_progress(now_s)
            match websocket_window.decide(self._liveness(), self._rules, now_s):
                case websocket_window.WaitUntil(at_s):
                    return at_s
                case websocket_window.Ping():
                    self._pinged_s = now_s
                    self._is_ping_due = True
                    self._want_control()
                case websocket_window.Close(verdict, text):
                    self._on_timeout(verdict, text)
        return self._ends_s

    def _on_timeout(self, verdict: websocket_window.Verdict, text: str) -> None:
        is_ack_timeout = verdict is websocket_window.Verdict.ACK_TIMEOUT
        self._begin_close(
            CloseReason(
                by=ClosedBy.SERVER, code=CloseCode.GOING_AWAY, text=text, is_ack_timeout=is_ack_timeout
            )
        )
        if is_ack_timeout and self._is_half_written:
            self._finish()  # what did not move in all this time will not make way for a Close frame

    def _liveness(self) -> websocket_window.Liveness:
        return websocket_window.Liveness(
            is_unconfirmed=self._is_unconfirmed,
            alive_s=self._alive_s,
            pinged_s=self._pinged_s,
            idle_pinged_s=self._idle_pinged_s,
            active_s=self._active_s,
        )

    @property
    def _is_unconfirmed(self) -> bool:
        return self.window.events > 0 or self._is_half_written

    def _look_for_progress(self, now_s: float) -> None:
        if self._socket is None:
            return
        acked = tcp_progress.bytes_acked(self._socket, self._bytes_written)
        if acked is not None and acked > self._bytes_acked:
            self._bytes_acked = acked
            self._alive_s = now_s

    def _arm(self, at_s: float) -> None:
        """Look at the clock no later than at this moment."""
        if self._timer is not None and at_s < self._timer.deadline:
            self._timer.deadline = at_s

    # --- the control task -------------------------------------------------------------

    def _want_control(self) -> None:
        """Something is due that is no message; before ``run`` it waits for that."""
        self._is_control_wanted = True
        if self._nursery is not None and not self._is_over and not self._is_control_running:
            self._is_control_running = True
            self._nursery.start_soon(self._write_control)

    async def _write_control(self) -> None:
        while self._is_control_wanted:
            self._is_control_wanted = False
            await self._baton.take()
            try:
                await self._write_frames(self._take_control())
            finally:
                self._baton.give_back()
            if self._close_due is None and self._ends_s is not None:
                await self._after_close_frame()
        self._is_control_running = False

    def _take_control(self) -> bytes:
        """The frames that are due, by what holds now that they can be written."""
        frames = b""
        is_open = self._state is ConnectionState.OPEN
        if self._pong_due is not None and is_open:
            frames += self._protocol.send(Pong(payload=self._pong_due))
        if self._is_ping_due and self.is_open and self.window.is_empty:
            frames += ping_frame(self.window.push_idle_ping())
        if self._close_due is not None:
            frames += self._protocol.send(self._close_due)
        self._pong_due = None
        self._is_ping_due = False
        self._close_due = None
        return frames

    async def _write_frames(self, frames: bytes) -> None:
        if not frames:
            return
        if not self._is_unconfirmed:
            self._alive_s = trio.current_time()
        self._is_half_written = True
        with contextlib.suppress(SinkClosed):
            await self.write(memoryview(frames))
            self._is_half_written = False
        if self.window.awaits_idle_pong and self._idle_pinged_s is None:
            self._idle_pinged_s = trio.current_time()
            self._arm(self._idle_pinged_s + self._rules.pong_timeout_s)

    async def _after_close_frame(self) -> None:
        """Wait for what ends the connection now, or help it along."""
        if self._state is ConnectionState.CLOSED:
            self._finish()
        elif self._is_deaf and isinstance(self._stream, trio.abc.HalfCloseableStream):
            with contextlib.suppress(*_GONE):
                await self._stream.send_eof()  # its Close frame could not be understood; its EOF can
        await trio.sleep_forever()

    # --- ending -----------------------------------------------------------------------

    def _begin_close(self, reason: CloseReason) -> None:
        """Start the closing handshake; the first reason stands."""
        if self._reason is not None:
            return
        self._reason = reason
        self._end_within(WEBSOCKET_CLOSE_WAIT_S)
        if self._state is ConnectionState.OPEN:
            self._want_close(CloseConnection(code=reason.code, reason=reason.text))

    def _want_close(self, frame: CloseConnection) -> None:
        self._close_due = frame
        self._want_control()

    def _on_write_failed(self) -> None:
        """The client takes nothing more, but may have said why, in a Close frame still to be read."""
        self._is_unwritable = True
        self._close_due = None
        if self._reason is not None:
            self._finish()
        self._end_within(WEBSOCKET_CLOSE_WAIT_S)

    def _end_within(self, seconds: float) -> None:
        if self._ends_s is None:
            self._ends_s = trio.current_time() + seconds
            self._arm(self._ends_s)
            self._changed.unpark_all()

    def _finish(self) -> None:
        """End it now: ``run`` closes the stream and returns."""
        self._is_over = True
        self._changed.unpark_all()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _shut(self) -> None:
        """Close the stream: with a reset when the peer could take the end for a whole message.

        A peer that is silent gets a reset too when its kernel has not even taken what
        was sent: ours would keep those bytes and try for many minutes.
        """
        sock = self._socket
        if self._is_peer_silent and sock is not None and tcp_progress.bytes_unacked(sock):
            self._is_half_written = True
        if not self._is_half_written:
            with contextlib.suppress(*_GONE):
                await self._stream.aclose()
            return
        if sock is not None:
            tcp_progress.reset_on_close(sock)
        await trio.aclose_forcefully(tcp_progress.transport_of(self._stream))
