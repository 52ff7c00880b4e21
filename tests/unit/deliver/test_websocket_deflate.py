"""Batches through the sink to a client that offered permessage-deflate.

Time stands still in most of these: a clock that jumps when all tasks wait would jump while a
thread compresses.
"""

from __future__ import annotations

import random
import threading
import tracemalloc
import zlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.outgoing_batches import ListedBatch, numbered_batch
from support.websocket_pairs import connected_pair
from support.ws_test_server import channel_limits
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import Ping, TextMessage

from dispatcher.deliver.sink import SinkStatistics
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.deliver.websocket_deflate import Deflater
from dispatcher.limits import (
    KIB,
    SEND_PIECE_BYTES,
    WEBSOCKET_DEFLATE_BURST_S,
    WEBSOCKET_DEFLATE_BYTES_MIN,
    WEBSOCKET_DEFLATE_LOOP_BYTES_MAX,
)
from dispatcher.model import Position
from dispatcher.wire.ws_extensions import DeflateTerms

TERMS = DeflateTerms()
PLENTY = 10**12


def text_of(batch: ListedBatch) -> tuple[str, ...]:
    return tuple(b"".join(message.records).decode() for message in batch.messages)


class Books:
    """What a deflater has told of its work."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {"in": 0, "out": 0, "over_rate": 0}

    def count(self, stage: str, bytes_count: int) -> None:
        self.bytes[stage] += bytes_count


def sink_on(pair, confirmed=None, *, rate=PLENTY, buffers=None, books=None) -> WebSocketSink:
    told = [] if confirmed is None else confirmed
    deflater = Deflater(rate, (books or Books()).count)
    return WebSocketSink(pair.connection, told.append, buffers=buffers, deflater=deflater)


def noise(count: int) -> bytes:
    """Text that takes two thirds of its length compressed."""
    return random.Random(count).randbytes(count // 2 + 1).hex().encode()[:count]


class Frames:
    """What one end of a stream was sent, as first bytes and payloads."""

    def __init__(self, data: bytes) -> None:
        self.first_bytes: list[int] = []
        self.payloads: list[bytes] = []
        at = 0
        while at < len(data):
            length, start = data[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start], "big")
            self.first_bytes.append(data[at])
            self.payloads.append(data[start : start + length])
            at = start + length
        assert at == len(data), "half a frame"


async def frames_of(batch: ListedBatch, *, terms=TERMS, rate=PLENTY) -> Frames:
    """What a batch is on the wire."""
    server_end, client_end = memory_stream_pair()
    async with connected_pair(streams=(server_end, client_end), deflate=terms) as pair:
        await sink_on(pair, rate=rate).send(batch)
        return Frames(bytes(await client_end.receive_some()))


# --- on the wire ------------------------------------------------------------------------


async def test_a_message_is_one_compressed_frame_with_its_ping_in_one_send(mock_clock):
    async with connected_pair(deflate=TERMS) as pair:
        confirmed = []
        sink = sink_on(pair, confirmed)
        batch = numbered_batch(1, 100)
        await sink.send(batch)
        assert len(pair.server_stream.sends) == 1
        assert pair.server_stream.sends[0] < batch.bytes_count / 4
        assert await pair.client.next_message() == text_of(batch)
        await sink.drained()
    assert confirmed == [Position(1, 100)]


async def test_the_frame_is_raw_deflate_without_its_tail_and_the_ping_is_as_ever(mock_clock):
    batch = numbered_batch(1, 100)
    frames = await frames_of(batch)
    assert frames.first_bytes == [0xC1, 0x89]
    unpacked = zlib.decompressobj(-15).decompress(frames.payloads[0] + b"\0\0\xff\xff")
    assert (unpacked.decode(),) == text_of(batch)
    assert not frames.payloads[0].endswith(b"\0\0\xff\xff")
    assert len(frames.payloads[1]) == 4


async def test_without_an_agreement_nothing_is_compressed(mock_clock):
    batch = numbered_batch(1, 10_000)
    frames = await frames_of(batch, terms=None)
    assert frames.first_bytes == [0x81, 0x89]
    assert (frames.payloads[0].decode(),) == text_of(batch)


@pytest.mark.parametrize("size", [WEBSOCKET_DEFLATE_BYTES_MIN - 1, WEBSOCKET_DEFLATE_BYTES_MIN])
async def test_a_message_that_fits_in_a_packet_goes_as_it_is(mock_clock, size):
    frames = await frames_of(ListedBatch([[b"x" * size]], last=1))
    is_small = size < WEBSOCKET_DEFLATE_BYTES_MIN
    assert frames.first_bytes == [0x81 if is_small else 0xC1, 0x89]
    assert (len(frames.payloads[0]) == size) is is_small


async def test_each_message_of_a_batch_is_judged_by_itself(mock_clock):
    batch = ListedBatch([[b"a" * 5_000], [b"[2]"], [b"c" * 70_000], [b"[4]"]], last=4)
    assert (await frames_of(batch)).first_bytes == [0xC1, 0x81, 0xC1, 0x81, 0x89]
    async with connected_pair(deflate=TERMS) as pair:
        await sink_on(pair).send(batch)
        assert len(pair.server_stream.sends) == 1
        assert await pair.client.next_message() == text_of(batch)


async def test_what_stays_large_leaves_as_fragments_of_the_buffer(mock_clock):
    batch = ListedBatch([[noise(100_000) for _ in range(12)]], last=12)
    frames = await frames_of(batch)
    assert frames.first_bytes == [0x41, 0x00, 0x80, 0x89]
    async with connected_pair(deflate=TERMS) as pair:
        await sink_on(pair).send(batch)
        assert max(pair.server_stream.sends) <= SEND_PIECE_BYTES + 16
        assert await pair.client.next_message() == text_of(batch)


@pytest.mark.parametrize("bits", range(9, 16))
async def test_a_client_with_a_small_window_can_read_it(mock_clock, bits):
    """A decompressor with that window fails on references that go further back."""
    text = noise(700)
    batch = ListedBatch([[text * 60]], last=1)
    terms = DeflateTerms(bits, is_window_named=True)
    frames = await frames_of(batch, terms=terms)
    unpacked = zlib.decompressobj(-bits).decompress(frames.payloads[0] + b"\0\0\xff\xff")
    assert unpacked == text * 60


async def test_no_message_refers_to_the_one_before(mock_clock):
    batch = numbered_batch(1, 100)
    first, second = await frames_of(batch), await frames_of(batch)
    assert first.payloads[0] == second.payloads[0]
    async with connected_pair(deflate=TERMS) as pair:
        sink = sink_on(pair)
        await sink.send(batch)
        await sink.send(batch)
        assert len(set(pair.server_stream.sends)) == 1


@pytest.mark.slow
@given(
    messages=st.lists(
        st.lists(
            st.tuples(st.integers(0, 90_000), st.booleans()).map(
                lambda made: noise(made[0]) if made[1] else b"x" * made[0]
            ),
            min_size=1,
            max_size=6,
        ).map(lambda records: [b"{", *records, b"}"]),
        min_size=1,
        max_size=5,
    ),
    rate=st.sampled_from([PLENTY, 300_000]),
)
async def test_any_batch_arrives_as_its_messages_in_order(mock_clock, messages, rate):
    async with connected_pair(deflate=TERMS) as pair:
        confirmed = []
        sink = sink_on(pair, confirmed, rate=rate, buffers=SendBuffers())
        batch = ListedBatch(messages, last=100)
        for _ in range(2):
            await sink.send(batch)
            assert await pair.client.next_message() == text_of(batch)
        await sink.drained()
        assert confirmed == [Position(1, 100)] * 2
        assert max(pair.server_stream.sends) <= SEND_PIECE_BYTES + 16


async def test_a_record_larger_than_a_piece_is_compressed_too(mock_clock):
    async with connected_pair(deflate=TERMS) as pair:
        buffers = SendBuffers()
        batch = ListedBatch([[b"[", b"1" * (3 * SEND_PIECE_BYTES), b"]"], [b"[2]"]], last=4)
        await sink_on(pair, buffers=buffers).send(batch)
        assert sum(pair.server_stream.sends) < 10_000
        assert await pair.client.next_message() == text_of(batch)
        assert len(buffers.take(10**9)) < 2 * SEND_PIECE_BYTES


# --- what is counted --------------------------------------------------------------------


async def test_the_window_counts_what_the_client_must_hold_not_what_went_over_the_wire(mock_clock):
    async with connected_pair(deflate=TERMS) as pair:
        sink = sink_on(pair)
        mib = ListedBatch([[b"x" * 2**20]], last=1)
        await sink.send(mib)
        assert sink.statistics() == SinkStatistics(unconfirmed_events=1, unconfirmed_bytes=2**20)
        for _ in range(15):
            await sink.send(mib)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.send, ListedBatch([[b"x"]], last=2))
            await wait_all_tasks_blocked()
            assert len(pair.server_stream.sends) == 16
            nursery.cancel_scope.cancel()


async def test_over_the_rate_messages_go_as_they_are_until_time_has_passed(autojump_clock):
    rate = 400 * KIB
    burst = int(rate * WEBSOCKET_DEFLATE_BURST_S)
    batch = ListedBatch([[b"x" * 10 * KIB]], last=1)
    async with connected_pair(deflate=TERMS) as pair:
        books = Books()
        sink = sink_on(pair, rate=rate, books=books)
        compressed = []

        async def send():
            await sink.send(batch)
            await pair.client.next_message()
            compressed.append(pair.server_stream.sends[-1] < 1_000)

        for _ in range(burst // (10 * KIB) + 3):
            await send()
        assert compressed == [True] * (burst // (10 * KIB)) + [False] * 3
        await trio.sleep(0.1)
        compressed.clear()
        for _ in range(6):
            await send()
        assert compressed == [True] * 4 + [False] * 2
    taken = burst // (10 * KIB) + 4
    assert books.bytes["in"] == taken * 10 * KIB
    assert books.bytes["over_rate"] == 5 * 10 * KIB
    assert 10 * taken < books.bytes["out"] < 1_000 * taken


async def test_a_message_over_the_rate_is_counted_once_wherever_it_is_put(mock_clock):
    async with connected_pair(deflate=TERMS) as pair:
        books = Books()
        sink = sink_on(pair, rate=1, books=books)
        batch = ListedBatch([[b"x" * 200_000]] * 4, last=4)
        await sink.send(batch)
        assert await pair.client.next_message() == text_of(batch)
    assert (books.bytes["in"], books.bytes["over_rate"]) == (200_000, 600_000)


async def test_a_message_larger_than_the_burst_has_its_turn_and_is_paid_back(autojump_clock):
    deflater = Deflater(100 * KIB, Books().count)
    assert deflater.begin(200 * KIB, 15) is not None
    await trio.sleep(1.5)
    assert deflater.begin(2 * KIB, 15) is None
    await trio.sleep(0.5)
    assert deflater.begin(2 * KIB, 15) is not None


# --- failures, and others meanwhile -----------------------------------------------------


@pytest.mark.parametrize("reads", [0, 2])
async def test_a_batch_that_cannot_be_read_while_it_is_compressed_leaves_the_socket_open(mock_clock, reads):
    async with connected_pair(deflate=TERMS) as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 10_000, record_bytes=100)
        batch.fails_after_reads = reads
        with pytest.raises(LookupError):
            await sink.send(batch)
        assert sink.statistics().unconfirmed_events == 0
        await sink.send(numbered_batch(1, 100))
        assert await pair.client.next_message() == text_of(numbered_batch(1, 100))


async def test_a_batch_that_fails_between_its_fragments_ends_the_socket(mock_clock):
    async with connected_pair(deflate=TERMS) as pair:
        sink = sink_on(pair)
        batch = ListedBatch([[noise(100_000) for _ in range(12)]], last=12)
        batch.fails_after_reads = 5
        with pytest.raises(LookupError):
            await sink.send(batch)
        assert (await pair.end()).code == 1006
        assert await pair.client.next_event() is None


async def test_a_send_cancelled_while_it_compresses_leaves_the_socket_whole(mock_clock, monkeypatch):
    async with connected_pair(deflate=TERMS) as pair:
        sink = sink_on(pair)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink.send, numbered_batch(1, 10_000, record_bytes=100))
                await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught
        assert pair.connection.is_open
        await sink.send(numbered_batch(1, 100))
        assert await pair.client.next_message() == text_of(numbered_batch(1, 100))


@pytest.mark.parametrize("size", [WEBSOCKET_DEFLATE_LOOP_BYTES_MAX, WEBSOCKET_DEFLATE_LOOP_BYTES_MAX + 1])
async def test_a_long_message_is_compressed_beside_the_loop(mock_clock, monkeypatch, size):
    threads = []
    made = zlib.compressobj

    class Watched:
        def __init__(self, *arguments):
            self._inner = made(*arguments)

        def compress(self, data):
            threads.append(threading.current_thread())
            return self._inner.compress(data)

        def flush(self, mode):
            return self._inner.flush(mode)

    monkeypatch.setattr(zlib, "compressobj", Watched)
    async with connected_pair(deflate=TERMS) as pair:
        await sink_on(pair).send(ListedBatch([[b"x" * size]], last=1))
    is_on_loop = threads == [threading.current_thread()]
    assert is_on_loop is (size <= WEBSOCKET_DEFLATE_LOOP_BYTES_MAX)


async def test_an_idle_socket_keeps_nothing_of_a_compressor(mock_clock):
    sockets = 10
    async with trio.open_nursery() as nursery:
        pairs = [await nursery.start(_hold_pair) for _ in range(sockets)]
        sinks = [sink_on(pair) for pair in pairs]
        batch = numbered_batch(1, 2_000)

        async def speak():
            for pair, sink in zip(pairs, sinks, strict=True):
                await sink.send(batch)
                await pair.client.next_message()
                await sink.drained()

        await speak()
        tracemalloc.start()
        await speak()
        await wait_all_tasks_blocked()
        kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        nursery.cancel_scope.cancel()
    assert peak_bytes > 250_000, "zlib's memory is seen at all"
    assert kept_bytes / sockets < 4_000


async def wait_until_sending(pair):
    for _ in range(1_000_000):
        if pair.server_stream.sends:
            break
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()


async def _hold_pair(task_status=trio.TASK_STATUS_IGNORED):
    async with connected_pair(deflate=TERMS) as pair:
        task_status.started(pair)
        await trio.sleep_forever()


async def test_while_a_client_reads_nothing_the_compressor_is_gone(mock_clock):
    server_end, client_end = lockstep_stream_pair()
    async with connected_pair(
        streams=(server_end, client_end), deflate=TERMS, limits=channel_limits(ack_timeout_s=1e6)
    ) as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 2_000)
        tracemalloc.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.send, batch)
            await wait_until_sending(pair)
            held_bytes, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert isinstance(await pair.client.next_event(), TextMessage)
            assert isinstance(await pair.client.next_event(), Ping)
    assert peak_bytes > 2 * SEND_PIECE_BYTES + 250_000, "zlib's memory is seen at all"
    assert held_bytes < SEND_PIECE_BYTES + 60_000, "the buffer that is being sent from"
