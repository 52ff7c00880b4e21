"""The physical limit beside which every rate is put: bytes through loopback TCP.

One process sends, one receives, each on its core.  The sender's calls are of 1.5 MB
and the receiver's of 256 KiB, which stay in its cache: the interpreter's share is
lost in the noise, so this is what C reaches too.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import trio

from .process import LOAD_CORE, SERVER_CORE, pinned

_SEND_BYTES = 1_500_000
_RECEIVE_BYTES = 256 * 1024
PUSH_BYTES = 100 * _SEND_BYTES
_PUSHES = 9
_TIMEOUT_S = 30.0


class Loopback:
    """A connection to a process that takes everything; made by ``open_loopback``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._block = bytes(_SEND_BYTES)

    def push(self) -> None:
        """Send ``PUSH_BYTES`` with blocking calls, and wait until the other side has them."""
        self._connection.settimeout(_TIMEOUT_S)
        for _ in range(PUSH_BYTES // _SEND_BYTES):
            self._connection.sendall(self._block)
        self._connection.recv(1)

    def push_with_trio(self) -> None:
        """The same with ``send_all`` of a Trio stream: the limit of a server written on Trio."""
        trio.run(self.push_all)

    async def push_all(self) -> None:
        """``push_with_trio`` of a program that runs on Trio already."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._connection.dup()))
        async with stream:
            for _ in range(PUSH_BYTES // _SEND_BYTES):
                await stream.send_all(self._block)
            await stream.receive_some(1)


@contextmanager
def open_loopback() -> Iterator[Loopback]:
    """Connect to a receiver on ``LOAD_CORE``.  Whoever pushes sees to it that he is on ``SERVER_CORE``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT_S)
        port = listener.getsockname()[1]
        receiver = multiprocessing.get_context("fork").Process(target=_receive, args=(port,))
        with pinned(LOAD_CORE):
            receiver.start()
        try:
            connection, _ = listener.accept()
            with connection:
                yield Loopback(connection)
        finally:
            receiver.join(_TIMEOUT_S)


def loopback_bytes_per_s() -> float:
    """The median of some pushes; takes about half a second."""
    rates = []
    with open_loopback() as loopback, pinned(SERVER_CORE):
        loopback.push()
        for _ in range(_PUSHES):
            started_s = time.perf_counter()
            loopback.push()
            rates.append(PUSH_BYTES / (time.perf_counter() - started_s))
    return median(rates)


def _receive(port: int) -> None:
    """Take bytes until the sender closes; a byte goes back for each push."""
    buffer = bytearray(_RECEIVE_BYTES)
    missing = PUSH_BYTES
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
        while received := connection.recv_into(buffer, min(missing, _RECEIVE_BYTES)):
            missing -= received
            if not missing:
                connection.send(b"!")
                missing = PUSH_BYTES
