"""Where a dispatcher is, and how the command line's clients reach it."""

from __future__ import annotations

import os
import socket
import ssl
from urllib.parse import urlsplit

import msgspec
import trio

from dispatcher import limits
from dispatcher.errors import ServerUnreachable

_PORTS = {"http": 80, "https": 443}


class ServerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of a dispatcher's HTTP side, and the path a proxy may have put before it."""

    is_tls: bool
    host: str  # a name or an address, without brackets
    port: int
    prefix: str = ""  # without a slash at the end

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host_header}{self.prefix}"

    @property
    def host_header(self) -> str:
        """The value of ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


def parse_server_address(url: str) -> ServerAddress:
    """The address in ``http://HOST:PORT`` or ``https://HOST:PORT``.

    Raises ``ValueError`` that says what is wanted, without repeating the text: a key may
    have slipped into it.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("want http://HOST:PORT or https://HOST:PORT")
    if "@" in parts.netloc:
        raise ValueError("want no user or password in it; the key has an option of its own")
    return ServerAddress(
        is_tls=parts.scheme == "https",
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        prefix=parts.path.rstrip("/"),
    )


async def open_stream(address: ServerAddress) -> trio.abc.Stream:
    """Connect, with TLS where the address says so; the caller closes the stream.

    Raises ``ServerUnreachable`` after at most ``limits.CLIENT_CONNECT_S``.
    """
    try:
        with trio.fail_after(limits.CLIENT_CONNECT_S):
            transport = await trio.open_tcp_stream(address.host, address.port)
            _keep_alive(transport)
            return await _with_tls(transport, address) if address.is_tls else transport
    except trio.TooSlowError:
        raise _unreachable(address, f"no connection within {limits.CLIENT_CONNECT_S:g} s") from None
    except OSError as error:
        raise _unreachable(address, _os_reason(error)) from error


async def _with_tls(
    transport: trio.SocketStream, address: ServerAddress
) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(
        transport,
        ssl.create_default_context(),
        server_hostname=address.host,
        https_compatible=True,
    )
    try:
        await stream.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError) as error:
        await trio.aclose_forcefully(stream)
        raise _unreachable(address, _tls_reason(error.__cause__ or error)) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _keep_alive(stream: trio.SocketStream) -> None:
    """Let the kernel find out about a server that vanished without a word."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # not everywhere
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.TCP_KEEP_ALIVE_IDLE_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.TCP_KEEP_ALIVE_INTERVAL_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.TCP_KEEP_ALIVE_PROBES)


def _unreachable(address: ServerAddress, reason: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"cannot reach the dispatcher at {address}: {reason}; does it run there? "
        "--url or DISPATCHER_URL says where it is"
    )


def _os_reason(error: OSError) -> str:
    # Trio joins the failures of several addresses into one OSError whose cause has them.
    causes = getattr(error.__cause__, "exceptions", ())
    first = next((cause for cause in causes if isinstance(cause, OSError)), error)
    if isinstance(first, socket.gaierror) or first.errno is None:
        return (first.strerror or str(first)).lower()
    return os.strerror(first.errno).lower()


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}; SSL_CERT_FILE names other roots)"
    return "no TLS there; is it http:// and not https://?"
