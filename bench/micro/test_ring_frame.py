"""The native core alone: append, plan, write, settle, at three depths.

    python -m pytest bench/micro/test_ring_frame.py --benchmark-only

An event is a notification of about 150 bytes.  Each benchmark checks its result, so
that none is fast by doing nothing.  The three depths of one benchmark should agree
(P7: within 1.1 x): a queue may not cost by what lies in it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher.model import Overflow, Position
from dispatcher.queue.interface import Form, QueueOptions, Records, Route, SliceLimits
from dispatcher.queue.native import NativeBatch, NativeQueue

BATCH = 10_000
DEPTHS = (10_000, 100_000, 1_000_000)
LIMITS = SliceLimits(events_max=BATCH, bytes_max=8 << 20)
FORMS = {
    "plain": Form(mixed_kinds=True),
    "all-fields": Form(mixed_kinds=True, include_uid=True, include_timestamp=True, include_original_ep=True),
}
PIECE_BYTES = 256 << 10
NOW_MS = 1_767_225_600_123


def notifications(count: int) -> Records:
    """Records of 146 bytes each."""
    meta = array("Q")
    block = bytearray()
    for number in range(count):
        body = (
            f'{{"ep":"{number:032x}","path":"/3303/0/5700","ct":"text/plain",'
            f'"payload":"{"A" * 40}","max-age":0}}'
        ).encode()
        block += body
        meta.append(len(body) | 32 << 40)
    return Records(bytes(block), meta)


@pytest.fixture(scope="module")
def records() -> Records:
    return notifications(BATCH)


@pytest.fixture
def queue() -> Iterator[NativeQueue]:
    made = NativeQueue(1, 1 << 30)
    options = QueueOptions(incarnation=1, owner=1, queue_bytes=1 << 30, overflow=Overflow.DROP_OLDEST)
    made.open_channel(1, options)
    yield made
    made.close()


def fill(queue: NativeQueue, records: Records, depth: int) -> None:
    for _ in range(depth // BATCH):
        queue.append(records, [Route(1)], NOW_MS)


def at_once(coroutine: Any) -> Any:
    """Memory is never cold: nothing here waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("memory was waited for")


def read(batch: NativeBatch, buffer: bytearray) -> int:
    total = 0
    while length := at_once(batch.read_into(buffer, 0)):
        total += length
    return total


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("form", FORMS)
def test_slice_and_frame_10000(
    benchmark: Any, queue: NativeQueue, records: Records, depth: int, form: str
) -> None:
    fill(queue, records, depth)
    buffer = bytearray(PIECE_BYTES)

    def slice_and_frame() -> tuple[NativeBatch, int]:
        batch = at_once(queue.slice(1, None, LIMITS, FORMS[form]))
        return batch, read(batch, buffer)

    batch, length = benchmark(slice_and_frame)
    assert (batch.first, batch.last, length) == (Position(1, 1), Position(1, BATCH), batch.bytes_count)
    if form == "plain":
        assert length == len(records.block) + BATCH - 1 + len('{"notifications":[]}')


@pytest.mark.parametrize("depth", DEPTHS)
def test_append_and_settle_10000(benchmark: Any, queue: NativeQueue, records: Records, depth: int) -> None:
    fill(queue, records, depth)
    settled = 0

    def append_and_settle() -> None:
        nonlocal settled
        queue.append(records, [Route(1)], NOW_MS)
        settled += queue.settle(1, Position(1, settled + BATCH))

    benchmark(append_and_settle)
    stats = queue.stats(1)
    assert stats.records == depth
    assert stats.last_seq == depth + settled


@pytest.mark.parametrize("depth", DEPTHS)
def test_append_10000_to_a_full_channel(
    benchmark: Any, queue: NativeQueue, records: Records, depth: int
) -> None:
    fill(queue, records, depth)
    queue_bytes = queue.stats(1).record_bytes
    queue.delete_channel(1)
    options = QueueOptions(incarnation=1, owner=1, queue_bytes=queue_bytes, overflow=Overflow.DROP_OLDEST)
    queue.open_channel(1, options)
    fill(queue, records, depth)
    appended = benchmark(lambda: queue.append(records, [Route(1)], NOW_MS)[0])
    assert appended.losses[0].count == BATCH
    assert queue.stats(1).records == depth


def test_one_event_in_and_out(benchmark: Any, queue: NativeQueue) -> None:
    one = notifications(1)
    routes = [Route(1)]
    buffer = bytearray(PIECE_BYTES)

    def in_and_out() -> int:
        queue.append(one, routes, NOW_MS)
        batch = at_once(queue.slice(1, None, LIMITS, FORMS["plain"]))
        length: int = at_once(batch.read_into(buffer, 0))
        queue.settle(1, batch.last)
        return length

    assert benchmark(in_and_out) == len(one.block) + len('{"notifications":[]}')
    assert queue.totals().records == 0
