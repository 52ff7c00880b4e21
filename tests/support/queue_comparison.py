"""Random operations on the native queue and on its model: whatever is done to both, both answer alike."""

from __future__ import annotations

import json
from array import array
from inspect import iscoroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import assume
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from support.stored_records import Item, at_once, number_of, records_of

from dispatcher.errors import ChannelGone, PositionLost
from dispatcher.model import KIND_NAMES, Kind, Overflow, Position
from dispatcher.queue.interface import Form, QueueOptions, Route, SliceLimits
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.native import NativeQueue, ffi, lib
from dispatcher.queue.whole_messages import read_messages

EPOCH = 3
CHANNELS = (1, 2, 3)
MEMORY_BYTES_MAX = 64 << 20  # never met: memory is bounded in another test

paddings = st.sampled_from((0, 0, 0, 3, 100, 100, 4_000, 9_000, 300_000))
queue_sizes = st.sampled_from((90, 700, 3_000, 20_000, 1_000_000))
eps = st.sampled_from(("a", "b", "urn:dev:c", "0" * 32))
names = st.sampled_from(("", "", "greenhouse-7"))
kinds = st.sampled_from((*Kind, Kind.NOTIFICATION, Kind.NOTIFICATION))
numbers = st.integers(0, 3) | st.integers(0, 9_999)  # few resources, and many
items = st.builds(Item, kinds, eps, numbers, paddings, names)
forms = st.builds(
    Form,
    mixed_kinds=st.booleans(),
    deregistrations_as_object=st.booleans(),
    include_uid=st.booleans(),
    include_timestamp=st.booleans(),
    include_original_ep=st.booleans(),
    include_gaps=st.booleans(),
)
limits = st.builds(
    SliceLimits,
    events_max=st.sampled_from((1, 2, 5, 100)),
    bytes_max=st.sampled_from((1, 150, 500, 3_000, 1_000_000)),
)
channels = st.sampled_from(CHANNELS)


class QueueComparison(RuleBasedStateMachine):
    """Runs both queues side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.native = self.open_native()
        self.model = MemoryQueue(EPOCH, MEMORY_BYTES_MAX)
        self.batches: list[tuple[int, Any, Any, Form]] = []
        self.unix_ms = 1_700_000_000_000
        self.last_seqs: dict[tuple[int, int], int] = {}
        self.lives = dict.fromkeys(CHANNELS, 0)

    def teardown(self) -> None:
        self.native.close()
        self.model.close()

    def open_native(self) -> NativeQueue:
        return NativeQueue(EPOCH, MEMORY_BYTES_MAX)

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a function where the queue lives."""
        result = function(*arguments)
        return at_once(result) if iscoroutine(result) else result

    def answer(self, function: Any, *arguments: Any) -> Any:
        """What it returns, or the name of what it raises."""
        try:
            return self.call(function, *arguments)
        except (ChannelGone, PositionLost, ValueError) as error:
            return type(error).__name__

    def both(self, name: str, *arguments: Any) -> tuple[Any, Any]:
        """The answers of both."""
        return tuple(self.answer(getattr(queue, name), *arguments) for queue in (self.native, self.model))

    def same(self, name: str, *arguments: Any) -> Any:
        native, model = self.both(name, *arguments)
        assert native == model, name
        return native

    @rule(
        channel=channels,
        queue_bytes=queue_sizes,
        overflow=st.sampled_from(Overflow),
        keeps_gaps=st.sampled_from((True, True, False)),
    )
    def open_channel(self, channel: int, queue_bytes: int, overflow: Overflow, keeps_gaps: bool) -> None:
        options = QueueOptions(
            incarnation=0xABCD_0000 + channel + self.lives[channel] * 16,
            owner=channel % 2,
            queue_bytes=queue_bytes,
            overflow=overflow,
            keeps_gaps=keeps_gaps,
        )
        self.same("open_channel", channel, options)

    @precondition(lambda self: self.native.rings.channels)
    @rule(
        batch=st.lists(items, max_size=12),
        picks=st.dictionaries(channels, st.none() | st.sets(st.integers(0, 11)), min_size=1),
        later_ms=st.sampled_from((-5, 0, 0, 1, 1_000)),
        as_bytearray=st.booleans(),
    )
    def append(
        self, batch: list[Item], picks: dict[int, set[int] | None], later_ms: int, as_bytearray: bool
    ) -> None:
        self.unix_ms += later_ms
        records = records_of(batch)
        if as_bytearray:
            records = type(records)(bytearray(records.block), records.meta)
        routes = [
            Route(channel, None if pick is None else array("I", sorted(i for i in pick if i < len(batch))))
            for channel, pick in picks.items()
            if channel in self.native.rings.channels
        ]
        answers = self.both("append", records, routes, self.unix_ms)
        assert appended_of(answers[0]) == appended_of(answers[1])

    @rule(channel=channels, batch=st.lists(items, max_size=4))
    def has_room(self, channel: int, batch: list[Item]) -> None:
        self.same("has_room", channel, records_of(batch))

    @rule(channel=channels, is_wanted=st.booleans())
    def keep_gaps(self, channel: int, is_wanted: bool) -> None:
        self.same("keep_gaps", channel, is_wanted)
        self.batches = [one for one in self.batches if one[0] != channel]  # their gaps may be forgotten

    @rule(
        channel=channels,
        after=st.integers(-1, 60),
        is_behind_gap=st.booleans(),
        limits=limits,
        form=forms,
        from_last=st.booleans(),
    )
    def slice(
        self, channel: int, after: int, is_behind_gap: bool, limits: SliceLimits, form: Form, from_last: bool
    ) -> None:
        position = None if after < 0 else Position(self.model.epoch, after, is_behind_gap)
        if from_last:
            ends = [batch.last for number, batch, _, _ in self.batches if number == channel]
            position = ends[-1] if ends else None
        # Behind a position that nobody was given may stand what a batch before it has told already.
        is_kept = from_last or position is None or not form.include_gaps
        self.take(channel, form, *self.both("slice", channel, position, limits, form), is_kept=is_kept)

    @rule(channel=channels, limits=limits, form=forms)
    def peek(self, channel: int, limits: SliceLimits, form: Form) -> None:
        self.same("peek", channel, limits, form)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), count_events=st.booleans())
    def rebuild(self, data: st.DataObject, count_events: bool) -> None:
        number, batch, model, form = data.draw(st.sampled_from(self.batches))
        before = self.answer(read_messages, batch)
        assert before == self.answer(read_messages, model)
        events = batch.events if count_events else None
        answers = self.both("rebuild", number, batch.first, batch.last, form, events)
        self.take(number, form, *answers)
        if isinstance(before, list) and not isinstance(answers[0], str):
            assert self.call(read_messages, answers[0]) == before

    def take(self, channel: int, form: Form, native: Any, model: Any, *, is_kept: bool = True) -> None:
        if native is None or isinstance(native, str):
            assert native == model
            return
        assert (native.first, native.last, native.events) == (model.first, model.last, model.events)
        assert (native.messages, native.bytes_count) == (model.messages, model.bytes_count)
        messages = self.call(read_messages, native)
        assert messages == at_once(read_messages(model))
        assert [len(message) for message in messages] == [m.bytes_count for m in native.messages]
        _check_device_order(model._records, messages)
        if is_kept:
            self.batches = [*self.batches[-5:], (channel, native, model, form)]

    @precondition(lambda self: self.batches)
    @rule(
        data=st.data(), room=st.sampled_from((0, 1, 40, 200, 1_000, 100_000)), offset=st.sampled_from((0, 7))
    )
    def read(self, data: st.DataObject, room: int, offset: int) -> None:
        _, native, model, _ = data.draw(st.sampled_from(self.batches))
        buffers = [bytearray(b"x" * (offset + room)) for _ in range(2)]
        answers = [
            self.answer(batch.read_into, buffer, offset)
            for batch, buffer in zip((native, model), buffers, strict=True)
        ]
        assert answers[0] == answers[1]
        assert buffers[0] == buffers[1]
        buffers[0].append(0)  # nothing holds on to it

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        _, native, model, _ = data.draw(st.sampled_from(self.batches))
        self.call(native.rewind)
        model.rewind()

    @rule(channel=channels, seq=st.integers(0, 80), is_behind_gap=st.booleans(), of_batch=st.booleans())
    def settle(self, channel: int, seq: int, is_behind_gap: bool, of_batch: bool) -> None:
        position = Position(self.model.epoch, seq, is_behind_gap)
        if of_batch:
            ends = [batch.last for number, batch, _, _ in self.batches if number == channel]
            assume(ends)
            position = ends[0]
        self.same("settle", channel, position)

    @rule(channel=channels, seq=st.integers(-1, 60), is_behind_gap=st.booleans())
    def release(self, channel: int, seq: int, is_behind_gap: bool) -> None:
        self.same("release", channel, None if seq < 0 else Position(self.model.epoch, seq, is_behind_gap))

    @rule(channel=channels, ahead=st.integers(0, 1))
    def park(self, channel: int, ahead: int) -> None:
        stats = self.same("stats", channel)
        settled_seq = 0 if isinstance(stats, str) else stats.settled_seq
        self.same("park", channel, Position(self.model.epoch, settled_seq + 1 + ahead))

    @rule(channel=channels, age_ms=st.sampled_from((-1, 0, 1, 500, 2_000, 10**13)))
    def expire(self, channel: int, age_ms: int) -> None:
        self.same("expire", channel, self.unix_ms - age_ms)

    @rule(channel=channels)
    def delete_channel(self, channel: int) -> None:
        if channel in self.native.rings.channels:
            self.lives[channel] += 1
        self.same("delete_channel", channel)

    @invariant()
    def books_agree_and_balance(self) -> None:
        native, model = self.both("totals")
        assert _without_memory(native) == _without_memory(model)
        gone = native.acked + native.expired + native.superseded + native.parked + native.deleted
        gone += sum(native.dropped.values())
        assert native.queued + native.recovered == gone + native.records
        stats = [self.same("stats", number) for number in self.native.rings.channels]
        assert native.records == sum(s.records for s in stats)
        assert native.record_bytes == sum(s.record_bytes for s in stats)

    @invariant()
    def every_ring_is_sound(self) -> None:
        for number, channel in self.native.rings.channels.items():
            assert self.call(lib.nd_ring_check, channel.ring) == lib.ND_OK
            stats = self.call(self.native.stats, number)
            assert stats.settled_seq <= stats.last_seq
            life = (number, self.lives[number])
            assert stats.last_seq >= self.last_seqs.get(life, 0)
            self.last_seqs[life] = stats.last_seq

    @invariant()
    def memory_goes_back(self) -> None:
        pool = ffi.new("nd_pool_stats_t *")
        self.call(lib.nd_pool_stats, self.native.pool, pool)
        if self.call(self.native.totals).records == 0:
            assert pool.bytes_out == 0


def appended_of(answer: Any) -> Any:
    return answer if isinstance(answer, str) else answer[0]


def _without_memory(totals: Any) -> tuple[Any, ...]:
    places = ("memory", "scratch", "journal")
    return tuple(getattr(totals, name) for name in totals.__struct_fields__ if not name.startswith(places))


def _check_device_order(records: Any, messages: list[bytes]) -> None:
    """INV-4: each device's events leave in the order in which they came."""
    arrived: dict[str, list[Kind]] = {}
    numbers: dict[str, list[int | None]] = {}
    for record in records:
        arrived.setdefault(record.ep.decode(), []).append(record.kind)
    left: dict[str, list[Kind]] = {}
    for message in messages:
        for name, events in json.loads(message).items():
            if name == "gaps":
                continue
            kind = Kind(KIND_NAMES.index(name))
            for event in events:
                ep, number = number_of(kind, event)
                left.setdefault(ep, []).append(kind)
                numbers.setdefault(ep, []).append(number)
    assert {ep: left[ep] for ep in arrived if ep} == {ep: arrived[ep] for ep in arrived if ep}
    for ep, given in numbers.items():
        came = [
            number_of(record.kind, json.loads(record.body))[1]
            for record in records
            if record.ep.decode() == ep
        ]
        if ep:
            assert [(g, c) for g, c in zip(given, came, strict=True) if g is not None and g != c] == []
