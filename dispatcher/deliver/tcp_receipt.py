"""Whether the peer's TCP has every byte of an answer.

A long poll's answer counts as received only then.  Sending tells nothing: the bytes
may still lie in our kernel when the client is gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from dispatcher.deliver.tcp_progress import bytes_unacked, transport_socket


def _nobody() -> None:
    """Nobody wants to know."""


class TcpReceipt:
    """Follows one answer from its sending to the end of its connection.

    Put into a response by whoever makes the answer, who keeps it and asks later.
    ``on_sent`` is called once: when the answer's bytes are held here no longer, because
    the stream has taken them or never will.
    """

    __slots__ = ("_on_sent", "_outcome", "_socket", "is_open")

    def __init__(self, on_sent: Callable[[], None] = _nobody) -> None:
        self._on_sent = on_sent
        self._socket: trio.socket.SocketType | None = None
        self._outcome = False
        self.is_open = True  # what ``is_acknowledged`` says can still turn from false to true

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
        self._socket = transport_socket(stream)
        self._outcome = self._socket is None  # a stream in memory: handed over is received
        self._let_go()

    def end(self, *, is_reset: bool) -> None:
        """Called by the connection before it sends another answer or closes its socket."""
        self._outcome = self.is_acknowledged() and not is_reset
        self._close()
        self._let_go()

    def _let_go(self) -> None:
        on_sent, self._on_sent = self._on_sent, _nobody
        on_sent()

    def _look(self, sock: trio.socket.SocketType) -> None:
        try:
            # Reading SO_ERROR clears it, so the first error seen is the last word.
            is_broken = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except OSError:
            is_broken = True
        unacknowledged = None if is_broken else bytes_unacked(sock)  # a FIN counts as one
        self._outcome = unacknowledged == 0
        if unacknowledged is None:
            self._close()

    def _close(self) -> None:
        self._socket = None
        self.is_open = False
