"""Binds WebSockets to channels: the newer wins, and each end has its close code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from dispatcher import limits
from dispatcher.core.retry import after_refused_size
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.deliver.websocket_connection import CloseReason, WebSocketConnection
from dispatcher.deliver.websocket_deflate import Deflater
from dispatcher.errors import CloseCode, NotFound
from dispatcher.model import AccessKey, Application, ChannelType, Position
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import confirm
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.registrations import Registrations
from dispatcher.runtime.supervisor import Supervisor, detach
from dispatcher.wire.ws_extensions import DeflateTerms, agree_on_deflate


class Sockets:
    """Every open WebSocket of an application."""

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        directory: Directory,
        registrations: Registrations,
        queue: ChannelQueue,
        supervisor: Supervisor,
        new_counter: Callable[[], int],
        deflate_bytes_per_s: int,
        metrics: Metrics,
    ) -> None:
        """``deflate_bytes_per_s`` 0: nothing is compressed, and no client is told that it may."""
        self._nursery = nursery
        self._directory = directory
        self._registrations = registrations
        self._queue = queue
        self._supervisor = supervisor
        self._new_counter = new_counter
        self._open: dict[WebSocketConnection, tuple[AccessKey, ActiveChannel]] = {}
        self._buffers = SendBuffers()
        counter = metrics.websocket_deflate_bytes
        self._deflater = (
            Deflater(deflate_bytes_per_s, lambda stage, count: counter.labels(stage).inc(count))
            if deflate_bytes_per_s
            else None
        )
        self._is_stopping = False

    def agree_on_deflate(self, offered: str | None) -> DeflateTerms | None:
        """What a handshake is to answer to this ``Sec-WebSocket-Extensions``; None: nothing."""
        return None if self._deflater is None else agree_on_deflate(offered)

    async def serve(
        self,
        key: AccessKey,
        application: Application,
        stream: trio.abc.Stream,
        leftover: bytes,
        deflate: DeflateTerms | None,
    ) -> None:
        """Serve one socket from the end of its handshake to its end; ``deflate`` is what that agreed on."""
        try:
            channel = self._registrations.channel(application, ChannelType.WEB_SOCKET)
        except NotFound:
            await WebSocketConnection.refuse(
                stream, leftover, CloseCode.INTERNAL, "no WebSocket channel is registered"
            )
            return
        if self._is_stopping:
            await WebSocketConnection.refuse(stream, leftover, CloseCode.RESTART, "restarting")
            return
        connection = WebSocketConnection(
            stream,
            leftover,
            limits=channel.row.limits,
            random_counter=self._new_counter(),
            deflate=deflate,
        )
        sink = WebSocketSink(
            connection,
            lambda position: self._confirmed(channel, position),
            buffers=self._buffers,
            deflater=self._deflater,
        )
        self._attach(key, channel, connection, sink)
        offered_bytes = channel.limits().bytes_max  # what this socket's client may refuse
        try:
            reason = await connection.run()
        finally:
            del self._open[connection]
            if channel.sink is sink:
                detach(channel, self._queue)
        await self._after(application, channel, reason, offered_bytes)

    def connection_of(self, channel: ActiveChannel) -> WebSocketConnection | None:
        """The socket bound to a channel now."""
        sink = channel.sink
        return sink.connection if isinstance(sink, WebSocketSink) else None

    def end(self, channel: ActiveChannel, code: CloseCode, text: str) -> None:
        """Close the socket of a channel, if it has one, and let the channel go at once."""
        connection = self.connection_of(channel)
        if connection is not None:
            detach(channel, self._queue)
            self._nursery.start_soon(connection.close, code, text)

    def revoke(self, keys: Iterable[AccessKey]) -> None:
        """Close the sockets that were opened with these keys."""
        gone = {key.id for key in keys}
        for key, channel in tuple(self._open.values()):
            if key.id in gone:
                self.end(channel, CloseCode.POLICY, "access key revoked")

    async def stop(self, confirm_s: float) -> None:
        """Close every socket with 1012; new ones are answered the same.

        Nothing more is sent, and what was sent has ``confirm_s`` to be confirmed: a client
        need not answer a ping that comes together with a Close frame, and would get all that
        again from the next run.
        """
        self._is_stopping = True
        with trio.move_on_after(confirm_s + 2 * limits.WEBSOCKET_CLOSE_WAIT_S):
            async with trio.open_nursery() as nursery:
                for connection, (_, channel) in tuple(self._open.items()):
                    nursery.start_soon(self._stop_one, connection, channel, confirm_s)

    async def _stop_one(
        self, connection: WebSocketConnection, channel: ActiveChannel, confirm_s: float
    ) -> None:
        sink = channel.sink
        if isinstance(sink, WebSocketSink) and sink.connection is connection:
            channel.sink = None  # its task begins no other batch
            with trio.move_on_after(confirm_s), suppress(SinkClosed):
                await sink.drained()
            detach(channel, self._queue)
        await connection.close(CloseCode.RESTART, "restarting")

    def _attach(
        self,
        key: AccessKey,
        channel: ActiveChannel,
        connection: WebSocketConnection,
        sink: WebSocketSink,
    ) -> None:
        self.end(channel, CloseCode.GOING_AWAY, "replaced by a newer socket")
        self._supervisor.stop(channel)
        self._open[connection] = (key, channel)
        channel.sink = sink
        channel.sent = None
        channel.disconnected_since_s = None
        log(
            logging.INFO,
            LogEvent.SOCKET_OPENED,
            channel=channel.row.id,
            compression="none" if connection.deflate is None else "permessage-deflate",
        )
        self._supervisor.wake(channel)

    def _confirmed(self, channel: ActiveChannel, position: Position) -> None:
        confirm(channel, self._queue, position)

    async def _after(
        self,
        application: Application,
        channel: ActiveChannel,
        reason: CloseReason,
        offered_bytes: int,
    ) -> None:
        """What the way a socket ended teaches."""
        log(
            logging.INFO,
            LogEvent.SOCKET_CLOSED,
            channel=channel.row.id,
            code=reason.code,
            by=reason.by,
            reason=reason.text,
        )
        if channel.is_gone:
            return
        if reason.is_too_big:
            await self._registrations.learn_batch_bytes(channel, offered_bytes)
        elif reason.is_ack_timeout:
            channel.size = after_refused_size(channel.size, channel.size.limit_bytes)
        if reason.is_client_close and channel.row.limits.delete_channel_on_client_close:
            await self._registrations.delete(application, ChannelType.WEB_SOCKET)
