"""Whether the peer's TCP has every byte of an answer.

A long poll's answer counts as received only then.  Sending tells nothing: the bytes
may still lie in our kernel when the client is gone.
"""

from __future__ import annotations

import fcntl
import socket
import termios

import trio


class TcpReceipt:
    """Follows one answer from its sending to the end of its connection.

    Put into a ``Response`` by a handler, which keeps it and asks later.
    """

    __slots__ = ("_outcome", "_socket")

    def __init__(self) -> None:
        self._socket: trio.socket.SocketType | None = None
        self._outcome = False

    def is_acknowledged(self) -> bool:
        """Whether all bytes were TCP-acknowledged and no reset came.

        May turn from false to true as acknowledgements come in.  Says what was known
        last once the connection has ended; false while the answer is still being sent.
        """
        if self._socket is not None:
            self._look(self._socket)
        return self._outcome

    def sent(self, stream: trio.abc.Stream) -> None:
        """Called by the connection when it has handed all bytes to the stream."""
        self._socket = socket_of(stream)
        self._outcome = self._socket is None  # a stream in memory: handed over is received

    def end(self, *, is_reset: bool) -> None:
        """Called by the connection before it sends another answer or closes its socket."""
        self._outcome = self.is_acknowledged() and not is_reset
        self._socket = None

    def _look(self, sock: trio.socket.SocketType) -> None:
        try:
            # Reading SO_ERROR clears it, so the first error seen is the last word.
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
                self._socket, self._outcome = None, False
                return
            unacknowledged = bytearray(4)
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unacknowledged)  # SIOCOUTQ; a FIN counts as one
            self._outcome = not any(unacknowledged)
        except OSError:
            self._socket, self._outcome = None, False


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket under a stream, below TLS too; None for a stream in memory."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None
