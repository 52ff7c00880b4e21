"""What only the native queue does: large batches, damage in memory, the cost of an empty channel."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from support.http_servers import eventually
from support.stored_records import notifications, records_of, stored_bytes

from dispatcher import limits
from dispatcher.errors import CorruptRecord, MemoryFull
from dispatcher.model import Overflow, Position
from dispatcher.queue.interface import Form, Loss, QueueOptions, Records, Route, SliceLimits
from dispatcher.queue.native import NativeQueue, ffi, lib
from dispatcher.queue.whole_messages import read_messages

EPOCH = 1
NOW_MS = 1_767_225_600_123
EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
PLAIN = Form(mixed_kinds=True)
OPTIONS = QueueOptions(incarnation=1, owner=1, queue_bytes=50_000_000, overflow=Overflow.DROP_OLDEST)


@pytest.fixture
def queue() -> Iterator[NativeQueue]:
    made = NativeQueue(EPOCH, 128 << 20)
    made.open_channel(1, OPTIONS)
    yield made
    made.close()


def append(queue: NativeQueue, count: int, *, first: int = 0, padding: int = 0) -> tuple[Loss, ...]:
    records = records_of(notifications(count, first=first, padding=padding))
    return queue.append(records, [Route(1)], NOW_MS)[0].losses


async def numbers_of(queue: NativeQueue) -> list[int]:
    batch = await queue.slice(1, None, EVERYTHING, PLAIN)
    if batch is None:
        return []
    events = json.loads((await read_messages(batch))[0])["notifications"]
    return [int(event["path"].rsplit("/", 1)[1]) for event in events]


async def test_twenty_thousand_records_fit_into_one_batch(queue: NativeQueue) -> None:
    append(queue, 20_000, padding=40)
    assert await numbers_of(queue) == list(range(20_000))


async def test_a_channel_emptied_and_filled_again_keeps_no_memory(queue: NativeQueue) -> None:
    for turn in range(50):
        append(queue, 2_000, padding=40)
        assert queue.settle(1, Position(EPOCH, 2_000 * (turn + 1))) == 2_000
    assert queue.totals().memory_bytes <= 32 << 20
    assert queue.totals().records == 0


async def test_memory_that_lies_free_for_a_while_goes_back_to_the_system(
    queue: NativeQueue, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.rings.backing.run)
        await trio.testing.wait_all_tasks_blocked()
        for turn in range(2):  # emptied and filled within the time: nothing is asked for anew
            append(queue, 44, padding=1_000_000)
            held = queue.totals().memory_bytes
            assert held > 44_000_000
            assert queue.settle(1, Position(EPOCH, 44 * (turn + 1))) == 44
            await trio.sleep(limits.QUEUE_MEMORY_IDLE_S * 0.8)
            assert queue.totals().memory_bytes == held
        await trio.sleep(2 * limits.QUEUE_MEMORY_IDLE_S)
        assert 0 < queue.totals().memory_bytes <= 32 << 20
        nursery.cancel_scope.cancel()


async def test_memory_is_made_ready_before_a_queue_that_grows_needs_it(queue: NativeQueue) -> None:
    slab = 2 << 20
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.rings.backing.run)
        await trio.testing.wait_all_tasks_blocked()
        append(queue, 1, padding=1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        assert queue.totals().memory_bytes <= slab  # a little brings no more than it takes
        append(queue, 6, first=1, padding=1_000_000)
        taken = queue.totals().memory_bytes
        await eventually(lambda: queue.totals().memory_bytes >= taken + 2 * slab)  # a thread's work
        ready = queue.totals().memory_bytes
        append(queue, 4, first=7, padding=1_000_000)
        assert queue.totals().memory_bytes - ready < slab  # what comes next goes there
        nursery.cancel_scope.cancel()
    assert await numbers_of(queue) == list(range(11))


def test_a_hundred_thousand_empty_channels_take_no_pool_memory() -> None:
    queue = NativeQueue(EPOCH, 1 << 30)
    for channel in range(100_000):
        queue.open_channel(channel, OPTIONS)
    assert queue.totals().memory_bytes == 0
    queue.append(records_of(notifications(1)), [Route(5)], NOW_MS)
    assert queue.totals().memory_bytes == 4_096
    assert "100000 channels" in repr(queue)
    queue.close()
    assert repr(queue) == "<NativeQueue closed>"


def test_a_quiet_channel_costs_four_kibibytes(queue: NativeQueue) -> None:
    for channel in range(2, 102):
        queue.open_channel(channel, OPTIONS)
        queue.append(records_of(notifications(3)), [Route(channel)], NOW_MS)
    assert queue.totals().memory_bytes == 100 * 4_096


@pytest.mark.parametrize(
    "records",
    [
        Records(b'{"ep":"a"}', array("Q", [10])),  # a notification without a device
        Records(b'{"ep":"a"}', array("Q", [9 | 1 << 40])),  # a byte left over
        Records(b'{"ep":"a"}', array("Q", [11 | 1 << 40])),  # a byte too few
        Records(b'{"ep":"a"}', array("Q", [10 | 1 << 40 | 6 << 56])),  # no such kind
        Records(b'{"ep":"a"}', array("Q", [10 | 1 << 40 | 5 << 24])),  # a tail that reaches into the head
    ],
)
def test_records_that_contradict_themselves_are_refused(queue: NativeQueue, records: Records) -> None:
    with pytest.raises(ValueError, match="agree"):
        queue.append(records, [Route(1)], NOW_MS)
    assert queue.totals().queued == 0


def test_routes_that_contradict_themselves_are_refused(queue: NativeQueue) -> None:
    records = records_of(notifications(3))
    for routes in (
        [Route(1), Route(1)],
        [Route(1, array("I", [1, 1]))],
        [Route(1, array("I", [2, 1]))],
        [Route(1, array("I", [3]))],
    ):
        with pytest.raises(ValueError, match="agree"):
            queue.append(records, routes, NOW_MS)
    assert queue.stats(1).last_seq == 0


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        NativeQueue(EPOCH, 0)
    queue = NativeQueue(EPOCH, 1 << 20)
    with pytest.raises(ValueError, match="range"):
        queue.open_channel(
            1, QueueOptions(incarnation=1, owner=1, queue_bytes=0, overflow=Overflow.DROP_OLDEST)
        )
    queue.close()


def test_more_memory_than_there_are_addresses_is_refused() -> None:
    with pytest.raises((MemoryFull, ValueError)):
        NativeQueue(EPOCH, 1 << 60)


async def test_many_routes_need_no_more_than_one_call(queue: NativeQueue) -> None:
    for channel in range(2, 300):
        queue.open_channel(channel, OPTIONS)
    routes = [Route(channel, array("I", [channel % 3])) for channel in range(1, 300)]
    assert queue.append(records_of(notifications(3)), routes, NOW_MS)[0].queued == 299
    assert await numbers_of(queue) == [1]


def damage(queue: NativeQueue, seq: int, at: int) -> None:
    """Flip a bit of a stored record, as failing memory would."""
    span = ffi.new("nd_span *")
    assert lib.nd_ring_span(queue.rings.channels[1].ring, seq, ffi.NULL, span) == lib.ND_OK
    ffi.cast("uint8_t *", span.bytes)[at] ^= 1


async def test_a_damaged_record_is_never_sent_and_stops_nobody(queue: NativeQueue) -> None:
    append(queue, 5)
    damage(queue, 3, 60)
    batch = await queue.slice(1, None, EVERYTHING, PLAIN)
    assert batch is not None
    with pytest.raises(CorruptRecord):
        await read_messages(batch)
    assert await numbers_of(queue) == [0, 1, 3, 4]
    (loss,) = append(queue, 1, first=5)
    record_bytes = stored_bytes(notifications(1)[0])
    assert loss == Loss(
        channel=1, reason="corrupt", count=1, record_bytes=record_bytes, first_seq=3, last_seq=3
    )
    assert queue.totals().dropped == {"corrupt": 1}
    assert queue.totals().records == queue.stats(1).records == 5


async def test_records_behind_a_damaged_length_are_lost_by_name(queue: NativeQueue) -> None:
    append(queue, 5)
    damage(queue, 2, 3)  # 16 MiB longer
    assert await numbers_of(queue) == [0]
    assert append(queue, 1, first=9)[0].count == 4
    assert await numbers_of(queue) == [0, 9]
    damage(queue, 1, 3)
    assert queue.settle(1, Position(EPOCH, 1)) == 1
    totals = queue.totals()
    assert totals.queued == totals.acked + sum(totals.dropped.values()) + totals.records
    assert totals.records == queue.stats(1).records


async def test_a_batch_says_what_it_is(queue: NativeQueue) -> None:
    append(queue, 3)
    batch = await queue.slice(1, None, EVERYTHING, PLAIN)
    assert repr(batch).startswith("<NativeBatch 1/1..3: 3 events in 1 messages")
