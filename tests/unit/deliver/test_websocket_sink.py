"""Batches through the sink: what is on the wire, what is confirmed, what fails how."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.outgoing_batches import ListedBatch, numbered_batch
from support.websocket_pairs import COUNTER, client_frame, connected_pair
from support.ws_test_server import channel_limits
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked
from wsproto.events import Ping, TextMessage

from dispatcher.deliver.sink import Sink, SinkClosed, SinkStatistics
from dispatcher.deliver.websocket import WebSocketSink
from dispatcher.deliver.websocket_buffers import SendBuffers
from dispatcher.limits import SEND_BUFFERS_IDLE_MAX, SEND_PIECE_BYTES, WINDOW_PINGS_MAX
from dispatcher.model import Position


def sink_on(pair, confirmed=None, **settings) -> WebSocketSink:
    return WebSocketSink(pair.connection, (confirmed if confirmed is not None else []).append, **settings)


def text_of(batch: ListedBatch) -> tuple[str, ...]:
    return tuple(b"".join(message.records).decode() for message in batch.messages)


async def test_a_batch_arrives_as_one_message_and_is_confirmed_by_the_pong(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        sink: Sink = sink_on(pair, confirmed)
        batch = numbered_batch(1, 100)
        await sink.send(batch)
        assert confirmed == []
        assert sink.statistics() == SinkStatistics(
            unconfirmed_events=100, unconfirmed_bytes=batch.bytes_count
        )
        assert await pair.client.next_message() == text_of(batch)
        await sink.drained()
        assert confirmed == [Position(1, 100)]
        assert sink.statistics() == SinkStatistics(unconfirmed_events=0, unconfirmed_bytes=0)


async def test_a_small_batch_and_its_ping_leave_in_one_send(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 1)
        await sink.send(batch)
        assert pair.server_stream.sends == [2 + batch.bytes_count + 6]


async def test_several_small_messages_and_their_ping_leave_in_one_send(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        sink = sink_on(pair, confirmed)
        batch = ListedBatch(
            [[b'{"registrations":[', b"1]}"], [b'{"notifications":[2]}'], [b"{}" * 100]], last=3
        )
        await sink.send(batch)
        assert len(pair.server_stream.sends) == 1
        assert await pair.client.next_message() == text_of(batch)
        await sink.drained()
        assert confirmed == [batch.last]


async def test_the_ping_behind_a_batch_has_four_bytes_of_the_counter(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        payloads = []
        for number in range(1, 5):
            await sink.send(numbered_batch(number, 1))
            assert isinstance(await pair.client.next_event(), TextMessage)
            ping = await pair.client.next_event()
            assert isinstance(ping, Ping)
            payloads.append(int.from_bytes(ping.payload, "big"))
    assert payloads == [(COUNTER + step) % 2**32 for step in range(4)]


async def test_a_large_batch_leaves_in_pieces_of_the_buffer_and_arrives_whole(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 10_000, record_bytes=100)
        await sink.send(batch)
        assert max(pair.server_stream.sends) <= SEND_PIECE_BYTES + 16
        assert len(pair.server_stream.sends) == 4
        assert await pair.client.next_message() == text_of(batch)


async def test_a_record_larger_than_the_buffer_goes_through_a_buffer_that_grew(autojump_clock):
    async with connected_pair() as pair:
        buffers = SendBuffers()
        sink = sink_on(pair, buffers=buffers)
        batch = ListedBatch([[b"[", b"1" * (3 * SEND_PIECE_BYTES), b"]"], [b"[2]"]], last=4)
        await sink.send(batch)
        assert await pair.client.next_message() == text_of(batch)
        await sink.send(numbered_batch(5, 3000, record_bytes=100))
        assert len(buffers.take(10**9)) < 2 * SEND_PIECE_BYTES


@pytest.mark.slow
@given(
    messages=st.lists(
        st.lists(st.integers(0, 90_000).map(lambda size: b"x" * size), min_size=1, max_size=6).map(
            lambda records: [b"{", *records, b"}"]
        ),
        min_size=1,
        max_size=5,
    )
)
async def test_any_batch_arrives_as_its_messages_in_order(autojump_clock, messages):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        batch = ListedBatch(messages, last=100)
        with trio.fail_after(60):
            await sink.send(batch)
            assert await pair.client.next_message() == text_of(batch)
            await sink.drained()


async def test_a_batch_that_was_read_before_is_sent_from_its_start(autojump_clock):
    async with connected_pair() as pair:
        batch = numbered_batch(1, 3)
        await batch.read_into(bytearray(1000), 0)
        await sink_on(pair).send(batch)
        assert await pair.client.next_message() == text_of(batch)


# --- the window -----------------------------------------------------------------------


async def test_the_sender_waits_at_four_full_batches_and_goes_on_with_a_pong(autojump_clock):
    async with connected_pair(limits=channel_limits(batch_events=10)) as pair:
        sink = sink_on(pair)
        for turn in range(4):
            await sink.send(numbered_batch(1 + 10 * turn, 10))
        with trio.move_on_after(60) as waited:
            await sink.send(numbered_batch(41, 1))
        assert waited.cancelled_caught
        assert sink.statistics().unconfirmed_events == 40
        assert pair.connection.is_open, "a batch that was not begun leaves the socket whole"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.send, numbered_batch(41, 10))
            await pair.client.next_message()
        assert sink.statistics().unconfirmed_events == 40


async def test_the_sender_waits_at_16_mib(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        mib = ListedBatch([[b"x" * 2**20]], last=1)
        for _ in range(16):
            await sink.send(mib)
        with trio.move_on_after(60) as waited:
            await sink.send(ListedBatch([[b"x"]], last=2))
        assert waited.cancelled_caught


async def test_the_sender_waits_at_32_pings_so_that_no_library_sees_a_flood(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        for number in range(1, WINDOW_PINGS_MAX + 1):
            await sink.send(numbered_batch(number, 1))
        with trio.move_on_after(60) as waited:
            await sink.send(numbered_batch(WINDOW_PINGS_MAX + 1, 1))
        assert waited.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.send, numbered_batch(WINDOW_PINGS_MAX + 1, 1))
            await pair.client.next_message()


async def test_a_sender_that_waits_for_room_learns_of_the_end(autojump_clock):
    async with connected_pair(limits=channel_limits(batch_events=1)) as pair:
        sink = sink_on(pair)
        for number in range(1, 5):
            await sink.send(numbered_batch(number, 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, sink.send, numbered_batch(5, 1))
            nursery.start_soon(_expect_closed, sink.drained)
            await wait_all_tasks_blocked()
            await pair.client.stream.aclose()
        with pytest.raises(SinkClosed):
            await sink.send(numbered_batch(5, 1))


async def _expect_closed(function, *arguments):
    with pytest.raises(SinkClosed):
        await function(*arguments)


async def test_drained_of_an_idle_sink_returns_at_once_even_when_closed(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        await sink.drained()
        await pair.client.stream.aclose()
        await pair.end()
        await sink.drained()


async def test_what_was_confirmed_before_the_end_is_told_and_nothing_else(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        sink = sink_on(pair, confirmed)
        for number in range(1, 4):
            await sink.send(numbered_batch(number, 1))
        await pair.client.next_message()
        await pair.client.next_event()
        await pair.client.stream.aclose()
        await pair.end()
    assert confirmed == [Position(1, 1)]


# --- failures -------------------------------------------------------------------------


async def test_a_batch_that_cannot_be_read_at_all_leaves_the_socket_open(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 10)
        batch.fails_after_reads = 0
        with pytest.raises(LookupError):
            await sink.send(batch)
        assert sink.statistics().unconfirmed_events == 0
        await sink.send(numbered_batch(1, 1))
        assert await pair.client.next_message() == text_of(numbered_batch(1, 1))


async def test_a_batch_that_fails_half_way_ends_the_socket_without_another_byte(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        batch = numbered_batch(1, 10_000, record_bytes=100)
        batch.fails_after_reads = 2
        with pytest.raises(LookupError):
            await sink.send(batch)
        reason = await pair.end()
        assert reason.code == 1006
        assert await pair.client.next_event() is None
        with pytest.raises(SinkClosed):
            await sink.send(numbered_batch(1, 1))


async def test_a_send_cancelled_half_way_ends_the_socket_without_a_close_frame(autojump_clock):
    async with connected_pair(streams=lockstep_stream_pair()) as pair:
        sink = sink_on(pair)
        with trio.move_on_after(1):
            await sink.send(numbered_batch(1, 10))
        await pair.connection.close(1012, "restarting")
        assert await pair.client.until_close() is None
        assert (await pair.end()).code == 1006


async def test_a_send_cancelled_before_it_began_leaves_the_socket_whole(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        with trio.CancelScope() as scope:
            scope.cancel()
            await sink.send(numbered_batch(1, 10))
        assert scope.cancelled_caught
        assert pair.connection.is_open
        await sink.send(numbered_batch(1, 10))
        assert await pair.client.next_message() == text_of(numbered_batch(1, 10))


async def test_a_client_that_resets_in_a_send_closes_the_sink(autojump_clock):
    async with connected_pair(streams=lockstep_stream_pair()) as pair:
        sink = sink_on(pair)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, sink.send, numbered_batch(1, 10))
            await wait_all_tasks_blocked()
            await pair.client.stream.aclose()
        assert (await pair.end()).code == 1006


async def test_aclose_drops_the_socket_without_a_close_frame(autojump_clock):
    async with connected_pair() as pair:
        sink = sink_on(pair)
        await sink.send(numbered_batch(1, 1))
        await sink.aclose()
        await pair.end()
        assert isinstance(await pair.client.next_event(), TextMessage)
        assert isinstance(await pair.client.next_event(), Ping)
        assert await pair.client.next_event() is None


async def test_pings_of_the_client_do_not_disturb_a_stream_of_batches(autojump_clock):
    async with connected_pair(streams=lockstep_stream_pair()) as pair:
        sink = sink_on(pair)

        async def send_all():
            for number in range(1, 30):
                await sink.send(numbered_batch(number, 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            messages = []
            while len(messages) < 29:
                event = await pair.client.next_event()
                if isinstance(event, TextMessage):
                    messages.append(event.data)
                    await pair.client.send(client_frame(0x9, b"hello"))
                elif isinstance(event, Ping):
                    await pair.client.pong(event)
    assert messages == [text_of(numbered_batch(number, 1))[0] for number in range(1, 30)]


# --- buffers --------------------------------------------------------------------------


def test_buffers_are_used_again_and_only_so_many_are_kept():
    buffers = SendBuffers()
    first = buffers.take(10**6)
    buffers.give_back(first)
    assert buffers.take(10**6) is first
    taken = [buffers.take(10**6) for _ in range(3 * SEND_BUFFERS_IDLE_MAX)]
    for buffer in taken:
        buffers.give_back(buffer)
    assert repr(buffers) == f"<SendBuffers idle={SEND_BUFFERS_IDLE_MAX}>"


def test_a_small_send_does_not_take_a_large_buffer():
    assert len(SendBuffers().take(200)) == 200


async def test_a_batch_of_gaps_alone_is_confirmed_by_its_pong_like_any_other(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        sink: Sink = sink_on(pair, confirmed)
        batch = ListedBatch([[b'{"gaps":[]}']], last=7)
        batch.events = 0
        batch.last = Position(1, 7, is_behind_gap=True)
        await sink.send(batch)
        assert sink.statistics().unconfirmed_bytes == batch.bytes_count
        assert await pair.client.next_message() == ('{"gaps":[]}',)
        await sink.drained()
        assert confirmed == [Position(1, 7, is_behind_gap=True)]
        assert sink.statistics() == SinkStatistics(unconfirmed_events=0, unconfirmed_bytes=0)
