"""What only kernels do: progress of a slow receiver, resets, a Close frame that a reset overtakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.outgoing_batches import numbered_batch
from support.websocket_pairs import CLOSE, COUNTER, RawClient, client_frame, close_payload
from support.ws_test_server import channel_limits

from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_connection import ClosedBy, CloseReason, WebSocketConnection
from dispatcher.model import ChannelLimits, Position

BATCH_BYTES = 1_000_000
SLOW_READ_BYTES = 25_000


class SocketPair:
    """Both ends of a loopback connection whose client takes little at a time."""

    def __init__(self, connection: WebSocketConnection, client_stream: trio.SocketStream) -> None:
        self.connection = connection
        self.client_stream = client_stream
        self.confirmed: list[Position] = []
        self.sink = WebSocketSink(connection, self.confirmed.append)
        self.reason: CloseReason | None = None
        self.ended = trio.Event()

    async def run(self) -> None:
        self.reason = await self.connection.run()
        self.ended.set()

    async def send_until_closed(self, batches: int) -> None:
        with pytest.raises(SinkClosed):
            await self._send(batches)

    async def _send(self, batches: int) -> None:
        for number in range(batches):
            await self.sink.send(numbered_batch(1 + 10_000 * number, 10_000, record_bytes=98))


@asynccontextmanager
async def socket_pair(limits: ChannelLimits) -> AsyncIterator[SocketPair]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
    client_socket = trio.socket.socket()
    client_socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
    await client_socket.connect(listener.socket.getsockname())
    server_stream = await listener.accept()
    await listener.aclose()
    connection = WebSocketConnection(server_stream, b"", limits=limits, random_counter=COUNTER)
    pair = SocketPair(connection, trio.SocketStream(client_socket))
    async with pair.client_stream, trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        with trio.fail_after(20):
            yield pair
        nursery.cancel_scope.cancel()


class SlowStream(trio.abc.ReceiveStream):
    """Reads a little every 20 ms."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(0.02)
        return await self._stream.receive_some(SLOW_READ_BYTES)

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.slow
async def test_a_receiver_that_takes_longer_than_the_limit_but_goes_on_stays():
    async with socket_pair(channel_limits(ack_timeout_s=0.4)) as pair:
        client = RawClient(trio.StapledStream(pair.client_stream, SlowStream(pair.client_stream)))
        started_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.sink.send, numbered_batch(1, 10_000, record_bytes=198))
            (message,) = await client.next_message()
        await pair.sink.drained()
        assert trio.current_time() - started_s > 1.0
        assert len(message) > BATCH_BYTES
        assert pair.confirmed == [Position(1, 10_000)]
        assert pair.connection.is_open


@pytest.mark.slow
async def test_a_receiver_that_stops_in_a_message_is_reset_without_a_close_frame():
    async with socket_pair(channel_limits(ack_timeout_s=0.4)) as pair:
        started_s = trio.current_time()
        await pair.send_until_closed(10)
        await pair.ended.wait()
        assert 0.3 < trio.current_time() - started_s < 2
        assert pair.reason.is_ack_timeout
        await assert_ends_in_a_reset(pair.client_stream)


async def test_a_send_cancelled_in_a_message_is_a_reset_without_a_close_frame():
    async with socket_pair(channel_limits()) as pair:
        with trio.move_on_after(0.1):
            await pair.send_until_closed(10)
        await pair.connection.close(1012, "restarting")
        assert (pair.reason.by, pair.reason.code) == (ClosedBy.SERVER, 1006)
        await assert_ends_in_a_reset(pair.client_stream)


async def assert_ends_in_a_reset(stream: trio.SocketStream) -> None:
    with pytest.raises(trio.BrokenResourceError) as broken:
        await read_to_the_end(stream)
    assert isinstance(broken.value.__cause__, ConnectionResetError)


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass


async def test_a_client_that_refuses_a_message_and_slams_the_door_is_still_understood():
    async with socket_pair(channel_limits()) as pair:
        started_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.send_until_closed, 10)
            await trio.sleep(0.05)
            await pair.client_stream.send_all(client_frame(CLOSE, close_payload(1009, "too big")))
            await pair.client_stream.aclose()  # with bytes unread: its kernel sends a reset
        await pair.ended.wait()
        assert pair.reason.is_too_big
        assert trio.current_time() - started_s < 1


@pytest.mark.slow
async def test_an_orderly_close_reaches_a_client_that_reads_late():
    async with socket_pair(channel_limits()) as pair:
        await pair.sink.send(numbered_batch(1, 1))
        await pair.connection.close(1000, "deleted")
        assert (await RawClient(pair.client_stream).until_close()) == (1000, "deleted")
