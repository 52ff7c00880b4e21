"""Reads one request's body: within a size, within a time, and once.

A body of known length goes from the stream into a buffer that is used again, or into pieces
that are joined once; h11 sees only chunked ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
import trio

from dispatcher import limits
from dispatcher.errors import BadRequest, DispatcherError, RequestTimeout
from dispatcher.http.body_buffers import BodyBuffers
from dispatcher.http.inbox import Inbox
from dispatcher.http.message import body_too_large
from dispatcher.http.request_head import Head
from dispatcher.http.service import BodyBudget

_CRUMB_BYTES = 4 * limits.KIB


class RequestBody:
    """The body of the request whose head was just read from ``inbox``.

    ``send_continue`` is called at most once, before anything is waited for.
    """

    __slots__ = (
        "_budget",
        "_buffer",
        "_buffers",
        "_bytes_held",
        "_data",
        "_has_body",
        "_inbox",
        "_is_waited_for",
        "_parser",
        "_refusal",
        "_remaining",
        "_send_continue",
    )

    def __init__(
        self,
        inbox: Inbox,
        head: Head,
        *,
        budget: BodyBudget,
        buffers: BodyBuffers,
        send_continue: Callable[[], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._parser = head.parser
        self._budget = budget
        self._buffers = buffers
        self._buffer: bytearray | None = None  # taken for this body
        self._send_continue = send_continue
        self._remaining = head.content_length  # None: chunked, and its end not seen
        self._is_waited_for = head.expects_continue and head.content_length != 0
        self._has_body = head.content_length != 0
        self._bytes_held = 0
        self._data: bytes | memoryview | None = None if self._has_body else b""
        self._refusal: DispatcherError | None = None

    @property
    def has_body(self) -> bool:
        """Whether the head announced a body that is not empty."""
        return self._has_body

    @property
    def is_read(self) -> bool:
        """Whether the stream stands at the end of the body."""
        return self._remaining == 0

    @property
    def can_skip(self) -> bool:
        """Whether ``skip`` is worth while: the end of the body is known and near."""
        if self._refusal is not None or self._is_waited_for or self._remaining is None:
            return False
        return self._remaining <= limits.UNREAD_BODY_BYTES_MAX

    async def read(self, bytes_max: int) -> bytes:
        """What ``Request.body`` promises.

        Cancellation: what came is lost, and the connection cannot be used again.
        """
        return bytes(await self.read_in_place(bytes_max))  # no copy of bytes

    async def read_in_place(self, bytes_max: int) -> bytes | memoryview:
        """What ``Request.body_in_place`` promises; cancellation as in ``read``."""
        if self._refusal is not None:
            raise self._refusal
        if self._data is None:
            try:
                self._data = await self._read(bytes_max)
            except DispatcherError as refusal:
                self._refusal = refusal
                raise
        if len(self._data) > bytes_max:
            raise body_too_large(bytes_max)
        return self._data

    async def skip(self) -> bool:
        """Throw away what is left of the body; false when the connection is not worth keeping."""
        assert self.can_skip
        with trio.move_on_after(limits.REQUEST_BODY_STALL_S):
            while self._remaining:
                if not await self._next_piece(self._remaining):
                    return False
            return True
        return False

    def release(self) -> None:
        """The request is over: its memory counts no longer."""
        self._budget.give_back(self._bytes_held)
        self._bytes_held = 0
        self._data = None
        if self._buffer is not None:
            self._buffers.give_back(self._buffer)
            self._buffer = None

    async def _read(self, bytes_max: int) -> bytes | memoryview:
        if self._remaining is not None and self._remaining > bytes_max:
            raise body_too_large(bytes_max)
        if self._remaining is not None and self._remaining <= len(self._inbox.buffer):
            return self._take_whole(self._remaining)
        await self._invite()
        deadline = trio.current_time() + limits.REQUEST_BODY_TIMEOUT_S
        with trio.CancelScope() as scope:
            patience = _Patience(scope, deadline)
            if self._remaining is not None:
                self._buffer = self._buffers.take(self._remaining)
                if self._buffer is not None:
                    return await self._read_into(memoryview(self._buffer)[: self._remaining], patience)
                return await self._read_length(self._remaining, patience)
            assert self._parser is not None
            return await self._read_chunks(self._parser, bytes_max, patience)
        raise RequestTimeout("the request's body came too slowly")

    def _take_whole(self, count: int) -> bytes:
        """A body that came together with its head."""
        self._hold(count)
        self._is_waited_for = False
        self._remaining = 0
        return self._inbox.take(count)

    async def _invite(self) -> None:
        """Send 100 if the client waits for it; a body that has begun shows that it does not."""
        if self._is_waited_for:
            self._is_waited_for = False
            if not self._inbox.buffer:
                await self._send_continue()

    async def _read_into(self, room: memoryview, patience: _Patience) -> memoryview:
        at = 0
        while at < len(room):
            patience.renew()
            received = await self._next_piece_into(room[at : at + limits.REQUEST_BODY_RECEIVE_BYTES])
            if not received:
                raise _broken_off()
            self._hold(received)
            at += received
        return room

    async def _next_piece_into(self, room: memoryview) -> int:
        """What ``_next_piece`` does, to the front of ``room``; 0 when no more will come."""
        assert self._remaining is not None
        if self._inbox.buffer:
            piece = self._inbox.take(len(room))
            room[: len(piece)] = piece
            received = len(piece)
        else:
            received = await self._inbox.receive_into(room)
        self._remaining -= received
        return received

    async def _read_length(self, count: int, patience: _Patience) -> bytes:
        gathered = _Gathered()
        while count:
            patience.renew()
            piece = await self._next_piece(count)
            if not piece:
                raise _broken_off()
            self._hold(len(piece))
            gathered.add(piece)
            count -= len(piece)
        return gathered.join()

    async def _next_piece(self, count: int) -> bytes:
        """Bytes of a body of known length, buffered ones first; empty when no more will come."""
        assert self._remaining is not None
        if self._inbox.buffer:
            piece = self._inbox.take(count)
        else:
            piece = await self._inbox.receive(min(count, limits.REQUEST_BODY_RECEIVE_BYTES))
        self._remaining -= len(piece)
        return piece

    async def _read_chunks(self, parser: h11.Connection, bytes_max: int, patience: _Patience) -> bytes:
        gathered = _Gathered()
        size = 0
        events = 0
        parser.receive_data(self._inbox.take(len(self._inbox.buffer)) or await self._more(patience))
        while True:
            event = _next_event(parser)
            if event is h11.NEED_DATA:
                parser.receive_data(await self._more(patience))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > bytes_max:
                    raise body_too_large(bytes_max)
                self._hold(len(event.data))
                gathered.add(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage)  # its trailers are not used
                self._inbox.buffer += parser.trailing_data[0]
                self._remaining = 0
                return gathered.join()
            events += 1
            if events % limits.REQUEST_CHUNKS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _more(self, patience: _Patience) -> bytes:
        patience.renew()
        data = await self._inbox.receive(limits.REQUEST_BODY_RECEIVE_BYTES)
        if not data:
            raise _broken_off()
        return data

    def _hold(self, count: int) -> None:
        self._budget.take(count)
        self._bytes_held += count


class _Gathered:
    """Pieces to be joined once.  Tiny ones are put together first: as objects they are mostly overhead."""

    __slots__ = ("_crumbs", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._crumbs = bytearray()

    def add(self, piece: bytes) -> None:
        if len(piece) < _CRUMB_BYTES:
            self._crumbs += piece
        else:
            self._sweep()
            self._pieces.append(piece)

    def join(self) -> bytes:
        self._sweep()
        return b"".join(self._pieces)

    def _sweep(self) -> None:
        if self._crumbs:
            self._pieces.append(bytes(self._crumbs))
            self._crumbs.clear()


class _Patience:
    """Moves a scope's deadline along with progress, up to a last one."""

    __slots__ = ("_last", "_scope")

    def __init__(self, scope: trio.CancelScope, last: float) -> None:
        self._scope = scope
        self._last = last

    def renew(self) -> None:
        self._scope.deadline = min(trio.current_time() + limits.REQUEST_BODY_STALL_S, self._last)


def _next_event(parser: h11.Connection) -> object:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError:
        raise BadRequest("the body's chunks are malformed") from None


def _broken_off() -> BadRequest:
    return BadRequest("the connection ended inside the request's body")
