"""The callback sink: one PUT per message, acknowledged by any 2xx.

A sink keeps one connection alive between its batches; there is one batch in flight,
so there is nothing to pool.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
import trio

from dispatcher import limits
from dispatcher.core.callback_rules import CallbackTarget, parse_callback
from dispatcher.core.retry import parse_retry_after
from dispatcher.deliver.callback_body import Envelope, RequestBody, Wrapper
from dispatcher.deliver.callback_connection import (
    Answer,
    CallbackConnection,
    ConnectionLost,
    PieceBuffers,
)
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import (
    Confirmed,
    DeliveryFailed,
    FailureClass,
    OutgoingBatch,
    SinkClosed,
    SinkStatistics,
)
from dispatcher.wire.webhook_signature import message_id

_PLAIN = Envelope()


class CallbackSends:
    """The requests in flight of all callbacks: their places and their buffers.

    One of it serves the whole process.  The places are what keeps dead receivers from
    using up what live ones need (INV-9).  A receiver that swallows packets holds its
    place for the whole time limit, 20 s, and then pauses up to 120 s: in the long run
    a seventh of a place.  But in the first minutes of an outage pauses are short, and
    thousands of channels behind one dead host would take every place.  So a channel
    whose last attempt failed also needs one of the places for retries: however many
    fail, the rest is for channels that work.

    Waiting for a place is not held against the receiver; it has no time limit but
    those of the requests that hold the places.
    """

    def __init__(
        self,
        places: int = limits.CALLBACK_SENDS_MAX,
        retry_places: int = limits.CALLBACK_RETRIES_MAX,
    ) -> None:
        self._places = trio.CapacityLimiter(places)
        self._retry_places = trio.CapacityLimiter(retry_places)
        self.buffers = PieceBuffers()
        self.wrapper = Wrapper()

    def __repr__(self) -> str:
        return f"<CallbackSends {self.in_flight} of {self._places.total_tokens:g}>"

    @property
    def in_flight(self) -> int:
        """Requests that hold a place now."""
        return self._places.borrowed_tokens

    @asynccontextmanager
    async def place(self, *, is_retry: bool) -> AsyncIterator[None]:
        """Hold a place."""
        if is_retry:
            async with self._retry_places, self._places:
                yield
            return
        try:
            self._places.acquire_nowait()  # to wait for what is free takes a turn of the loop
        except trio.WouldBlock:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()


class StoredTarget(msgspec.Struct, frozen=True):
    """A callback as it was registered, and checked then.  Values may be secrets: the ``repr`` has none."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return "<StoredTarget>"


class CallbackSink:
    """Delivers one channel's batches to its callback.

    A batch has one message unless the application asked for one per kind; then they
    go one after the other, and the batch is confirmed with the last.

    Cancellation of ``send`` drops the connection; the batch was not confirmed, and
    the sink can be used again.
    """

    __slots__ = (
        "_confirmed",
        "_connection",
        "_dialer",
        "_envelope",
        "_idle_since_s",
        "_in_flight",
        "_incarnation",
        "_is_closed",
        "_is_failing",
        "_now_unix_s",
        "_sends",
        "_target",
        "_timeout_s",
    )

    def __init__(
        self,
        target: CallbackTarget | StoredTarget,
        *,
        dialer: Dialer,
        timeout_s: float,
        confirmed: Confirmed,
        sends: CallbackSends,
        now_unix_s: Callable[[], float],
        envelope: Envelope = _PLAIN,
        incarnation: int = 0,
    ) -> None:
        self._target = target
        self._envelope = envelope
        self._incarnation = incarnation  # of the channel: ids of messages are made with it
        self._dialer = dialer
        self._sends = sends
        self._now_unix_s = now_unix_s
        self._timeout_s = timeout_s
        self._confirmed = confirmed
        self._connection: CallbackConnection | None = None  # in use, or kept for the next message
        self._idle_since_s: float | None = None  # None: in use, or no connection
        self._is_failing = False
        self._is_closed = False
        self._in_flight: OutgoingBatch | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "failing" if self._is_failing else "open"
        return f"<CallbackSink {self._target!r} {state} {self._connection}>"

    async def send(self, batch: OutgoingBatch) -> int | None:
        """Send a batch and confirm it on the receiver's 2xx, which is returned, the last of several.

        ``timeout_s`` holds for each message, over connecting, sending and the status;
        signing and compressing come before it.
        Raises ``DeliveryFailed``, ``SinkClosed``, or what the batch raises when its
        records are gone.
        """
        self._check_open()
        batch.rewind()
        self._in_flight = batch
        status: int | None = None
        try:
            async with self._sends.place(is_retry=self._is_failing):
                for index in range(len(batch.messages)):
                    status = await self._deliver(await self._wrap(batch, index))
        except DeliveryFailed:
            self._is_failing = True
            raise
        finally:
            self._in_flight = None
        self._is_failing = False
        self._confirmed(batch.last)
        return status

    async def drained(self) -> None:
        """Return at once: what ``send`` has returned from is confirmed."""
        await trio.lowlevel.checkpoint()

    @property
    def in_flight(self) -> OutgoingBatch | None:
        """The batch that is being sent now."""
        return self._in_flight

    def statistics(self) -> SinkStatistics:
        """What is unconfirmed now."""
        batch = self._in_flight
        return SinkStatistics(
            unconfirmed_events=batch.events if batch else 0,
            unconfirmed_bytes=batch.bytes_count if batch else 0,
        )

    @property
    def idle_since_s(self) -> float | None:
        """When the kept connection was last used, on Trio's clock; None: there is none to close."""
        return self._idle_since_s

    async def close_idle(self, idle_s: float = 0.0) -> None:
        """Close the kept connection when it was not used for ``idle_s``; the sink stays open."""
        since_s = self._idle_since_s
        if since_s is not None and trio.current_time() - since_s >= idle_s:
            await self._drop_connection()

    async def aclose(self) -> None:
        """Close the connection; a ``send`` under way ends with ``SinkClosed``."""
        self._is_closed = True
        await self._drop_connection()

    async def _wrap(self, batch: OutgoingBatch, index: int) -> RequestBody:
        source = _Message(batch, index, self._sends.buffers)

        def id() -> str:
            return message_id(self._incarnation, batch.first, batch.last, index, source.bytes_count)

        unix_ms = int(self._now_unix_s() * 1000)
        return await self._sends.wrapper.wrap(source, self._envelope, id, unix_ms)

    async def _deliver(self, body: RequestBody) -> int:
        try:
            with trio.fail_after(self._timeout_s):
                answer = await self._request(body)
        except trio.TooSlowError:
            raise DeliveryFailed(FailureClass.TIMEOUT) from None
        except DeliveryFailed:
            self._check_open()
            raise
        if not 200 <= answer.status <= 299:
            raise DeliveryFailed(
                FailureClass.STATUS, status=answer.status, retry_after_s=self._retry_after_s(answer)
            )
        return answer.status

    async def _request(self, body: RequestBody) -> Answer:
        """One attempt: on the kept connection, and at once on a new one if that was dead."""
        kept = await self._take_kept()
        if kept is not None:
            try:
                return await self._put(kept, body)
            except ConnectionLost as lost:
                if not lost.is_untouched or self._is_closed:
                    raise
            await body.rewind()
        stream = await self._dialer.dial(self._read_target())
        return await self._put(CallbackConnection(stream, self._sends.buffers), body)

    def _read_target(self) -> CallbackTarget:
        """Where to send; read once, for most of those that are stored send nothing today."""
        if isinstance(self._target, StoredTarget):
            self._target = parse_callback(self._target.url, self._target.headers)
        return self._target

    async def _put(self, connection: CallbackConnection, body: RequestBody) -> Answer:
        self._connection, self._idle_since_s = connection, None
        try:
            self._check_open()
            answer = await connection.put(self._read_target(), body)
        finally:
            if connection.is_reusable and not self._is_closed:
                self._idle_since_s = trio.current_time()
            else:
                await self._drop_connection()
        return answer

    async def _take_kept(self) -> CallbackConnection | None:
        """The kept connection, if it is young enough and the receiver has not closed it."""
        connection, since_s = self._connection, self._idle_since_s
        if connection is None or since_s is None:
            return None
        if trio.current_time() - since_s >= limits.CALLBACK_IDLE_S or connection.has_news():
            await self._drop_connection()
            return None
        return connection

    async def _drop_connection(self) -> None:
        connection = self._connection
        self._connection = self._idle_since_s = None
        if connection is not None:
            await connection.aclose()

    def _retry_after_s(self, answer: Answer) -> float | None:
        if answer.retry_after is None:
            return None
        return parse_retry_after(answer.retry_after, answer.date, self._now_unix_s())

    def _check_open(self) -> None:
        if self._is_closed:
            raise SinkClosed


class _Message:
    """One message of a batch, readable again and again."""

    def __init__(self, batch: OutgoingBatch, index: int, buffers: PieceBuffers) -> None:
        self._batch = batch
        self._index = index
        self._buffers = buffers
        self.bytes_count = batch.messages[index].bytes_count

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        return await self._batch.read_into(buffer, offset)

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        return self._batch.pour(socket, buffer, filled, unread, tail)

    async def rewind(self) -> None:
        """Go back to the beginning of this message; a batch itself only starts over."""
        self._batch.rewind()
        before_bytes = sum(message.bytes_count for message in self._batch.messages[: self._index])
        with self._buffers.borrow() as buffer:
            while before_bytes > 0:  # each read takes at least a record
                before_bytes -= await self._batch.read_into(buffer, 0)
