"""What every queue promises, whoever keeps it (``dispatcher.queue.interface``)."""

from __future__ import annotations

import json
from array import array

import pytest
from support.answered_append import append_answered
from support.one_channel import (
    EPOCH,
    EVERYTHING,
    INCARNATION,
    NOW_MS,
    PLAIN,
    append,
    assert_balanced,
    numbers_in,
    numbers_of,
    open_channel,
    room_for,
    store,
    take,
)
from support.queues import KINDS_BOUND_BY_MEMORY, KINDS_EXACT, Maker
from support.stored_records import Item, body_of, notifications, records_of, stored_bytes

from dispatcher.core.idempotency import Answered, Begun, InFlight, key_scope
from dispatcher.errors import ChannelGone, MemoryFull, PositionLost, Unavailable
from dispatcher.model import Kind, Overflow, Position
from dispatcher.queue.interface import (
    Appended,
    ChannelQueue,
    Form,
    Loss,
    Records,
    Route,
    SliceLimits,
)
from dispatcher.queue.whole_messages import read_messages
from dispatcher.wire.uid import uid

# --- in and out ---------------------------------------------------------------------------


async def test_what_goes_in_comes_out_in_order(queue: ChannelQueue) -> None:
    open_channel(queue)
    appended = await append(queue, notifications(3))
    assert appended == Appended(queued=3, rejected=0)
    batch = await take(queue)
    assert (batch.first, batch.last, batch.events) == (Position(EPOCH, 1), Position(EPOCH, 3), 3)
    assert await read_messages(batch) == [
        b'{"notifications":[' + b",".join(body_of(item) for item in notifications(3)) + b"]}"
    ]
    assert batch.messages[0].bytes_count == batch.bytes_count == len((await read_messages(batch))[0])
    assert batch.messages[0].kinds == (Kind.NOTIFICATION,)


async def test_what_is_looked_at_stays_where_it_is_and_may_still_be_dropped(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    await append(queue, notifications(3))
    batch = await take(queue, events=1)
    before = queue.stats(1)
    peeked = await queue.peek(1, SliceLimits(events_max=2, bytes_max=1 << 20), PLAIN)
    assert [(one.position, one.kind, one.is_in_flight) for one in peeked] == [
        (Position(EPOCH, 1), Kind.NOTIFICATION, True),
        (Position(EPOCH, 2), Kind.NOTIFICATION, False),
    ]
    assert peeked[0].message == (await read_messages(batch))[0]
    assert queue.stats(1) == before
    appended = await append(queue, notifications(1))
    assert [(loss.first_seq, loss.reason) for loss in appended.losses] == [(2, "overflow")]
    assert [one.position.seq for one in await queue.peek(1, EVERYTHING, PLAIN)] == [1, 3, 4]


async def test_a_look_ends_with_the_record_that_reaches_its_bytes(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(3))
    assert len(await queue.peek(1, SliceLimits(events_max=3, bytes_max=1), PLAIN)) == 1
    assert len(await queue.peek(1, EVERYTHING, PLAIN)) == 3


async def test_nothing_is_sliced_before_it_is_durable(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(1))
    _, ticket = queue.append(records_of(notifications(2, first=1)), [Route(1)], NOW_MS)
    if not ticket.is_durable:
        assert await numbers_of(queue) == [0]
    await ticket.durable()
    assert ticket.is_durable
    assert await numbers_of(queue) == [0, 1, 2]


async def test_an_empty_channel_has_no_slice(queue: ChannelQueue) -> None:
    open_channel(queue)
    assert await queue.slice(1, None, EVERYTHING, PLAIN) is None
    await append(queue, notifications(2))
    assert await queue.slice(1, Position(EPOCH, 2), EVERYTHING, PLAIN) is None


async def test_slices_go_on_where_the_last_one_ended(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(250))
    seen: list[int] = []
    after = None
    while batch := await queue.slice(1, after, SliceLimits(events_max=100, bytes_max=1 << 20), PLAIN):
        seen += numbers_in(batch)
        after = batch.last
    assert seen == list(range(250))


async def test_there_may_be_more_until_a_slice_would_find_nothing(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(250))
    after, more = None, True
    while batch := await queue.slice(1, after, SliceLimits(events_max=100, bytes_max=1 << 20), PLAIN):
        assert more
        after = batch.last
        more = queue.may_have_more(1, after)
    assert after is not None
    assert not more
    queue.settle(1, after)
    assert not queue.may_have_more(1, after)
    await append(queue, notifications(1, first=250))
    assert queue.may_have_more(1, after)


async def test_there_may_be_more_while_a_gap_is_to_be_told(queue: ChannelQueue) -> None:
    open_channel(queue)
    queue.keep_gaps(1, True)
    await append(queue, notifications(1))
    last = Position(EPOCH, 1)
    assert not queue.may_have_more(1, last)
    queue.expire(1, NOW_MS + 1)
    assert queue.may_have_more(1, last)


async def test_a_position_of_an_earlier_epoch_comes_before_everything(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(2))
    old = Position(EPOCH - 1, 10_000)
    assert queue.settle(1, old) == 0
    batch = await queue.slice(1, old, EVERYTHING, PLAIN)
    assert batch is not None
    assert batch.events == 2
    assert await queue.rebuild(1, old, batch.last, PLAIN) is None
    with pytest.raises(ValueError, match="epoch"):
        queue.settle(1, Position(EPOCH + 1, 1))


async def test_indices_choose_the_records_of_a_route(queue: ChannelQueue) -> None:
    for channel in (1, 2, 3):
        open_channel(queue, channel)
    records = records_of(notifications(6))
    routes = [Route(1), Route(2, array("I", [1, 4, 5])), Route(3, array("I"))]
    appended = await store(queue, records, *routes)
    assert appended.queued == 9
    assert [await numbers_of(queue, channel) for channel in (1, 2, 3)] == [[0, 1, 2, 3, 4, 5], [1, 4, 5], []]


async def test_no_routes_and_no_records_are_nothing_to_do(queue: ChannelQueue) -> None:
    open_channel(queue)
    assert (await store(queue, records_of(notifications(3)))).queued == 0
    assert (await append(queue, [])).queued == 0
    assert queue.stats(1).last_seq == 0


async def test_a_bytearray_is_free_again_after_the_append(queue: ChannelQueue) -> None:
    open_channel(queue)
    records = records_of(notifications(2))
    block = bytearray(records.block)
    _, ticket = queue.append(Records(block, records.meta), [Route(1, array("I", [0, 1]))], NOW_MS)
    block.extend(b"more")
    records.meta.append(1)
    await ticket.durable()
    assert await numbers_of(queue) == [0, 1]


@pytest.mark.parametrize("size", [1, 64, 4_063, 4_064, 4_065, 65_536, 262_112, 262_144, 262_145, 1 << 20])
async def test_records_of_any_size_are_kept_whole(queue: ChannelQueue, size: int) -> None:
    open_channel(queue)
    items = [*notifications(2, padding=max(0, size - 100)), *notifications(1, padding=size, first=2)]
    await append(queue, items[:1])
    await append(queue, items[1:])
    batch = await take(queue)
    assert await read_messages(batch) == [b'{"notifications":[' + b",".join(map(body_of, items)) + b"]}"]
    assert queue.stats(1).record_bytes == sum(map(stored_bytes, items))


# --- reading ------------------------------------------------------------------------------


async def test_pieces_hold_whole_records_and_messages_end_where_they_say(queue: ChannelQueue) -> None:
    open_channel(queue)
    items = [*notifications(5), Item(Kind.REGISTRATION, "other", 9), *notifications(2, first=5)]
    await append(queue, items)
    batch = await take(queue, form=Form(mixed_kinds=False))
    expected = await read_messages(batch)
    assert [message.kinds for message in batch.messages] == [(Kind.NOTIFICATION,), (Kind.REGISTRATION,)]
    for room in (1, 150, 10_000):
        batch.rewind()
        for message, text in zip(batch.messages, expected, strict=True):
            got = b""
            while len(got) < message.bytes_count:
                buffer = bytearray(b"head" + b"\0" * room)
                length = await batch.read_into(buffer, 4)
                assert buffer[:4] == b"head"
                assert length > 0
                got += buffer[4 : 4 + length]
            assert got == text
        assert await batch.read_into(bytearray(10), 0) == 0


async def test_a_buffer_grows_for_a_record_that_does_not_fit_and_is_free_again(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(1, padding=100_000))
    batch = await take(queue)
    buffer = bytearray()
    got = b""
    while length := await batch.read_into(buffer, 0):
        got += buffer[:length]
    assert [got] == await read_messages(batch)
    buffer.clear()


async def test_reading_what_expired_says_so(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(3))
    batch = await take(queue)
    buffer = bytearray(100)
    assert await batch.read_into(buffer, 0) > 0
    queue.expire(1, NOW_MS + 1)
    with pytest.raises(PositionLost):
        await batch.read_into(buffer, 0)
    await append(queue, notifications(3))
    with pytest.raises(PositionLost):
        await read_messages(batch)


async def test_reading_from_a_deleted_channel_says_so(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(3))
    batch = await take(queue)
    assert queue.delete_channel(1) == 3
    open_channel(queue)
    await append(queue, notifications(3))
    with pytest.raises(ChannelGone):
        await batch.read_into(bytearray(1_000), 0)


# --- limits -------------------------------------------------------------------------------


async def test_a_slice_stays_within_its_bytes_as_they_are_sent(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(20))
    form = Form(mixed_kinds=True, include_uid=True, include_timestamp=True, include_original_ep=True)
    for events in (1, 2, 7):
        exact = (await take(queue, events=events, form=form)).bytes_count
        limits = SliceLimits(events_max=100, bytes_max=exact)
        batch = await queue.slice(1, None, limits, form)
        assert batch is not None
        assert (batch.events, batch.bytes_count) == (events, exact)
        limits = SliceLimits(events_max=100, bytes_max=exact - 1)
        batch = await queue.slice(1, None, limits, form)
        assert batch is not None
        assert batch.events == max(1, events - 1)


async def test_a_larger_single_record_goes_alone(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, [*notifications(1, padding=5_000), *notifications(1, first=1)])
    batch = await queue.slice(1, None, SliceLimits(events_max=10, bytes_max=1_000), PLAIN)
    assert batch is not None
    assert batch.events == 1
    assert batch.bytes_count > 1_000


# --- kinds and forms ----------------------------------------------------------------------

REGISTERED = Item(Kind.REGISTRATION, "a", 1, original_ep="own-name")
ONE_OF_EACH = [
    Item(Kind.NOTIFICATION, "a", 0),
    REGISTERED,
    Item(Kind.REG_UPDATE, "b", 2),
    Item(Kind.DE_REGISTRATION, "c", 0, original_ep="c-name"),
    Item(Kind.REGISTRATION_EXPIRED, "d", 0),
    Item(Kind.ASYNC_RESPONSE, "", 3),
]


async def test_kinds_are_grouped_in_order_of_first_occurrence(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, [*ONE_OF_EACH, Item(Kind.NOTIFICATION, "z", 9)])
    batch = await take(queue)
    (message,) = map(json.loads, await read_messages(batch))
    names = ["notifications", "registrations", "reg-updates", "de-registrations", "registrations-expired"]
    assert list(message) == [*names, "async-responses"]
    assert [event["ep"] for event in message["notifications"]] == ["a", "z"]
    assert batch.messages[0].kinds == tuple(Kind)
    apart = await take(queue, form=Form(mixed_kinds=False))
    assert [list(json.loads(text)) for text in await read_messages(apart)] == [[name] for name in message]
    assert [message.events for message in apart.messages] == [2, 1, 1, 1, 1, 1]
    assert apart.bytes_count == sum(map(len, await read_messages(apart)))


@pytest.mark.parametrize("mixed", [True, False])
async def test_no_event_passes_an_earlier_one_of_its_device(queue: ChannelQueue, mixed: bool) -> None:
    open_channel(queue)
    await append(
        queue,
        [
            Item(Kind.NOTIFICATION, "a", 0),
            Item(Kind.DE_REGISTRATION, "b", 0),
            Item(Kind.NOTIFICATION, "c", 1),
            Item(Kind.NOTIFICATION, "b", 2),  # b left before
            Item(Kind.NOTIFICATION, "a", 3),
        ],
    )
    form = Form(mixed_kinds=mixed)
    first = await take(queue, form=form)
    second = await take(queue, first.last.seq, form=form)
    assert (first.events, second.events) == (3, 2)


async def test_async_responses_name_no_device_and_cut_nothing(queue: ChannelQueue) -> None:
    open_channel(queue)
    answer = Item(Kind.ASYNC_RESPONSE, "", 1)
    await append(queue, [Item(Kind.NOTIFICATION, "a", 0), answer, Item(Kind.NOTIFICATION, "a", 1), answer])
    assert (await take(queue)).events == 4


async def test_fields_are_added_in_a_fixed_order(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, ONE_OF_EACH)
    form = Form(
        mixed_kinds=True,
        deregistrations_as_object=True,
        include_uid=True,
        include_timestamp=True,
        include_original_ep=True,
    )
    batch = await take(queue, form=form)
    message = json.loads((await read_messages(batch))[0])
    for seq, (item, events) in enumerate(zip(ONE_OF_EACH, message.values(), strict=True), start=1):
        (event,) = events
        if item.kind is Kind.ASYNC_RESPONSE:
            assert event == json.loads(body_of(item))
            continue
        assert list(event)[-3:] == ["uid", "timestamp", "original-ep"]
        assert event["uid"] == uid(INCARNATION, EPOCH, seq)
        assert event["timestamp"] == NOW_MS
        assert event["original-ep"] == (item.original_ep or item.ep)


async def test_without_options_only_registrations_keep_their_original_ep(queue: ChannelQueue) -> None:
    open_channel(queue)
    named = Item(Kind.NOTIFICATION, "n", 0, original_ep="own-name")
    await append(queue, [named, REGISTERED, Item(Kind.REG_UPDATE, "b", 2), ONE_OF_EACH[3], ONE_OF_EACH[4]])
    message = json.loads((await read_messages(await take(queue)))[0])
    assert "original-ep" not in message["notifications"][0]
    assert message["registrations"] == [json.loads(body_of(REGISTERED))]
    assert "original-ep" not in message["reg-updates"][0]
    assert message["de-registrations"] == ["c"]
    assert message["registrations-expired"] == ["d"]


# --- leaving ------------------------------------------------------------------------------


async def test_settling_counts_each_record_once(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(10))
    assert queue.settle(1, Position(EPOCH, 4)) == 4
    assert queue.settle(1, Position(EPOCH, 4)) == 0
    assert queue.settle(1, Position(EPOCH, 2)) == 0
    assert queue.stats(1).settled_seq == 4
    assert queue.settle(1, Position(EPOCH, 1_000)) == 6
    stats = queue.stats(1)
    assert (stats.records, stats.settled_seq, stats.last_seq, stats.oldest_unix_ms) == (0, 10, 10, None)
    assert queue.totals().acked == 10
    assert_balanced(queue)


async def test_a_seq_is_given_once(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(3))
    queue.settle(1, Position(EPOCH, 3))
    await append(queue, notifications(1))
    assert (await take(queue)).first == Position(EPOCH, 4)


async def test_expiry_takes_what_is_too_old_even_in_flight(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(2), unix_ms=1_000)
    await append(queue, notifications(3, first=2), unix_ms=2_000)
    await take(queue)
    assert queue.expire(1, 1_000) is None
    assert queue.expire(1, 1_001) == Loss(
        channel=1,
        reason="expired",
        count=2,
        record_bytes=sum(map(stored_bytes, notifications(2))),
        first_seq=1,
        last_seq=2,
        from_unix_ms=1_000,
        to_unix_ms=1_000,
    )
    assert queue.stats(1).oldest_unix_ms == 2_000
    assert queue.expire(1, -5) is None
    assert queue.totals().expired == 2
    assert_balanced(queue)


async def test_the_oldest_record_can_be_parked_and_no_other(queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(3), unix_ms=1_000)
    await take(queue, events=2)
    assert queue.park(1, Position(EPOCH, 2)) is None
    assert queue.park(1, Position(EPOCH, 9)) is None
    assert queue.park(1, Position(EPOCH, 1)) == Loss(
        channel=1,
        reason="parked",
        count=1,
        record_bytes=stored_bytes(notifications(1)[0]),
        first_seq=1,
        last_seq=1,
        from_unix_ms=1_000,
        to_unix_ms=1_000,
    )
    assert queue.park(1, Position(EPOCH, 1)) is None
    assert await numbers_of(queue) == [1, 2]
    totals = queue.totals()
    assert (totals.parked, totals.acked, totals.dropped) == (1, 0, {})
    assert_balanced(queue)


async def test_what_is_behind_a_parked_record_is_not_in_flight_any_more(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    await append(queue, notifications(3))
    await take(queue)
    queue.park(1, Position(EPOCH, 1))
    appended = await append(queue, notifications(2, first=3))
    assert [(loss.first_seq, loss.count, loss.reason) for loss in appended.losses] == [(2, 1, "overflow")]


async def test_a_clock_that_falls_is_replaced_by_the_last_time(queue: ChannelQueue) -> None:
    open_channel(queue)
    open_channel(queue, 2)
    await append(queue, notifications(1), unix_ms=5_000)
    await append(queue, notifications(1), channel=2, unix_ms=4_000)
    assert queue.stats(2).oldest_unix_ms == 5_000


async def test_a_deleted_channel_begins_again_as_another(queue: ChannelQueue) -> None:
    open_channel(queue)
    with pytest.raises(ValueError, match="open"):
        open_channel(queue)
    await append(queue, notifications(4))
    assert queue.delete_channel(1) == 4
    with pytest.raises(ChannelGone):
        queue.delete_channel(1)
    with pytest.raises(ChannelGone):
        await append(queue, notifications(1))
    open_channel(queue)
    assert queue.stats(1).last_seq == 0
    assert queue.totals().deleted == 4
    assert_balanced(queue)


# --- overflow -----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", KINDS_EXACT, indirect=True)
async def test_a_full_channel_drops_its_oldest_and_says_which(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(5))
    assert (await append(queue, notifications(5))).losses == ()
    appended = await append(queue, notifications(2, first=5))
    assert appended.queued == 2
    assert appended.losses == (
        Loss(
            channel=1,
            reason="overflow",
            count=2,
            record_bytes=room_for(2),
            first_seq=1,
            last_seq=2,
            from_unix_ms=NOW_MS,
            to_unix_ms=NOW_MS,
        ),
    )
    assert await numbers_of(queue) == [2, 3, 4, 5, 6]
    assert_balanced(queue)


async def test_a_request_larger_than_the_queue_ends_with_the_newest(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    appended = await append(queue, notifications(9))
    assert appended.queued == 9
    assert appended.losses[0].count == 6
    assert await numbers_of(queue) == [6, 7, 8]
    assert queue.totals().dropped == {"overflow": 6}


async def test_what_is_in_flight_is_never_dropped(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(5))
    await append(queue, notifications(5))
    batch = await take(queue, events=2)
    before = await read_messages(batch)
    loss = (await append(queue, notifications(5, first=5))).losses[0]
    assert (loss.count, loss.first_seq, loss.last_seq) == (5, 3, 7)
    assert await read_messages(batch) == before
    assert await numbers_of(queue) == [0, 1, 7, 8, 9]
    assert_balanced(queue)


@pytest.mark.parametrize("maker", KINDS_EXACT, indirect=True)
async def test_when_all_is_in_flight_the_new_record_is_the_loss(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    await append(queue, notifications(3))
    await take(queue)
    appended = await append(queue, notifications(1, first=3))
    assert (appended.queued, appended.losses[0].first_seq) == (1, 4)
    assert queue.stats(1).last_seq == 4
    queue.release(1, Position(EPOCH, 1))
    assert (await append(queue, notifications(1, first=4))).losses[0].first_seq == 2
    assert await numbers_of(queue) == [0, 2, 4]


async def test_a_record_that_can_never_fit_spares_the_others(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    await append(queue, notifications(2))
    assert (await append(queue, notifications(1, padding=9_000))).losses[0].first_seq == 3
    await append(queue, notifications(1, first=9))
    assert await numbers_of(queue) == [0, 1, 9]


async def test_policy_reject_refuses_the_new_and_gives_no_seq(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3), overflow=Overflow.REJECT)
    assert queue.has_room(1, records_of(notifications(3)))
    assert not queue.has_room(1, records_of(notifications(4)))
    appended = await append(queue, notifications(5))
    assert (appended.queued, appended.rejected) == (3, 2)
    assert appended.losses == (
        Loss(
            channel=1,
            reason="rejected",
            count=2,
            record_bytes=room_for(2),
            first_seq=0,
            last_seq=0,
            from_unix_ms=NOW_MS,
            to_unix_ms=NOW_MS,
        ),
    )
    assert await numbers_of(queue) == [0, 1, 2]
    assert queue.stats(1).last_seq == 3
    assert queue.totals().rejected == 2
    assert queue.totals().dropped == {}
    assert_balanced(queue)


async def test_one_full_channel_does_not_refuse_for_others(queue: ChannelQueue) -> None:
    open_channel(queue, 1, queue_bytes=1, overflow=Overflow.REJECT)
    open_channel(queue, 2)
    appended = await store(queue, records_of(notifications(2)), Route(1), Route(2))
    assert (appended.queued, appended.rejected) == (2, 2)


# --- the same batch again -----------------------------------------------------------------


@pytest.mark.parametrize("mixed", [True, False])
async def test_a_batch_is_rebuilt_byte_for_byte(queue: ChannelQueue, mixed: bool) -> None:
    open_channel(queue)
    await append(queue, [*notifications(3), *ONE_OF_EACH, *notifications(3, ep="later")])
    form = Form(mixed_kinds=mixed, include_uid=True, include_timestamp=True)
    batch = await take(queue, 1, form=form, events=6)
    texts = await read_messages(batch)
    await append(queue, notifications(100))
    again = await queue.rebuild(1, batch.first, batch.last, form)
    assert again is not None
    assert await read_messages(again) == texts
    assert (again.first, again.last, again.messages) == (batch.first, batch.last, batch.messages)


async def test_a_batch_that_lost_records_is_not_rebuilt(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(6))
    await append(queue, notifications(6))
    batch = await take(queue, 1, events=4)  # 2..5
    queue.settle(1, Position(EPOCH, 1))
    assert await queue.rebuild(1, batch.first, batch.last, PLAIN, batch.events) is not None
    queue.release(1, Position(EPOCH, 3))
    await append(queue, notifications(2, first=6))  # 4 goes, from the midst
    assert await queue.rebuild(1, batch.first, batch.last, PLAIN, batch.events) is None
    with pytest.raises(PositionLost):
        await read_messages(batch)
    queue.settle(1, Position(EPOCH, 2))
    assert await queue.rebuild(1, batch.first, batch.last, PLAIN) is None


async def test_a_rebuilt_batch_is_in_flight(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3))
    await append(queue, notifications(3))
    batch = await take(queue, events=2)
    queue.release(1)
    assert await queue.rebuild(1, batch.first, batch.last, PLAIN) is not None
    await append(queue, notifications(1, first=3))
    assert await numbers_of(queue) == [0, 1, 3]


# --- answers ------------------------------------------------------------------------------

SCOPE = key_scope(1, "k_1", "/gateway/v1/events", "once")
BODY = b"a" * 32


def tell(appended: Appended) -> bytes:
    return b"queued %d, rejected %d" % (appended.queued, appended.rejected)


async def test_an_answer_says_what_the_append_did_and_is_kept_with_it(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3), overflow=Overflow.REJECT)
    assert queue.answers.begin(SCOPE, BODY, NOW_MS) == Begun()
    records = records_of(notifications(5))
    appended, ticket = append_answered(queue, records, [Route(1)], NOW_MS, SCOPE, tell)
    assert (appended.queued, appended.rejected) == (3, 2)
    if not ticket.is_durable:
        assert queue.answers.begin(SCOPE, BODY, NOW_MS) == Answered(tell(appended), ticket)
    await ticket.durable()
    assert queue.answers.begin(SCOPE, BODY, NOW_MS) == Answered(b"queued 3, rejected 2")
    assert await numbers_of(queue) == [0, 1, 2]


@pytest.mark.parametrize("routes", [[], [Route(1, array("I"))]])
async def test_an_answer_is_kept_when_nothing_was_stored(queue: ChannelQueue, routes: list[Route]) -> None:
    open_channel(queue)
    queue.answers.begin(SCOPE, BODY, NOW_MS)
    _, ticket = append_answered(queue, records_of(notifications(5)), routes, NOW_MS, SCOPE, tell)
    await ticket.durable()
    assert queue.answers.begin(SCOPE, BODY, NOW_MS) == Answered(b"queued 0, rejected 0")


async def test_an_append_that_is_refused_keeps_no_answer(queue: ChannelQueue) -> None:
    queue.answers.begin(SCOPE, BODY, NOW_MS)
    with pytest.raises(ChannelGone):
        append_answered(queue, records_of(notifications(1)), [Route(1)], NOW_MS, SCOPE, tell)
    assert queue.answers.begin(SCOPE, BODY, NOW_MS) == InFlight()
    assert queue.answers.kept == 0


# --- memory -------------------------------------------------------------------------------

LARGE = 700_000


@pytest.mark.parametrize("maker", KINDS_BOUND_BY_MEMORY, indirect=True)
async def test_when_memory_is_full_the_largest_owner_loses_its_oldest(maker: Maker) -> None:
    queue = await maker.make(EPOCH, 16 << 20)
    open_channel(queue, 1, owner=1)
    open_channel(queue, 2, owner=2)
    await append(queue, notifications(2, padding=LARGE), channel=2)
    losses = [
        loss
        for number in range(60)
        for loss in (await append(queue, notifications(1, padding=LARGE, first=number))).losses
    ]
    assert losses
    assert {(loss.channel, loss.reason) for loss in losses} == {(1, "memory")}
    assert losses[0].first_seq == 1
    kept = await numbers_of(queue)
    assert kept == list(range(60 - len(kept), 60))
    assert len(kept) == 60 - sum(loss.count for loss in losses)
    assert queue.stats(2).records == 2
    assert queue.totals().dropped == {"memory": 60 - len(kept)}
    assert queue.totals().memory_bytes <= queue.totals().memory_bytes_max
    assert_balanced(queue)


@pytest.mark.parametrize("maker", KINDS_BOUND_BY_MEMORY, indirect=True)
async def test_when_nothing_may_be_dropped_an_append_is_refused_whole(maker: Maker) -> None:
    queue = await maker.make(EPOCH, 16 << 20)
    open_channel(queue, 1)
    open_channel(queue, 2)
    number = 0
    with pytest.raises(MemoryFull):  # noqa: PT012  the append that fails is the one that no longer fits
        for number in range(60):
            records = records_of(notifications(1, padding=LARGE, first=number))
            await store(queue, records, Route(1), Route(2))
            for channel in (1, 2):
                await queue.slice(channel, None, EVERYTHING, PLAIN)
    assert 5 <= number < 30
    assert [queue.stats(channel).last_seq for channel in (1, 2)] == [number, number]
    assert_balanced(queue)
    queue.settle(1, Position(EPOCH, number))
    await append(queue, notifications(1, padding=LARGE))


# --- the end ------------------------------------------------------------------------------


async def test_a_closed_queue_does_nothing_more(maker: Maker, queue: ChannelQueue) -> None:
    open_channel(queue)
    await append(queue, notifications(1))
    batch = await take(queue)
    await maker.close(queue)
    queue.close()
    with pytest.raises(ChannelGone):
        await batch.read_into(bytearray(1_000), 0)
    with pytest.raises(Unavailable):
        await append(queue, notifications(1))
    with pytest.raises(Unavailable):
        queue.stats(1)
    with pytest.raises(Unavailable):
        queue.totals()
