"""The way to receivers through the operator's HTTP proxy.

Both http and https callbacks go through a tunnel (CONNECT), and the proxy is told a
number: an address that the dialer has resolved and judged.  So the guard is whole with
a proxy as without one, whatever the proxy itself would have let through, and it never
sees a header or an event of an https callback.  The proxy's own address is the
operator's word and is not judged.
"""

from __future__ import annotations

import base64

import h11
import msgspec
import trio

from dispatcher import limits
from dispatcher.core.addresses import is_address
from dispatcher.deliver.dialer import Connect, Resolve, TunnelFailed, connect_first

_RECEIVE_BYTES = 4 * limits.KIB  # a proxy's answer is a few hundred bytes
_END = h11.EndOfMessage()


class EgressProxy(msgspec.Struct, frozen=True, kw_only=True):
    """Where the proxy is, and what it wants to hear; ``credentials`` are ``USER:PASSWORD`` or nothing."""

    host: str
    port: int
    credentials: str = ""

    def __repr__(self) -> str:
        return f"<EgressProxy {self.host}:{self.port}>"


class ProxyTunnels:
    """Connects through the proxy: a ``Connect`` made of another one."""

    def __init__(self, proxy: EgressProxy, *, resolve: Resolve, connect: Connect) -> None:
        self._proxy = proxy
        self._resolve = resolve
        self._connect = connect

    def __repr__(self) -> str:
        return f"<ProxyTunnels {self._proxy}>"

    async def __call__(self, address: str, port: int) -> trio.abc.Stream:
        """A tunnel to a numeric address; what is sent and received are its bytes alone.

        Raises ``TunnelFailed``.  Cancellation leaves no socket.
        """
        stream = await self._reach()
        try:
            await self._open(stream, f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _reach(self) -> trio.abc.Stream:
        host = self._proxy.host
        try:
            found = (host,) if is_address(host) else await self._resolve(host)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise TunnelFailed("its name has no address")
        try:
            return await connect_first(
                self._connect, found[: limits.CALLBACK_ADDRESSES_MAX], self._proxy.port
            )
        except OSError as error:
            raise TunnelFailed("it cannot be reached") from error

    async def _open(self, stream: trio.abc.Stream, authority: str) -> None:
        connection = h11.Connection(
            h11.CLIENT, max_incomplete_event_size=limits.CALLBACK_RESPONSE_HEAD_BYTES_MAX
        )
        request = h11.Request(method="CONNECT", target=authority, headers=self._headers(authority))
        try:
            await stream.send_all((connection.send(request) or b"") + (connection.send(_END) or b""))
            answer = await _answer(stream, connection)
        except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
            raise TunnelFailed("it closed the connection, or does not speak HTTP") from error
        if not isinstance(answer, h11.Response):
            raise TunnelFailed("it did not answer the request")
        if not 200 <= answer.status_code <= 299:
            raise TunnelFailed(f"it answered {answer.status_code}")
        if connection.trailing_data != (b"", False):  # TLS and HTTP both begin with us
            raise TunnelFailed("something came through the tunnel before anything was sent")

    def _headers(self, authority: str) -> list[tuple[str, str]]:
        headers = [("Host", authority)]
        if self._proxy.credentials:
            encoded = base64.b64encode(self._proxy.credentials.encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {encoded}"))
        return headers


async def _answer(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    """The proxy's answer, behind those that only inform."""
    for _ in range(limits.CALLBACK_INFORMATIONAL_MAX + 1):
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        if not isinstance(event, h11.InformationalResponse):
            break
    return event
