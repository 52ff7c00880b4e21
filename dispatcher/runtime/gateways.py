"""Every open socket of a gateway, and which of them a device's requests go down.

A gateway may have several sockets.  A device's requests go to the one that last told of the
device, or else to the newest of its key; when a socket ends, what was in flight on
it goes to another, or waits for the next.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import TierSettings
from dispatcher.core.request_book import DeviceKey, RequestBook
from dispatcher.deliver.gateway_connection import GatewayConnection, Unfinished
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket_connection import CloseReason
from dispatcher.errors import CloseCode, TooManyRequests
from dispatcher.model import AccessKey, Account, DeviceChange, DeviceRequest, Kind
from dispatcher.observe.log import LogEvent, log
from dispatcher.runtime.directory import Directory
from dispatcher.wire.gateway_messages import render_hints, render_requests


class GatewaySocket(msgspec.Struct, eq=False):
    """One open socket."""

    number: int
    key: AccessKey
    connection: GatewayConnection
    ready: dict[DeviceKey, None]  # devices that a request may be sent to, first come first
    wakeup: trio.Event


Converse = Callable[[GatewaySocket, trio.Nursery], Awaitable[CloseReason]]
"""Runs a socket's connection: takes what comes up, each message in a task of the nursery, and answers it."""


class Gateways:
    """The sockets of all accounts."""

    def __init__(
        self,
        *,
        directory: Directory,
        tiers: Mapping[str, TierSettings],
        book: RequestBook,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._tiers = tiers
        self._book = book
        self._now_unix_ms = now_unix_ms
        self._opened = 0
        self._sockets: dict[int, GatewaySocket] = {}  # by number, oldest first
        self._by_account: dict[int, set[int]] = {}
        self._by_key: dict[str, dict[int, GatewaySocket]] = {}  # oldest first
        # By which socket a device was last told of, and the version of the pre-subscriptions then.
        self._told_of: OrderedDict[DeviceKey, tuple[int, int]] = OrderedDict()
        self.unfinished = Unfinished()  # messages, of all sockets
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<Gateways {len(self._sockets)} sockets>"

    def open_sockets(self, account_id: int) -> int:
        """How many sockets an account's gateways have open."""
        return len(self._by_account.get(account_id, ()))

    def check_room(self, account: Account) -> None:
        """Raise ``TooManyRequests`` when the account has all the sockets it may have.

        Raises ``ConfigError`` when its tier is unknown: after the handshake it is too late to say so.
        """
        self._directory.tier_of(account, self._tiers)
        if self.open_sockets(account.id) >= limits.GATEWAY_SOCKETS_PER_ACCOUNT_MAX:
            raise TooManyRequests(
                f"gateways of this account have {limits.GATEWAY_SOCKETS_PER_ACCOUNT_MAX} sockets open; "
                "close some first",
                retry_after_s=limits.GATEWAY_RETRY_S,
            )

    async def serve(
        self,
        key: AccessKey,
        account: Account,
        stream: trio.abc.Stream,
        leftover: bytes,
        converse: Converse,
    ) -> None:
        """Serve one socket from the end of its handshake to its end."""
        tier = self._directory.tier_of(account, self._tiers)
        connection = GatewayConnection(
            stream,
            leftover,
            ping_interval_s=tier.ping_interval_s,
            pong_timeout_s=tier.pong_timeout_s,
            unfinished=self.unfinished,
        )
        if self._is_stopping:
            connection.close_soon(CloseCode.RESTART, "restarting")
        elif not self._directory.keys.holds(key):  # revoked during the handshake
            connection.close_soon(CloseCode.POLICY, "access key revoked")
        socket = self._open(key, account, connection)
        async with trio.open_nursery() as messages:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_requests, socket)
                    reason = await converse(socket, messages)
                    nursery.cancel_scope.cancel()
            finally:
                self._close(socket, account)
            messages.cancel_scope.deadline = trio.current_time() + limits.GATEWAY_FINISH_S
        log(
            logging.INFO,
            LogEvent.GATEWAY_DISCONNECTED,
            key=key.id,
            code=reason.code,
            by=reason.by,
            reason=reason.text,
        )

    def heard(
        self, socket: GatewaySocket, changes: Sequence[DeviceChange], presubscriptions_version: int
    ) -> list[str]:
        """A socket told of devices: their requests go there from now on.

        Returns those that it may not know what to observe of: they registered, it tells of them for
        the first time, or the pre-subscriptions have changed since.
        """
        assert socket.key.account_id is not None
        news: list[str] = []
        told = (socket.number, presubscriptions_version)
        for change in changes:
            key = (socket.key.account_id, change.ep)
            if change.kind is Kind.REGISTRATION or (change.told and self._told_of.get(key) != told):
                news.append(change.ep)
            self._told_of[key] = told
            self._told_of.move_to_end(key)
            if len(self._told_of) > limits.DEVICE_SOCKETS_REMEMBERED_MAX:
                self._told_of.popitem(last=False)
        return news

    def socket_for(self, key: DeviceKey, gateway_id: str | None) -> GatewaySocket | None:
        """The socket for a device of this gateway, or None when it has none open."""
        sockets = self._by_key.get(gateway_id or "")
        if not sockets:
            return None
        number, _ = self._told_of.get(key, (0, 0))
        return sockets.get(number) or sockets[next(reversed(sockets))]

    def wake(self, key: DeviceKey, gateway_id: str | None) -> None:
        """A request may be sent to a device of this gateway, if it has a socket.  Never blocks."""
        socket = self.socket_for(key, gateway_id)
        if socket is not None:
            socket.ready[key] = None
            socket.wakeup.set()

    @staticmethod
    async def hint(socket: GatewaySocket, ep: str, paths: Sequence[str], *, observe: bool) -> None:
        """Say what to observe of a device, or no longer; lost when the socket ends.

        Waits as long as the gateway does not read, ``limits.GATEWAY_WRITE_STALL_S`` at most; a caller
        that is cancelled does not break the socket.
        """
        if paths:
            with trio.CancelScope(shield=True), suppress(SinkClosed):
                await socket.connection.send(render_hints(ep, paths, observe=observe))

    def revoke(self, keys: Iterable[AccessKey]) -> None:
        """Close the sockets that were opened with these keys."""
        for key in keys:
            for socket in self._by_key.get(key.id, {}).values():
                socket.connection.close_soon(CloseCode.POLICY, "access key revoked")

    async def stop(self) -> None:
        """Close every socket with 1012; new ones are answered the same."""
        self._is_stopping = True
        with trio.move_on_after(2 * limits.WEBSOCKET_CLOSE_WAIT_S):
            async with trio.open_nursery() as nursery:
                for socket in self._sockets.values():
                    nursery.start_soon(socket.connection.close, CloseCode.RESTART, "restarting")

    def _open(self, key: AccessKey, account: Account, connection: GatewayConnection) -> GatewaySocket:
        self._opened += 1
        socket = GatewaySocket(self._opened, key, connection, {}, trio.Event())
        self._sockets[socket.number] = socket
        self._by_account.setdefault(account.id, set()).add(socket.number)
        self._by_key.setdefault(key.id, {})[socket.number] = socket
        log(logging.INFO, LogEvent.GATEWAY_CONNECTED, key=key.id)
        for device in self._book.connected(key.id, socket.number):
            self.wake(device, key.id)
        return socket

    def _close(self, socket: GatewaySocket, account: Account) -> None:
        del self._sockets[socket.number]
        self._by_account[account.id].remove(socket.number)
        if not self._by_account[account.id]:
            del self._by_account[account.id]
        sockets = self._by_key[socket.key.id]
        del sockets[socket.number]
        if not sockets:
            del self._by_key[socket.key.id]
        waiting = self._book.disconnected(socket.key.id, socket.number, self._now_unix_ms())
        for device in waiting:
            self.wake(device, socket.key.id)

    async def _send_requests(self, socket: GatewaySocket) -> None:
        """Send what is ready, a few requests in one message, as fast as the gateway reads."""
        while True:
            await socket.wakeup.wait()
            socket.wakeup = trio.Event()
            while requests := self._take(socket):
                try:
                    await socket.connection.send(render_requests(requests))
                except SinkClosed:  # they go again, on another socket
                    return

    def _take(self, socket: GatewaySocket) -> list[DeviceRequest]:
        requests: list[DeviceRequest] = []
        room_bytes = limits.GATEWAY_MESSAGE_BYTES
        while socket.ready:
            key = next(iter(socket.ready))
            room_bytes -= self._book.next_bytes(key)
            if requests and room_bytes < 0:
                break
            del socket.ready[key]
            request = self._book.begin(key, socket.number, self._now_unix_ms())
            if request is not None:
                requests.append(request)
        return requests
