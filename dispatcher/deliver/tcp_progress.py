"""How much of what was sent the peer's TCP has taken, as its kernel tells ours.

This is progress, not acknowledgement: the peer's kernel has the bytes, its program
may not.  A client that works for a minute on each message sends no pong meanwhile;
that its kernel still takes bytes is the sign that it lives.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

import trio

_BYTES_ACKED_OFFSET = 120  # of tcpi_bytes_acked in struct tcp_info: 8 bytes, 24 u32, 2 u64 before it
_BYTES_ACKED = struct.Struct("=Q")
_INFO_BYTES = _BYTES_ACKED_OFFSET + _BYTES_ACKED.size
_UNACKED = struct.Struct("=i")
_LINGER_ZERO = struct.pack("ii", 1, 0)


def transport_of(stream: trio.abc.AsyncResource) -> trio.abc.AsyncResource:
    """The stream under all layers of TLS."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream


def transport_socket(stream: trio.abc.AsyncResource) -> trio.socket.SocketType | None:
    """The TCP socket that carries a stream, TLS or not; None for a stream without one."""
    transport = transport_of(stream)
    return transport.socket if isinstance(transport, trio.SocketStream) else None


def bytes_acked(sock: trio.socket.SocketType, bytes_written: int = 0) -> int | None:
    """A number that grows when the peer's TCP acknowledges bytes; None when that cannot be known.

    Only differences mean something.  Where the kernel does not count, it is
    ``bytes_written`` (what the caller has handed over so far) less what still waits.
    """
    if sys.platform == "linux":
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return None
        if len(info) >= _INFO_BYTES:
            return int(_BYTES_ACKED.unpack_from(info, _BYTES_ACKED_OFFSET)[0])
    waiting = bytes_unacked(sock)
    return None if waiting is None else bytes_written - waiting


def bytes_unacked(sock: trio.socket.SocketType) -> int | None:
    """Bytes in the send queue that the peer's TCP has not acknowledged; None when unknown (SIOCOUTQ)."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_UNACKED.size))
    except (OSError, ValueError):
        return None
    return int(_UNACKED.unpack(answer)[0])


def reset_on_close(sock: trio.socket.SocketType) -> None:
    """Make the coming close a reset, which throws away what was not sent."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    except OSError:
        return  # it is closed already
