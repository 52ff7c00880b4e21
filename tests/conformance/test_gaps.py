"""What every queue tells a receiver of records that it does not get (``dispatcher.queue.interface``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.stored_records import Item, notifications, records_of, stored_bytes

from dispatcher import limits
from dispatcher.model import Kind, Overflow, Position
from dispatcher.queue.interface import (
    Appended,
    Batch,
    ChannelQueue,
    Form,
    FrozenBatch,
    QueueOptions,
    Route,
    SliceLimits,
)
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.whole_messages import read_messages

EPOCH = 5
NOW_MS = 1_767_225_600_123
EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
TELLING = Form(mixed_kinds=True, include_gaps=True)
SILENT = Form(mixed_kinds=True)
RECORD_BYTES = stored_bytes(notifications(1)[0])


@pytest.fixture(params=[NativeQueue, MemoryQueue])
def queue(request: pytest.FixtureRequest) -> Iterator[ChannelQueue]:
    made = request.param(EPOCH, 64 << 20)
    yield made
    made.close()


def open_channel(
    queue: ChannelQueue,
    channel: int = 1,
    *,
    records_max: int = 5,
    overflow: Overflow = Overflow.DROP_OLDEST,
    keeps_gaps: bool = True,
) -> None:
    queue.open_channel(
        channel,
        QueueOptions(
            incarnation=9,
            owner=1,
            queue_bytes=records_max * RECORD_BYTES,
            overflow=overflow,
            keeps_gaps=keeps_gaps,
        ),
    )


def append(queue: ChannelQueue, first: int, last: int, channel: int = 1) -> Appended:
    """Events numbered like their seqs, each received a millisecond after the one before."""
    done = None
    for number in range(first, last + 1):
        records = records_of(notifications(1, first=number))
        done, _ = queue.append(records, [Route(channel)], NOW_MS + number)
    assert done is not None
    return done


def told(first: int, last: int, count: int | None = None, reason: str = "overflow") -> dict[str, Any]:
    return {
        "first_seq": first,
        "last_seq": last,
        "count": last - first + 1 if count is None else count,
        "reason": reason,
        "from_timestamp": NOW_MS + first,
        "to_timestamp": NOW_MS + last,
    }


async def take(
    queue: ChannelQueue,
    after: Position | None = None,
    form: Form = TELLING,
    *,
    bounds: SliceLimits = EVERYTHING,
) -> tuple[Batch, dict[str, Any]]:
    batch = await queue.slice(1, after, bounds, form)
    assert batch is not None
    (message,) = await read_messages(batch)
    assert len(message) == batch.bytes_count == batch.messages[0].bytes_count
    return batch, json.loads(message)


def numbers(message: dict[str, Any]) -> list[int]:
    return [int(event["path"].rsplit("/", 1)[1]) for event in message.get("notifications", ())]


async def test_a_parked_record_is_a_gap_and_what_was_told_in_front_of_it_is_told_again(
    queue: ChannelQueue,
) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    batch, message = await take(queue, bounds=SliceLimits(events_max=1, bytes_max=1 << 20))
    assert (message["gaps"], numbers(message)) == ([told(1, 3)], [4])
    assert queue.park(1, batch.last) is not None
    _, message = await take(queue)
    assert (message["gaps"], numbers(message)) == ([told(1, 3), told(4, 4, reason="parked")], [5, 6, 7, 8])


# --- where a gap is told ------------------------------------------------------------------


async def test_a_message_begins_with_the_gap_in_front_of_its_events(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    batch, message = await take(queue)
    assert list(message) == ["gaps", "notifications"]
    assert message["gaps"] == [told(1, 3)]
    assert numbers(message) == [4, 5, 6, 7, 8]
    assert (batch.first, batch.last, batch.events) == (Position(EPOCH, 4), Position(EPOCH, 8), 5)


async def test_a_slice_is_cut_before_a_record_with_a_gap_in_front_of_it(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 4)
    held, first = await take(queue, bounds=SliceLimits(events_max=2, bytes_max=1 << 20))
    assert "gaps" not in first
    append(queue, 5, 8)  # 3 to 5 are dropped, behind what is in flight
    queue.release(1)
    batch, message = await take(queue)
    assert numbers(message) == [1, 2]
    assert "gaps" not in message
    batch, message = await take(queue, batch.last)
    assert message["gaps"] == [told(3, 5)]
    assert numbers(message) == [6, 7, 8]
    assert held.events == 2


async def test_a_gap_with_nothing_behind_it_is_told_alone(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 3)
    queue.expire(1, NOW_MS + 10)
    batch, message = await take(queue)
    assert message == {"gaps": [told(1, 3, reason="expired")]}
    assert (batch.events, batch.messages[0].events, batch.messages[0].kinds) == (0, 0, ())
    assert await queue.slice(1, batch.last, EVERYTHING, TELLING) is None
    queue.settle(1, batch.last)
    assert queue.stats(1).gaps == 0
    assert await queue.slice(1, None, EVERYTHING, TELLING) is None


async def test_refused_records_are_told_between_the_seqs_where_they_were_refused(queue: ChannelQueue) -> None:
    open_channel(queue, overflow=Overflow.REJECT)
    append(queue, 1, 7)
    batch, message = await take(queue)
    assert numbers(message) == [1, 2, 3, 4, 5]
    assert "gaps" not in message
    alone, message = await take(queue, batch.last)
    times = {"from_timestamp": NOW_MS + 6, "to_timestamp": NOW_MS + 7}
    assert message == {"gaps": [{"first_seq": 6, "last_seq": 5, "count": 2, "reason": "rejected", **times}]}
    queue.settle(1, batch.last)  # what stands before it is confirmed, and it is not
    assert queue.stats(1).gaps == 1
    queue.settle(1, alone.last)
    assert queue.stats(1).gaps == 0


async def test_refused_records_are_told_before_the_next_that_was_not(queue: ChannelQueue) -> None:
    open_channel(queue, overflow=Overflow.REJECT)
    append(queue, 1, 7)
    queue.settle(1, Position(EPOCH, 5))
    append(queue, 8, 8)
    _, message = await take(queue)
    assert ([gap["count"] for gap in message["gaps"]], numbers(message)) == ([2], [8])


async def test_values_that_newer_ones_took_the_place_of_are_told_before_what_stayed(
    queue: ChannelQueue,
) -> None:
    open_channel(queue, overflow=Overflow.KEEP_LATEST)
    for turn, number in enumerate((1, 2, 1, 3, 1), 1):
        queue.append(records_of(notifications(1, first=number)), [Route(1)], NOW_MS + turn)
    queue.append(records_of(notifications(2, first=4)), [Route(1)], NOW_MS + 6)
    _, message = await take(queue)
    assert message["gaps"] == [told(1, 3, count=2, reason="superseded")]
    assert numbers(message) == [2, 3, 1, 4, 5]


async def test_every_kind_has_its_message_and_the_first_begins_with_the_gaps(queue: ChannelQueue) -> None:
    open_channel(queue, records_max=3)
    items = [*notifications(3), Item(Kind.ASYNC_RESPONSE, "", 7)]
    for item in items:
        queue.append(records_of([item]), [Route(1)], NOW_MS)
    form = Form(mixed_kinds=False, include_gaps=True)
    batch = await queue.slice(1, None, EVERYTHING, form)
    assert batch is not None
    messages = [json.loads(text) for text in await read_messages(batch)]
    assert [list(message) for message in messages] == [["gaps", "notifications"], ["async-responses"]]
    assert [message.events for message in batch.messages] == [2, 1]


async def test_the_bound_of_bytes_counts_gaps_too_and_one_record_goes_always(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    whole, _ = await take(queue)
    queue.release(1)
    fitting, _ = await take(queue, bounds=SliceLimits(events_max=100, bytes_max=whole.bytes_count))
    queue.release(1)
    assert fitting.events == 5
    shorter, _ = await take(queue, bounds=SliceLimits(events_max=100, bytes_max=whole.bytes_count - 1))
    queue.release(1)
    assert shorter.events == 4
    least, message = await take(queue, bounds=SliceLimits(events_max=100, bytes_max=1))
    assert (least.events, message["gaps"]) == (1, [told(1, 3)])


@pytest.mark.parametrize("room", [1, 30, 150, 10_000])
async def test_pieces_of_any_size_make_the_same_message(queue: ChannelQueue, room: int) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    batch, message = await take(queue)
    text = b""
    buffer = bytearray(room)
    while count := await batch.read_into(buffer, 0):
        text += buffer[:count]
    assert json.loads(text) == message


# --- how long it is told ------------------------------------------------------------------


async def test_a_gap_is_told_again_as_it_was_until_it_is_settled(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    batch, before = await take(queue)
    queue.release(1)
    append(queue, 9, 10)  # 4 and 5 go as well
    _, again = await take(queue)
    assert before["gaps"] == [told(1, 3)]
    assert again["gaps"] == [told(1, 3), told(4, 5)]
    queue.settle(1, Position(EPOCH, 10))
    assert queue.stats(1).gaps == 0
    append(queue, 11, 12)
    _, after = await take(queue, batch.last)
    assert "gaps" not in after


async def test_a_frozen_batch_is_rebuilt_with_its_gaps_while_others_come(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 7)
    batch = await queue.slice(1, None, SliceLimits(events_max=2, bytes_max=1 << 20), TELLING)
    assert batch is not None
    before = await read_messages(batch)
    append(queue, 8, 12)  # dropped behind it: 5 to 9
    again = await queue.rebuild(1, batch.first, batch.last, TELLING, batch.events)
    assert again is not None
    assert await read_messages(again) == before
    _, following = await take(queue, batch.last)
    assert following["gaps"] == [told(5, 9)]


async def test_a_frozen_batch_of_gaps_alone_is_rebuilt_while_records_come(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 3)
    queue.expire(1, NOW_MS + 10)
    batch, before = await take(queue)
    queue.freeze(1, FrozenBatch(first=batch.first, last=batch.last, events=0, form=TELLING))
    append(queue, 4, 12)
    again = await queue.rebuild(1, batch.first, batch.last, TELLING, 0)
    assert again is not None
    assert await read_messages(again) == await read_messages(batch)
    assert json.loads((await read_messages(again))[0]) == before
    queue.settle(1, batch.last)
    assert await queue.rebuild(1, batch.first, batch.last, TELLING, 0) is None
    _, following = await take(queue, batch.last)
    assert following["gaps"] == [told(4, 7)]


async def test_what_expired_in_flight_and_arrived_after_all_is_no_gap(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 4)
    batch, _ = await take(queue, bounds=SliceLimits(events_max=2, bytes_max=1 << 20))
    loss = queue.expire(1, NOW_MS + 4)
    assert loss is not None
    assert (loss.count, loss.first_seq, loss.last_seq) == (3, 1, 3)
    _, message = await take(queue, batch.last)
    assert message["gaps"] == [told(3, 3, reason="expired")]
    queue.settle(1, batch.last)
    queue.release(1)
    _, message = await take(queue)
    assert message["gaps"] == [told(3, 3, reason="expired")]


async def test_what_expired_in_flight_and_never_arrived_is_told(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 4)
    await take(queue, bounds=SliceLimits(events_max=2, bytes_max=1 << 20))
    queue.expire(1, NOW_MS + 4)
    queue.release(1)
    _, message = await take(queue)
    assert message["gaps"] == [told(1, 2, reason="expired"), told(3, 3, reason="expired")]
    assert numbers(message) == [4]


async def test_the_gaps_of_a_channel_are_bounded_and_their_counts_exact(queue: ChannelQueue) -> None:
    open_channel(queue, records_max=10_000)
    for number in range(1, 301):  # each is sent, and expires before it is confirmed
        append(queue, number, number)
        batch, _ = await take(queue, form=SILENT)
        queue.release(1)
        queue.expire(1, NOW_MS + number + 1)
    assert queue.stats(1).gaps <= limits.GAPS_PER_CHANNEL_MAX
    _, message = await take(queue)
    assert sum(gap["count"] for gap in message["gaps"]) == 300
    assert batch.events == 1


# --- and to whom not ----------------------------------------------------------------------


async def test_a_channel_that_did_not_ask_is_told_nothing_and_keeps_nothing(queue: ChannelQueue) -> None:
    open_channel(queue, keeps_gaps=False)
    append(queue, 1, 8)
    assert queue.stats(1).gaps == 0
    for form in (SILENT, TELLING):
        _, message = await take(queue, form=form)
        assert list(message) == ["notifications"]
        queue.release(1)


async def test_a_gap_of_one_channel_is_never_in_anothers(queue: ChannelQueue) -> None:
    for channel in (1, 2):
        open_channel(queue, channel)
    append(queue, 1, 8, channel=2)
    append(queue, 1, 2, channel=1)
    _, message = await take(queue)
    assert list(message) == ["notifications"]
    assert (queue.stats(1).gaps, queue.stats(2).gaps) == (0, 1)
    queue.delete_channel(2)
    open_channel(queue, 2)
    assert queue.stats(2).gaps == 0


async def test_who_does_not_want_gaps_any_more_has_them_forgotten(queue: ChannelQueue) -> None:
    open_channel(queue)
    append(queue, 1, 8)
    queue.keep_gaps(1, True)
    assert queue.stats(1).gaps == 1
    queue.keep_gaps(1, False)
    assert queue.stats(1).gaps == 0
    queue.keep_gaps(1, True)
    append(queue, 9, 9)
    _, message = await take(queue)
    assert message["gaps"] == [told(4, 4)]  # from then on
