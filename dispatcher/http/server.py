"""Accepts connections, serves them, and ends them gracefully.

Three nurseries: the listeners' ends first, the connections' when the last has ended
or the grace time is over, then the timekeeper's.  Nothing outlives ``Server.serve`` (INV-7).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import msgspec
import trio

from dispatcher import limits
from dispatcher.errors import ConfigError
from dispatcher.http.connection import serve_connection
from dispatcher.http.door import NO_FILES, Door
from dispatcher.http.message import Handle
from dispatcher.http.service import Service
from dispatcher.observe.log import LogEvent, log_failure

Stream = trio.abc.Stream
Listener = trio.abc.Listener[Stream]


class ServerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A server, at a moment.  Totals count from its start."""

    connections_open: int
    connections_total: int
    connections_failed_total: int  # by a bug of ours
    handshakes_failed_total: int  # TLS
    requests_running: int
    requests_total: int
    requests_refused_total: int  # malformed, too large or too slow; no handler saw them
    requests_failed_total: int  # by a bug of ours
    upgrades_open: int
    streams_open: int
    body_bytes_held: int


class Server:
    """One HTTP server on any number of listeners; serves once."""

    def __init__(
        self,
        handle: Handle,
        *,
        grace_s: float,
        connections_max: int = limits.CONNECTIONS_MAX,
        service: Service | None = None,
        door: Door | None = None,
    ) -> None:
        self._service = Service(handle) if service is None else service
        self._grace_s = grace_s
        self._door = Door() if door is None else door
        self._slots = trio.Semaphore(connections_max)
        self._accepting = trio.CancelScope()
        self._ended = trio.Event()
        self._connections: trio.Nursery | None = None

    def __repr__(self) -> str:
        traffic = self._service.traffic
        return f"<Server {traffic.connections_open} connections, {traffic.requests_running} requests running>"

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained; closes the listeners.  ``task_status`` is told this server.

        Cancellation: everything ends at once, requests in progress are cut off.
        """
        try:
            async with trio.open_nursery() as services:
                services.start_soon(self._service.timekeeper.run)
                async with trio.open_nursery() as connections:
                    self._connections = connections
                    with self._accepting:
                        task_status.started(self)
                        gates = [_Gate(listener, self._slots, self._door) for listener in listeners]
                        await trio.serve_listeners(self._serve_stream, gates, handler_nursery=connections)
                services.cancel_scope.cancel()
        finally:
            self._connections = None
            self._ended.set()

    def begin_drain(self) -> None:
        """Stop accepting; idle connections end in a moment, others after their answer.

        An upgraded connection, and a stream of events, end when their owners end them.  What is left after
        ``grace_s`` is cancelled.
        """
        if self._service.timekeeper.is_draining:
            return
        self._accepting.cancel()
        self._service.timekeeper.drain()
        if self._connections is not None:
            self._connections.cancel_scope.deadline = trio.current_time() + self._grace_s

    async def drain(self) -> None:
        """``begin_drain``, then wait until no connection is left.  Only for a server that serves."""
        self.begin_drain()
        await self._ended.wait()

    def statistics(self) -> ServerStatistics:
        """What is going on now."""
        traffic = self._service.traffic
        return ServerStatistics(
            connections_open=traffic.connections_open,
            connections_total=traffic.connections,
            connections_failed_total=traffic.connections_failed,
            handshakes_failed_total=traffic.handshakes_failed,
            requests_running=traffic.requests_running,
            requests_total=traffic.requests,
            requests_refused_total=traffic.requests_refused,
            requests_failed_total=traffic.requests_failed,
            upgrades_open=traffic.upgrades_open,
            streams_open=traffic.streams_open,
            body_bytes_held=self._service.bodies.bytes_held,
        )

    async def _serve_stream(self, stream: Stream) -> None:
        """Serve one connection.  Its exceptions end it alone; its slot is free afterwards."""
        traffic = self._service.traffic
        traffic.connections += 1
        traffic.connections_open += 1
        try:
            with self._door.passing(stream) as may_enter:
                if may_enter and await self._is_secured(stream):
                    await serve_connection(stream, self._service)
        except* Exception as error:  # also out of a group that holds a cancellation, which flies on
            traffic.connections_failed += 1
            log_failure(LogEvent.CONNECTION_FAILED, error)
        finally:
            traffic.connections_open -= 1
            self._slots.release()

    async def _is_secured(self, stream: Stream) -> bool:
        """Shake hands over TLS; false when the peer fails to, which is its own affair."""
        if not isinstance(stream, trio.SSLStream):
            return True
        with trio.move_on_after(limits.TLS_HANDSHAKE_TIMEOUT_S):
            try:
                await stream.do_handshake()
                return True
            except trio.BrokenResourceError:
                pass
        self._service.traffic.handshakes_failed += 1
        return False


async def serve(
    listeners: Sequence[Listener],
    handle: Handle,
    *,
    grace_s: float,
    connections_max: int = limits.CONNECTIONS_MAX,
    door: Door | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``handle`` on ``listeners`` until drained: ``server = await nursery.start(serve, ...)``."""
    server = Server(handle, grace_s=grace_s, connections_max=connections_max, door=door)
    await server.serve(listeners, task_status=task_status)


async def open_listeners(
    host: str,
    port: int,
    *,
    backlog: int = limits.LISTEN_BACKLOG,
    tls: ssl.SSLContext | None = None,
) -> list[Listener]:
    """Listen on an address; port 0 picks a free one.  With ``tls``, for https.

    Raises ``ConfigError`` that names ``server.listen`` when the address cannot be had.
    """
    try:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"server.listen: cannot listen on {host}:{port}: {reason}; choose another address"
        ) from None
    return secured(listeners, tls)


def secured(listeners: Sequence[trio.SocketListener], tls: ssl.SSLContext | None) -> list[Listener]:
    """The listeners, for https where ``tls`` is given."""
    if tls is None:
        return list(listeners)
    # https_compatible: browsers and proxies end TLS without a closing handshake.
    return [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]


class _Gate(trio.abc.Listener[Stream]):
    """Accepts when a slot is free; until then clients wait in the listen queue."""

    def __init__(self, listener: Listener, slots: trio.Semaphore, door: Door) -> None:
        self._listener = listener
        self._slots = slots
        self._door = door

    async def accept(self) -> Stream:
        """Take a slot, then a connection, whose end gives the slot back."""
        if not self._slots.value:
            self._door.is_full()
        await self._slots.acquire()
        try:
            while True:
                try:
                    return await self._listener.accept()
                except OSError as error:
                    if error.errno not in NO_FILES:
                        raise
                    self._door.no_files(error)
                    await trio.sleep(limits.ACCEPT_PAUSE_S)  # the client waits on; others end meanwhile
        except BaseException:
            self._slots.release()
            raise

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()
