"""The native queue when memory runs out: what goes is named, what is in flight stays, requests are whole."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.stored_records import at_once, notifications, records_of

from dispatcher.errors import MemoryFull
from dispatcher.model import Overflow, Position
from dispatcher.queue.interface import Form, Loss, QueueOptions, Route, SliceLimits
from dispatcher.queue.native import NativeQueue, ffi, lib
from dispatcher.queue.whole_messages import read_messages

EPOCH = 1
CHANNELS = (1, 2, 3, 4)
MEMORY_BYTES_MAX = 6 << 20  # three slabs
PLAIN = Form(mixed_kinds=True)
channels = st.sampled_from(CHANNELS)


class FullMemory(RuleBasedStateMachine):
    """Four channels of two owners share far too little memory."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = NativeQueue(EPOCH, MEMORY_BYTES_MAX)
        for channel in CHANNELS:
            options = QueueOptions(
                incarnation=channel, owner=channel % 2, queue_bytes=3 << 20, overflow=Overflow.DROP_OLDEST
            )
            self.queue.open_channel(channel, options)
        self.gone = dict.fromkeys(CHANNELS, 0)
        self.in_flight: dict[int, list[tuple[Any, list[bytes]]]] = {channel: [] for channel in CHANNELS}

    def teardown(self) -> None:
        self.queue.close()

    def note(self, losses: tuple[Loss, ...]) -> None:
        for loss in losses:
            assert loss.reason in ("memory", "overflow")
            assert 1 <= loss.first_seq <= loss.last_seq
            assert loss.count <= loss.last_seq - loss.first_seq + 1
            self.gone[loss.channel] += loss.count

    @rule(
        chosen=st.sets(channels, min_size=1),
        count=st.integers(1, 30),
        padding=st.sampled_from((10, 5_000, 60_000, 300_000)),
    )
    def append(self, chosen: set[int], count: int, padding: int) -> None:
        first = {channel: self.queue.stats(channel).last_seq for channel in chosen}
        records = records_of(notifications(count, padding=padding))
        try:
            appended, _ = self.queue.append(records, [Route(channel) for channel in chosen], 1_000)
        except MemoryFull:
            assert {channel: self.queue.stats(channel).last_seq for channel in chosen} == first
        else:
            self.note(appended.losses)
            assert appended.queued == count * len(chosen)

    @rule(channel=channels, events=st.integers(1, 20))
    def slice(self, channel: int, events: int) -> None:
        batches = self.in_flight[channel]
        after = batches[-1][0].last if batches else None
        limits = SliceLimits(events_max=events, bytes_max=1 << 20)
        batch = at_once(self.queue.slice(channel, after, limits, PLAIN))
        if batch is not None:
            batches.append((batch, at_once(read_messages(batch))))

    @rule(channel=channels)
    def settle_first(self, channel: int) -> None:
        if self.in_flight[channel]:
            batch, _ = self.in_flight[channel].pop(0)
            settled = self.queue.settle(channel, batch.last)
            assert settled == batch.events
            self.gone[channel] += settled

    @rule(channel=channels)
    def release(self, channel: int) -> None:
        self.in_flight[channel].clear()
        self.queue.release(channel)

    @invariant()
    def what_is_in_flight_reads_as_before(self) -> None:
        for batches in self.in_flight.values():
            for batch, texts in batches:
                assert at_once(read_messages(batch)) == texts
                assert len(json.loads(texts[0])["notifications"]) == batch.events

    @invariant()
    def every_record_is_accounted_for(self) -> None:
        unreported = dict.fromkeys(CHANNELS, 0)
        for loss in self.queue.rings.untold:
            unreported[loss.channel] += loss.count
        for number, channel in self.queue.rings.channels.items():
            assert lib.nd_ring_check(channel.ring) == lib.ND_OK
            stats = self.queue.stats(number)
            assert stats.last_seq == self.gone[number] + unreported[number] + stats.records
        totals = self.queue.totals()
        assert totals.queued == totals.acked + sum(totals.dropped.values()) + totals.records
        assert totals.memory_bytes <= totals.memory_bytes_max

    @invariant()
    def chunks_go_back(self) -> None:
        pool = ffi.new("nd_pool_stats_t *")
        lib.nd_pool_stats(self.queue.pool, pool)
        assert (pool.bytes_out == 0) == (self.queue.totals().records == 0)


TestFullMemory = FullMemory.TestCase
TestFullMemory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_everything_can_be_used_again_after_memory_was_full() -> None:
    queue = NativeQueue(EPOCH, MEMORY_BYTES_MAX)
    options = QueueOptions(incarnation=1, owner=1, queue_bytes=1 << 30, overflow=Overflow.DROP_OLDEST)
    queue.open_channel(1, options)
    for padding in (10, 100_000, 5_000, 60_000, 10):
        losses: list[Loss] = []
        while not losses:
            losses += queue.append(records_of(notifications(20, padding=padding)), [Route(1)], 1)[0].losses
        assert {loss.reason for loss in losses} == {"memory"}
    queue.settle(1, Position(EPOCH, queue.stats(1).last_seq))
    assert queue.totals().records == 0
    queue.close()


def test_a_request_that_can_never_fit_drops_nothing_of_others() -> None:
    queue = NativeQueue(EPOCH, MEMORY_BYTES_MAX)
    for channel in (1, 2):
        options = QueueOptions(
            incarnation=1, owner=channel, queue_bytes=1 << 30, overflow=Overflow.DROP_OLDEST
        )
        queue.open_channel(channel, options)
    queue.append(records_of(notifications(5)), [Route(1)], 1)
    with pytest.raises(MemoryFull):
        queue.append(records_of(notifications(20, padding=900_000)), [Route(2)], 1)
    held = queue.append(records_of(notifications(4, padding=900_000)), [Route(2)], 1)[0]
    assert held.losses == ()
    everything = SliceLimits(events_max=100, bytes_max=1 << 30)
    assert at_once(queue.slice(2, None, everything, PLAIN)).events == 4
    with pytest.raises(MemoryFull):
        queue.append(records_of(notifications(4, padding=900_000)), [Route(1)], 1)
    assert queue.totals().dropped == {}
    queue.close()
