"""Batches that send themselves: every byte once, in order, and none of a damaged record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from support.socket_pair import open_pair
from support.stored_records import at_once, notifications, records_of

from dispatcher.deliver.direct_io import pour, pour_now
from dispatcher.errors import ChannelGone, CorruptRecord
from dispatcher.limits import SEND_PIECE_BYTES
from dispatcher.model import Overflow
from dispatcher.queue.interface import Batch, Form, QueueOptions, Route, SliceLimits
from dispatcher.queue.native import NativeQueue, ffi, lib
from dispatcher.queue.whole_messages import read_messages

OPTIONS = QueueOptions(incarnation=1, owner=1, queue_bytes=50_000_000, overflow=Overflow.DROP_OLDEST)
EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)


class Message:
    """The first message of a batch, of which a piece was read into the buffer."""

    def __init__(self, batch: Batch, buffer: bytearray) -> None:
        self._batch = batch
        self.buffer = buffer
        self.unread = batch.messages[0].bytes_count
        self.filled = 0
        self.fill()

    def fill(self) -> None:
        self.filled = at_once(self._batch.read_into(self.buffer, 0)) if self.unread else 0
        self.unread -= self.filled

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        sent, begin, end, self.unread = self._batch.pour(socket, buffer, filled, self.unread, tail)
        return sent, begin, end

    async def send(self, stream: trio.SocketStream, tail: bytes = b"") -> int:
        total = 0
        while self.filled:
            total += await pour(stream, self, self.buffer, self.filled, tail)
            self.fill()
        return total


@pytest.fixture
def queue() -> Iterator[NativeQueue]:
    made = NativeQueue(1, 128 << 20)
    made.open_channel(1, OPTIONS)
    yield made
    made.close()


async def batch_of(queue: NativeQueue, events: int) -> Batch:
    queue.append(records_of(notifications(events, padding=40)), [Route(1)], 1_767_225_600_123)
    batch = await queue.slice(1, None, EVERYTHING, Form(mixed_kinds=True))
    assert batch is not None
    return batch


def damage(queue: NativeQueue, seq: int) -> None:
    """Flip a bit of a stored record's body."""
    span = ffi.new("nd_span *")
    assert lib.nd_ring_span(queue.rings.channels[1].ring, seq, ffi.NULL, span) == lib.ND_OK
    ffi.cast("uint8_t *", span.bytes)[60] ^= 1


async def collect(stream: trio.SocketStream, received: bytearray) -> None:
    """All that comes, to the end."""
    async for data in stream:
        received.extend(data)


@pytest.mark.parametrize("buffer_bytes", [1_000, SEND_PIECE_BYTES])
async def test_a_message_arrives_as_it_is_with_its_tail_at_most_once(
    queue: NativeQueue, buffer_bytes: int
) -> None:
    batch = await batch_of(queue, 10_000)
    (text,) = await read_messages(batch)
    received = bytearray()
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(collect, other, received)
        sent = await Message(batch, bytearray(buffer_bytes)).send(one, b"tail")
        assert await batch.read_into(bytearray(buffer_bytes), 0) == 0
        await one.send_eof()
    assert sent == len(received)
    assert bytes(received) in (text, text + b"tail")  # without: the caller read the end itself


async def test_a_short_message_and_its_tail_go_at_once(queue: NativeQueue) -> None:
    batch = await batch_of(queue, 100)
    (text,) = await read_messages(batch)
    async with open_pair() as (one, other):
        message = Message(batch, bytearray(4_000))
        assert pour_now(one, message, message.buffer, message.filled, b"tail")[0] == len(text) + 4
        assert message.unread == 0
        await one.send_eof()
        assert b"".join([data async for data in other]) == text + b"tail"


async def test_a_full_socket_ends_it_and_nothing_is_lost(queue: NativeQueue) -> None:
    batch = await batch_of(queue, 20_000)
    async with open_pair() as (one, _):
        message = Message(batch, bytearray(SEND_PIECE_BYTES))
        before = message.filled + message.unread
        sent, begin, end = pour_now(one, message, message.buffer, message.filled)
        assert begin < end <= SEND_PIECE_BYTES
        assert sent + end - begin + message.unread == before
        assert pour_now(one, message, message.buffer, end)[0] == 0  # and it stays full


async def test_a_damaged_record_is_not_sent_and_leaves_the_channel(queue: NativeQueue) -> None:
    batch = await batch_of(queue, 10_000)
    (text,) = await read_messages(batch)
    damage(queue, 9_000)
    received = bytearray()
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(collect, other, received)
        with pytest.raises(CorruptRecord):
            await Message(batch, bytearray(10_000)).send(one)
        await one.send_eof()
    assert text.startswith(received)
    assert b"/3303/0/8500" in received
    assert b"/3303/0/8999" not in received
    assert queue.stats(1).records == 9_999


async def test_a_deleted_channel_sends_nothing_more(queue: NativeQueue) -> None:
    batch = await batch_of(queue, 10_000)
    message = Message(batch, bytearray(SEND_PIECE_BYTES))
    queue.delete_channel(1)
    async with open_pair() as (one, other):
        with pytest.raises(ChannelGone):
            pour_now(one, message, message.buffer, message.filled)
        await one.send_eof()
        assert await other.receive_some() == b""


async def test_a_broken_socket_takes_nothing(queue: NativeQueue) -> None:
    batch = await batch_of(queue, 10_000)
    async with open_pair() as (one, other):
        await other.aclose()
        message = Message(batch, bytearray(SEND_PIECE_BYTES))
        assert pour_now(one, message, message.buffer, message.filled) == (0, 0, message.filled)
        with pytest.raises(trio.BrokenResourceError):
            await pour(one, message, message.buffer, message.filled)
