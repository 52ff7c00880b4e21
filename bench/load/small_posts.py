"""Posts single events over many connections, as fast as they are answered: a process of its own.

    python -m bench.load.small_posts CONNECTIONS EVENTS PORT KEY

Each line of its standard input is a round: every connection posts its share, one
request at a time, and a line of JSON says how long that took.  Plain sockets and
epoll, because a client on Trio would cost as much as the server it measures.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..process import LOAD_CORE, ServerProcess, open_server
from .fleet import BodyForm, Fleet
from .generator import EVENTS_PATH, all_queued
from .http_client import parse_reply, request

_RECEIVE_BYTES = 4_096
_PATIENCE_S = 20.0


class Posted(msgspec.Struct, frozen=True):
    """A round, as the poster saw it: the answers are all there, what was posted may still be on its way."""

    requests: int
    took_s: float
    cpu_s: float


def fleet_of(events: int, connections: int) -> Fleet:
    """One lane for each connection, so that a device's events go one after the other."""
    return Fleet(events=events, devices=16 * connections, lanes=connections)


@contextmanager
def open_poster(log: Path, *, connections: int, events: int, port: int, key: str) -> Iterator[ServerProcess]:
    """Start it on the load's core; its port is that of the server it posts to."""
    arguments = map(str, (connections, events, port, key))
    command = [sys.executable, "-m", f"{__package__}.small_posts", *arguments]
    with open_server(command, log, core=LOAD_CORE, statuses=(0, -15)) as poster:
        yield poster


class _Connection:
    """One request at a time."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._received = b""
        self._sent = 0

    def begin(self) -> None:
        """Send the first request of a round."""
        self._sent = 0
        self._send()

    def receive(self) -> bool:
        """Take what has come, and send the next request when it was an answer; false after the last."""
        data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._received += data
        parsed = parse_reply(self._received)
        if parsed is None:
            return True
        reply, self._received = parsed
        all_queued(reply, 1)
        if self._sent == len(self._requests):
            return False
        self._send()
        return True

    def _send(self) -> None:
        self.socket.sendall(self._requests[self._sent])
        self._sent += 1


def post_all(connections: dict[int, _Connection]) -> None:
    """One round."""
    with select.epoll() as ready:
        for number, connection in connections.items():
            ready.register(number, select.EPOLLIN)
            connection.begin()
        busy = len(connections)
        while busy:
            events = ready.poll(_PATIENCE_S)
            if not events:
                raise TimeoutError(f"no answer came for {_PATIENCE_S:g} s")
            for number, _ in events:
                busy -= not connections[number].receive()


def main(lanes: int, events: int, port: int, key: str) -> None:
    """Open the connections, then serve rounds until the input ends."""
    fleet = fleet_of(events, lanes)
    media_type = BodyForm.JSON.media_type
    opened = [
        _Connection(
            port,
            [
                request("POST", EVENTS_PATH, key, body.content, media_type)
                for body in fleet.bodies(lane, BodyForm.JSON, 1)
            ],
        )
        for lane in range(lanes)
    ]
    connections = {connection.socket.fileno(): connection for connection in opened}
    print(f"ready http://127.0.0.1:{port}", flush=True)
    for _ in sys.stdin:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        post_all(connections)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        print(msgspec.json.encode(Posted(events, took_s, cpu_s)).decode(), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
