"""The client libraries that applications use, unmodified, as peers of our connection.

Each receives numbered events in many small messages, in one message of 10,000
events just under the 1 MiB that some libraries refuse, and in small ones again.
Each also with a program that works long on its first message: aiohttp,
websocket-client and Node ws answer our ping only when the program comes back, which
must cost nothing.  At the end every event was received once and in order, every
one was confirmed, and the library saw the close code 1000.

Node ws and websockets offer permessage-deflate by themselves, aiohttp when it is told
to, and websocket-client never: what is large then comes compressed to those who offered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import pytest
import trio
import trustme
import websocket
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
from support.outgoing_batches import ListedBatch, numbered_batch
from support.ws_test_server import ServedSocket, channel_limits, serve_websockets

from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.deliver.websocket_deflate import Deflater
from dispatcher.model import Position

SUBPROTOCOLS = ["wss", "pelion_ak_test"]
HERE = Path(__file__).parent
NODE_MODULES = Path(os.environ.get("DISPATCHER_TEST_NODE_MODULES", HERE / "node_modules"))
TEN_THOUSAND_EVENTS_BYTES = (
    99  # each: 10,000 of them are 990,000 bytes, as a tier's websocket_batch_bytes allows
)


class Received(msgspec.Struct):
    """What a client's program saw."""

    numbers: list[int]
    code: int | None  # of the close; None: there was none


class SlowStart:
    """The program behind a client: notes the numbers, and works long on its first message."""

    def __init__(self, busy_s: float) -> None:
        self.numbers: list[int] = []
        self._busy_s = busy_s

    def take(self, message: str | bytes) -> float:
        """Return how long the program now works."""
        is_first = not self.numbers
        self.numbers += [int(event["path"][1:]) for event in json.loads(message)["notifications"]]
        return self._busy_s if is_first else 0.0


async def websockets_asyncio(url: str, busy_s: float) -> Received:
    async def client() -> Received:
        program = SlowStart(busy_s)
        async with websockets.asyncio.client.connect(url, subprotocols=SUBPROTOCOLS) as connection:
            async for message in connection:
                await asyncio.sleep(program.take(message))
        return Received(program.numbers, connection.close_code)

    return await trio.to_thread.run_sync(asyncio.run, client())


async def websockets_sync(url: str, busy_s: float) -> Received:
    def client() -> Received:
        program = SlowStart(busy_s)
        with websockets.sync.client.connect(url, subprotocols=SUBPROTOCOLS) as connection:
            for message in connection:
                time.sleep(program.take(message))
        return Received(program.numbers, connection.close_code)

    return await trio.to_thread.run_sync(client)


async def websocket_client(url: str, busy_s: float) -> Received:
    def client() -> Received:
        program = SlowStart(busy_s)
        connection = websocket.create_connection(url, subprotocols=SUBPROTOCOLS, timeout=60)
        while True:
            opcode, data = connection.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return Received(program.numbers, int.from_bytes(data[:2], "big"))
            time.sleep(program.take(data))

    return await trio.to_thread.run_sync(client)


async def aiohttp_client(url: str, busy_s: float) -> Received:
    async def client() -> Received:
        program = SlowStart(busy_s)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=SUBPROTOCOLS, compress=15) as connection,
        ):
            async for message in connection:
                await asyncio.sleep(program.take(message.data))
        return Received(program.numbers, connection.close_code)

    return await trio.to_thread.run_sync(asyncio.run, client())


async def node_ws(url: str, busy_s: float) -> Received:
    done = await trio.run_process(
        ["node", str(HERE / "websocket_client.cjs"), url, str(busy_s)],
        capture_stdout=True,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
    )
    return msgspec.json.decode(done.stdout, type=Received)


Client = Callable[[str, float], object]
HAS_NODE = shutil.which("node") is not None and (NODE_MODULES / "ws").is_dir()
NEEDS_NODE = pytest.mark.skipif(
    not HAS_NODE,
    reason="needs Node and its library ws: run npm install in tests/integration, or name a node_modules "
    "folder in DISPATCHER_TEST_NODE_MODULES",
)
PYTHON_CLIENTS = [websockets_asyncio, websockets_sync, websocket_client, aiohttp_client]
CLIENTS = [*PYTHON_CLIENTS, pytest.param(node_ws, marks=NEEDS_NODE)]


def batches() -> list[ListedBatch]:
    """Events 1 to 12,120: small batches, one of 10,000 events, one of many, small batches."""
    small = [numbered_batch(number, 1) for number in range(1, 101)]
    large = numbered_batch(101, 10_000, record_bytes=TEN_THOUSAND_EVENTS_BYTES - 1)
    middle = numbered_batch(10_101, 2_000)
    last = [numbered_batch(number, 1) for number in range(12_101, 12_121)]
    return [*small, large, middle, *last]


MESSAGES_BYTES = sum(batch.bytes_count for batch in batches())


class Sender:
    """Sends all batches to each socket, sees them confirmed, stays for a while, closes with 1000."""

    def __init__(self, idle_s: float) -> None:
        self.confirmed: list[Position] = []
        self.sockets: list[ServedSocket] = []
        self._idle_s = idle_s

    async def serve(self, socket: ServedSocket) -> None:
        self.sockets.append(socket)
        sink = WebSocketSink(
            socket.connection, self.confirmed.append, deflater=Deflater(10**12, lambda stage, count: None)
        )
        for batch in batches():
            await sink.send(batch)
        await sink.drained()
        await trio.sleep(self._idle_s)
        socket.connection.close_soon(1000, "done")
        await trio.sleep_forever()


def watch_pours(monkeypatch) -> list[int]:
    """The lengths of all that our ends send of batches from now on."""
    sent: list[int] = []
    pour = WebSocketConnection.pour

    async def watched(connection: WebSocketConnection, source, buffer, filled: int, tail: bytes) -> None:
        sent.append(filled)
        await pour(connection, source, buffer, filled, tail)

    monkeypatch.setattr(WebSocketConnection, "pour", watched)
    return sent


def assert_all_arrived(received: Received) -> None:
    assert received.numbers == list(range(1, 12_121))
    assert received.code == 1000


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: getattr(client, "__name__", None))
@pytest.mark.parametrize("busy_s", [0.0, 1.5])
async def test_a_client_library_gets_everything_and_stays_while_its_program_works(
    client, busy_s, monkeypatch
):
    sent = watch_pours(monkeypatch)
    sender = Sender(idle_s=0.6)
    settings = channel_limits(ping_interval_s=0.2, pong_timeout_s=0.5)
    async with serve_websockets(sender.serve, settings, may_deflate=True) as port:
        with trio.fail_after(30):
            received = await client(f"ws://127.0.0.1:{port}/", busy_s)
            await sender.sockets[0].ended.wait()
    assert_all_arrived(received)
    assert sender.confirmed[-1] == Position(1, 12_120)
    assert sender.confirmed == sorted(set(sender.confirmed))
    assert (sender.sockets[0].reason.code, sender.sockets[0].reason.text) == (1000, "done")
    is_offered = client is not websocket_client
    assert (sender.sockets[0].connection.deflate is not None) is is_offered
    assert (sum(sent) < MESSAGES_BYTES / 5) is is_offered


@pytest.mark.slow
async def test_eight_seconds_on_a_message_disconnect_nobody_at_the_default_limits():
    sender = Sender(idle_s=0.0)
    received: dict[str, Received] = {}

    async def run(client: Client, url: str) -> None:
        received[client.__name__] = await client(url, 8.0)

    clients = [*PYTHON_CLIENTS, *([node_ws] if HAS_NODE else [])]
    async with serve_websockets(sender.serve, channel_limits()) as port:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(run, client, f"ws://127.0.0.1:{port}/")
    assert len(received) == len(clients)
    for one in received.values():
        assert_all_arrived(one)


async def test_a_library_that_refuses_large_messages_is_known_by_its_1009():
    sender = Sender(idle_s=0.0)
    client = partial(websockets.asyncio.client.connect, max_size=500_000)

    async def receive(url: str) -> int:
        async with client(url) as connection:
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                while True:
                    await connection.recv()
            return connection.protocol.close_sent.code

    async def serve(socket: ServedSocket) -> None:
        with pytest.raises(SinkClosed):
            await sender.serve(socket)

    async with serve_websockets(serve, channel_limits()) as port:
        with trio.fail_after(20):
            code = await trio.to_thread.run_sync(asyncio.run, receive(f"ws://127.0.0.1:{port}/"))
            await sender.sockets[0].ended.wait()
    assert code == 1009
    assert sender.sockets[0].reason.is_too_big
    assert sender.confirmed[-1] == Position(1, 100)


async def test_over_tls_the_same_arrives():
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def receive(url: str) -> Received:
        program = SlowStart(0.0)
        async with websockets.asyncio.client.connect(url, ssl=client_context) as connection:
            async for message in connection:
                program.take(message)
        return Received(program.numbers, connection.close_code)

    sender = Sender(idle_s=0.0)
    async with serve_websockets(sender.serve, channel_limits(), tls=server_context) as port:
        with trio.fail_after(20):
            url = f"wss://127.0.0.1:{port}/"
            assert_all_arrived(await trio.to_thread.run_sync(asyncio.run, receive(url)))
            await sender.sockets[0].ended.wait()
    assert sender.confirmed[-1] == Position(1, 12_120)
