"""Every open socket of a gateway."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import TierSettings
from dispatcher.deliver.gateway_connection import GatewayConnection, Unfinished
from dispatcher.deliver.websocket_connection import CloseReason
from dispatcher.errors import CloseCode, TooManyRequests
from dispatcher.model import AccessKey, Account
from dispatcher.observe.log import LogEvent, log
from dispatcher.runtime.directory import Directory

Converse = Callable[[GatewayConnection], Awaitable[CloseReason]]
"""Runs a connection: takes what comes up, and answers it."""


class _Socket(msgspec.Struct, eq=False):
    """One open socket."""

    key: AccessKey
    connection: GatewayConnection


class Gateways:
    """A gateway may have several sockets: each key's are independent of one another."""

    def __init__(self, *, directory: Directory, tiers: Mapping[str, TierSettings]) -> None:
        self._directory = directory
        self._tiers = tiers
        self._open: dict[int, set[_Socket]] = {}  # by account
        self.unfinished = Unfinished()  # messages, of all sockets
        self._is_stopping = False

    def open_sockets(self, account_id: int) -> int:
        """How many sockets an account's gateways have open."""
        return len(self._open.get(account_id, ()))

    def check_room(self, account: Account) -> None:
        """Raise ``TooManyRequests`` when the account has all the sockets it may have."""
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
        socket = _Socket(key, connection)
        self._open.setdefault(account.id, set()).add(socket)
        log(logging.INFO, LogEvent.GATEWAY_CONNECTED, key=key.id)
        try:
            reason = await converse(connection)
        finally:
            self._open[account.id].remove(socket)
            if not self._open[account.id]:
                del self._open[account.id]
        log(
            logging.INFO,
            LogEvent.GATEWAY_DISCONNECTED,
            key=key.id,
            code=reason.code,
            by=reason.by,
            reason=reason.text,
        )

    def revoke(self, keys: Iterable[AccessKey]) -> None:
        """Close the sockets that were opened with these keys."""
        gone = {key.id for key in keys}
        for socket in self._sockets():
            if socket.key.id in gone:
                socket.connection.close_soon(CloseCode.POLICY, "access key revoked")

    async def stop(self) -> None:
        """Close every socket with 1012; new ones are answered the same."""
        self._is_stopping = True
        with trio.move_on_after(2 * limits.WEBSOCKET_CLOSE_WAIT_S):
            async with trio.open_nursery() as nursery:
                for socket in self._sockets():
                    nursery.start_soon(socket.connection.close, CloseCode.RESTART, "restarting")

    def _sockets(self) -> list[_Socket]:
        return [socket for sockets in self._open.values() for socket in sockets]
