"""What every queue promises with the overflow policy ``keep-latest``."""

from __future__ import annotations

import json
from array import array

import pytest
from support.one_channel import (
    EPOCH,
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
from support.queues import KINDS
from support.stored_records import Item, notifications, stored_bytes

from dispatcher.model import Kind, Notification, Overflow, Position
from dispatcher.queue.interface import ChannelQueue, Loss, Records, Route, SliceLimits
from dispatcher.queue.whole_messages import read_messages
from dispatcher.wire.canonical import record_of

pytestmark = pytest.mark.parametrize("maker", KINDS, indirect=True)


def value(path: int, ep: str = "device") -> Item:
    return Item(Kind.NOTIFICATION, ep, path)


async def test_policy_keep_latest_lets_old_values_go_from_the_oldest_on(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(6), overflow=Overflow.KEEP_LATEST)
    assert (await append(queue, [value(1), value(2), value(1), value(2), value(3), value(1)])).losses == ()
    appended = await append(queue, [value(2), value(4)])
    assert (appended.queued, appended.rejected) == (2, 0)
    assert appended.losses == (
        Loss(
            channel=1,
            reason="superseded",
            count=2,
            record_bytes=room_for(2),
            first_seq=1,
            last_seq=2,
            from_unix_ms=NOW_MS,
            to_unix_ms=NOW_MS,
        ),
    )
    assert await numbers_of(queue) == [1, 2, 3, 1, 2, 4]
    (loss,) = (await append(queue, [value(5), value(3), value(6)])).losses
    assert (loss.reason, loss.count, loss.first_seq, loss.last_seq) == ("superseded", 3, 3, 5)
    assert await numbers_of(queue) == [1, 2, 4, 5, 3, 6]
    assert queue.totals().superseded == 5
    assert queue.totals().dropped == {}
    assert_balanced(queue)


async def test_as_long_as_there_is_room_nothing_is_superseded(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(6), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1)] * 6)
    queue.settle(1, Position(EPOCH, 2))
    await append(queue, [value(1)] * 2)
    assert await numbers_of(queue) == [1] * 6
    assert queue.totals().superseded == 0


async def test_new_events_of_one_request_supersede_each_other(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1), value(2)])
    appended = await append(queue, [value(3), value(1), value(3), value(1)])
    assert appended.queued == 4
    (loss,) = appended.losses
    assert (loss.reason, loss.count, loss.first_seq, loss.last_seq) == ("superseded", 3, 1, 4)
    assert queue.stats(1).last_seq == 6
    batch = await take(queue)
    assert (batch.first, batch.last, batch.events) == (Position(EPOCH, 2), Position(EPOCH, 6), 3)


async def test_life_cycle_events_and_async_responses_are_never_superseded(queue: ChannelQueue) -> None:
    others = [Item(kind, "a", 1) for kind in Kind if kind is not Kind.NOTIFICATION]
    bytes_of_others = sum(map(stored_bytes, others))
    open_channel(queue, queue_bytes=bytes_of_others + room_for(2), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1, "a"), *others])
    await append(queue, [value(1, "a"), value(1, "a")])
    await append(queue, [value(1, "a")] * 3)
    batch = await take(queue)
    assert batch.events == len(others) + 2
    assert batch.messages[0].kinds == (*(item.kind for item in others), Kind.NOTIFICATION)
    assert queue.totals().superseded == 4


async def test_what_is_in_flight_is_never_superseded(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(5), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1), value(2), value(1), value(1), value(3)])
    batch = await take(queue, events=2)
    before = await read_messages(batch)
    await append(queue, [value(1)])
    assert await read_messages(batch) == before
    await append(queue, [value(1)] * 2)
    assert await read_messages(batch) == before
    assert await numbers_of(queue) == [1, 2, 3, 1, 1]
    await append(queue, [value(4), value(1)])
    assert await numbers_of(queue) == [2, 3, 1, 4, 1]


async def test_when_all_values_are_the_newest_the_oldest_go(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(4), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1), value(2), value(3), value(4)])
    appended = await append(queue, [value(3), value(5)])
    assert [(loss.reason, loss.first_seq, loss.count) for loss in appended.losses] == [
        ("superseded", 3, 1),
        ("overflow", 1, 1),
    ]
    assert await numbers_of(queue) == [2, 4, 3, 5]
    assert_balanced(queue)


async def test_a_record_that_can_never_fit_supersedes_nothing(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1), value(2), value(1)])
    (loss,) = (await append(queue, notifications(1, first=2, padding=9_000))).losses
    assert (loss.reason, loss.first_seq) == ("overflow", 4)
    assert await numbers_of(queue) == [1, 2, 1]


async def test_a_value_that_a_newer_one_followed_stays_old_when_that_was_dropped(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(3), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(1), value(2)])
    await take(queue)
    await append(queue, [value(1)])
    await append(queue, [value(3)])  # 1 and 2 are in flight: the newer 1 goes, which is the newest
    queue.release(1)
    (loss,) = (await append(queue, [value(4)])).losses
    assert (loss.reason, loss.first_seq) == ("superseded", 1)
    assert await numbers_of(queue) == [2, 3, 4]
    assert_balanced(queue)


async def test_names_with_escapes_are_told_apart(queue: ChannelQueue) -> None:
    names = [("a", '/"'), ("a", '/"x'), ("a", "/\\"), ("a", "/\\\\"), ('a"', "/"), ("a\\", "/"), ("ä", "/")]
    records = [record_of(Notification(ep, path, b"", "", 0)) for ep, path in names]
    twice = Records(b"".join(r.body for r in records) * 2, array("Q", [r.meta for r in records] * 2))
    stored = sum(32 + (len(record.body) + 7) // 8 * 8 for record in records)
    open_channel(queue, queue_bytes=stored, overflow=Overflow.KEEP_LATEST)
    (loss,) = (await store(queue, twice, Route(1))).losses
    assert (loss.reason, loss.count, loss.last_seq) == ("superseded", len(names), len(names))
    batch = await take(queue)
    events = json.loads((await read_messages(batch))[0])["notifications"]
    assert [(event["ep"], event["path"]) for event in events] == names


async def test_slices_and_rebuilt_batches_step_over_what_was_superseded(queue: ChannelQueue) -> None:
    open_channel(queue, queue_bytes=room_for(40), overflow=Overflow.KEEP_LATEST)
    await append(queue, [value(0 if number % 2 else number) for number in range(40)])
    await append(queue, [value(0)] * 21)
    expected = [*range(2, 40, 2), *[0] * 21]
    first = await take(queue, events=7)
    second = await take(queue, first.last.seq, events=7)
    batches = [first, second]
    everything = SliceLimits(events_max=100, bytes_max=1 << 20)
    while (batch := await queue.slice(1, batches[-1].last, everything, PLAIN)) is not None:
        batches.append(batch)  # two when one chunk of the rest was in memory and the other was not
    assert [n for batch in batches for n in numbers_in(batch)] == expected
    again = await queue.rebuild(1, second.first, second.last, PLAIN, second.events)
    assert again is not None
    assert await read_messages(again) == await read_messages(second)
    assert queue.settle(1, first.last) == 7
    assert queue.stats(1).settled_seq == second.first.seq - 1
    assert_balanced(queue)
