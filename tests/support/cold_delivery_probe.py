"""Delivers a queue that lies on the disk to a real receiver, and times what others had to wait for.

    python -m support.cold_delivery_probe FOLDER callback|websocket EVENTS PADDING [waiting]

``waiting``: batches go out of memory again before they are sent, as if they waited for a slow receiver.
Prints one JSON object: see ``Measured``.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from functools import partial
from io import BufferedReader
from pathlib import Path

import msgspec
import trio
from dispatcher.queue._core import lib
from support.loop_steps import LoopSteps
from support.memory_probe import put
from support.stored_records import Item, notifications, records_of
from support.websocket_pairs import COUNTER
from support.ws_test_server import channel_limits

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback import CallbackSends, CallbackSink
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import Sink
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.model import Form, Kind, Overflow, Position, SliceLimits
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import QueueOptions, Route
from dispatcher.queue.native import NativeQueue

MEMORY_BYTES = 64 << 20
BATCH = SliceLimits(events_max=10_000, bytes_max=1_000_000)
FORM = Form(mixed_kinds=True, include_uid=True, include_timestamp=True)
REQUEST_EVENTS = 1_000


class Measured(msgspec.Struct):
    """What the probe saw.  Steps are in the Trio thread's own time, of the tasks that send."""

    received_bytes: int = 0
    cold_bytes: int = 0  # in the scratch file when the delivery began
    steps: int = 0
    longest_step_cpu_s: float = 0.0
    mean_step_cpu_s: float = 0.0


class Receiver:
    """A socket in a thread of its own, which takes and acknowledges everything."""

    def __init__(self, kind: str) -> None:
        self._take = _take_request if kind == "callback" else _take_frame
        self.received_bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> None:
        """Return when the connection has ended."""
        self._thread.join()

    def _run(self) -> None:
        taken, _ = self._listener.accept()
        with self._listener, taken, taken.makefile("rb", buffering=1 << 20) as stream:
            while (count := self._take(stream, taken)) is not None:
                self.received_bytes += count


def _take_request(stream: BufferedReader, taken: socket.socket) -> int | None:
    length = None
    while (line := stream.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    if length is None:
        return None
    count = len(stream.read(length))
    taken.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    return count


def _take_frame(stream: BufferedReader, taken: socket.socket) -> int | None:
    head = stream.read(2)
    if len(head) < 2:
        return None
    length = head[1]
    if length > 125:
        length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
    payload = stream.read(length)
    if head[0] & 0x0F == 9:
        taken.sendall(bytes([0x8A, 0x80 | length, 0, 0, 0, 0]) + payload)
        return 0
    return len(payload)


async def measure(
    folder: Path, kind: str, events: int, padding: int, *, is_waiting: bool = False
) -> Measured:
    """Run the probe."""
    queue = NativeQueue(1, MEMORY_BYTES)
    queue.keep_cold_in(folder, Disk(), 0)
    assert queue.residency is not None
    queue.open_channel(1, QueueOptions(incarnation=1, owner=1, queue_bytes=1 << 40, overflow=Overflow.REJECT))
    measured = Measured()
    receiver = Receiver(kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.residency.run)
        for first in range(0, events, REQUEST_EVENTS):
            await put(queue, records_of(mixed(first, padding)), [Route(1)])
        measured.cold_bytes = queue.totals().scratch_bytes
        open_sink = open_callback if kind == "callback" else open_websocket
        sink = await open_sink(nursery, receiver.port)
        steps = LoopSteps()
        trio.lowlevel.add_instrument(steps)
        await trio.lowlevel.checkpoint()
        await deliver(queue, sink, is_waiting=is_waiting)
        await sink.drained()
        trio.lowlevel.remove_instrument(steps)
        measured.steps, measured.mean_step_cpu_s = steps.count, steps.mean_cpu_s
        measured.longest_step_cpu_s = steps.longest_cpu_s
        await sink.aclose()
        nursery.cancel_scope.cancel()
    receiver.wait()
    measured.received_bytes = receiver.received_bytes
    await trio.lowlevel.checkpoint()
    queue.close()
    return measured


def mixed(first: int, padding: int) -> list[Item]:
    """A request's events, of two kinds and a hundred devices."""
    items = notifications(REQUEST_EVENTS, padding=padding, first=first)
    return [
        Item(
            Kind.NOTIFICATION if item.number % 8 else Kind.REG_UPDATE,
            f"d{item.number % 101}",
            item.number,
            item.padding,
        )
        for item in items
    ]


async def deliver(queue: NativeQueue, sink: Sink, *, is_waiting: bool) -> None:
    """Everything, a batch after the other, as a channel's task does."""
    assert queue.residency is not None
    sent: Position | None = None
    while (batch := await queue.slice(1, sent, BATCH, FORM)) is not None:
        if is_waiting:
            lib.nd_residency_drop_copies(queue.residency._raw, MEMORY_BYTES)
        await sink.send(batch)
        sent = batch.last
        queue.settle(1, sent)


async def open_callback(nursery: trio.Nursery, port: int) -> Sink:
    """A sink that sends requests to the port."""
    return CallbackSink(
        parse_callback(f"http://127.0.0.1:{port}/", {}),
        dialer=Dialer(AddressPolicy(allow_private=True), client_context()),
        timeout_s=60.0,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=lambda: 0.0,
    )


async def open_websocket(nursery: trio.Nursery, port: int) -> Sink:
    """A sink whose connection is upgraded already."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    connection = WebSocketConnection(stream, b"", limits=channel_limits(), random_counter=COUNTER)
    nursery.start_soon(connection.run)
    return WebSocketSink(connection, lambda position: None, buffers=SendBuffers())


if __name__ == "__main__":
    folder, kind, events, padding, *rest = sys.argv[1:]
    is_waiting = rest == ["waiting"]
    result = trio.run(partial(measure, Path(folder), kind, int(events), int(padding), is_waiting=is_waiting))
    print(json.dumps(msgspec.to_builtins(result)))
