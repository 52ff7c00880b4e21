"""The native queue with a journal against the model, closed or killed and opened again in between.

Hypothesis runs on a thread of its own, the queue on Trio's, where its loop is.
"""

from __future__ import annotations

from copy import deepcopy
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from support.answered_append import append_answered
from support.queue_comparison import (
    CHANNELS,
    EPOCH,
    MEMORY_BYTES_MAX,
    QueueComparison,
    appended_of,
    channels,
    forms,
    items,
    limits,
)
from support.stored_records import Item, at_once, notifications, records_of

from dispatcher.core.gap_list import GapList
from dispatcher.core.idempotency import Answered, Begun, KeyScope, key_scope
from dispatcher.model import Durability, Overflow, Position
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import Appended, Form, FrozenBatch, QueueOptions, Route, SliceLimits
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import open_durable_queue
from dispatcher.queue.whole_messages import read_messages

BODY = b"b" * 32
SIZES = JournalSizes(segment_bytes=4 << 20, group_bytes_max=(4 << 20) - 4096, allowance_bytes=8 << 20)


def told(appended: Appended) -> bytes:
    """An answer."""
    return b"%d" % appended.queued


class Journaled:
    """Where a queue with a journal lives: on the Trio thread, its loop running."""

    def __init__(self, nursery: trio.Nursery, folder: Path, durability: Durability) -> None:
        self._nursery = nursery
        self._folder = folder
        self._durability = durability
        self._examples = 0
        self._epoch = EPOCH

    async def call(self, function: Any, *arguments: Any) -> Any:
        result = function(*arguments)
        return await result if iscoroutine(result) else result

    async def begin(self) -> NativeQueue:
        """A new queue."""
        self._examples += 1
        self._epoch = EPOCH - 1
        return await self._open({})

    async def end(self) -> None:
        """The loop ends, with a write that is under way, and without a last one."""
        self._scope.cancel()
        await self._ended.wait()
        self._queue.close()

    async def reopen(self, known: dict[int, QueueOptions], is_killed: bool) -> NativeQueue:
        """The queue again, with the channels that are known."""
        if not is_killed:
            await self.drain()
        await self.end()
        queue = await self._open(known)
        for number, options in known.items():
            queue.open_channel(number, options)
        return queue

    async def drain(self) -> None:
        """All that was done until now is on the disk."""
        assert self._queue.log is not None
        await self._queue.log.commit.drain()

    async def _open(self, known: dict[int, QueueOptions]) -> NativeQueue:
        async def next_epoch() -> int:
            self._epoch += 1
            return self._epoch

        folder = self._folder / str(self._examples)
        folder.mkdir(exist_ok=True)
        self._queue, report = await open_durable_queue(
            folder,
            self._durability,
            MEMORY_BYTES_MAX,
            known,
            disk=Disk(SIZES),
            next_epoch=next_epoch,
            new_journal_id=lambda: 1,
            now_unix_ms=lambda: 0,
        )
        assert not report.journal.is_damaged
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._run, self._queue, self._scope, self._ended)
        return self._queue

    @staticmethod
    async def _run(queue: NativeQueue, scope: trio.CancelScope, ended: trio.Event) -> None:
        assert queue.log is not None
        with scope:
            await queue.log.commit.run()
        ended.set()


class ReopenedComparison(QueueComparison):
    """The same with a journal; what a kill may take is acknowledgements, and nothing else."""

    def __init__(self, home: Journaled) -> None:
        self.home = home
        self.keys = 0
        self.frozen: dict[int, FrozenBatch] = {}
        super().__init__()

    def teardown(self) -> None:
        trio.from_thread.run(self.home.end)
        self.model.close()

    def open_native(self) -> NativeQueue:
        return trio.from_thread.run(self.home.begin)

    def call(self, function: Any, *arguments: Any) -> Any:
        return trio.from_thread.run(self.home.call, function, *arguments)

    def both(self, name: str, *arguments: Any) -> tuple[Any, Any]:
        answers = super().both(name, *arguments)
        if name == "append" and not isinstance(answers[0], str):
            self.call(answers[0][1].durable)
        if name == "open_channel":  # a channel that the journal has not heard of begins a new epoch
            trio.from_thread.run(self.home.drain)
        if name == "delete_channel":
            self.frozen.pop(arguments[0], None)
        return answers

    @rule(channel=channels, batch=st.lists(items, max_size=4))
    def append_once(self, channel: int, batch: list[Item]) -> None:
        scope = self.scope_of(self.keys)
        self.keys += 1
        for queue in (self.native, self.model):
            assert self.call(queue.answers.begin, scope, BODY, self.unix_ms) == Begun()
        routes = [Route(channel)] if channel in self.native.rings.channels else []
        native, model = (
            self.answer(append_answered, queue, records_of(batch), routes, self.unix_ms, scope, told)
            for queue in (self.native, self.model)
        )
        if not isinstance(native, str):
            self.call(native[1].durable)
        assert appended_of(native) == appended_of(model)

    @rule(
        is_killed=st.booleans(),
        refused=st.dictionaries(channels, limits, max_size=2),
        form=forms,
        acked=st.dictionaries(channels, st.integers(0, 60)),
    )
    def reopen(
        self, is_killed: bool, refused: dict[int, SliceLimits], form: Form, acked: dict[int, int]
    ) -> None:
        for channel, bounds in refused.items():
            self.freeze(channel, bounds, form)
        for channel, seq in acked.items():
            self.settle(channel, seq, is_behind_gap=True, of_batch=False)
        known = {number: channel.options for number, channel in self.model._channels.items()}
        self.native = trio.from_thread.run(self.home.reopen, known, is_killed)
        self.batches = []
        model, self.model = self.model, MemoryQueue(self.model.epoch, MEMORY_BYTES_MAX)
        self.model.answers = model.answers
        for number, channel in model._channels.items():
            self.find_again(number, channel, is_killed)
        assert self.native.appender.received_unix_ms <= model._received_unix_ms
        self.model._received_unix_ms = self.native.appender.received_unix_ms
        self.find_answers()
        if self.native.epoch != self.model.epoch:
            self.begin_epoch()
        self.open_all()

    @initialize()
    def open_all(self) -> None:
        """Channels that are not there begin, with something in them."""
        for channel in set(CHANNELS) - set(self.model._channels):
            overflow = list(Overflow)[channel - 1]
            self.open_channel(channel, 3_000 * channel, overflow, keeps_gaps=channel != 2)
            self.append(notifications(15), {channel: None}, 1, as_bytearray=False)

    def freeze(self, channel: int, bounds: SliceLimits, form: Form) -> None:
        """The receiver refuses what comes first: it is to be sent again as it was."""
        batch, model = self.both("slice", channel, None, bounds, form)
        if isinstance(batch, str) or batch is None:
            return
        self.take(channel, form, batch, model)
        self.frozen[channel] = FrozenBatch(first=batch.first, last=batch.last, events=batch.events, form=form)
        self.call(self.native.freeze, channel, self.frozen[channel])
        trio.from_thread.run(self.home.drain)

    def begin_epoch(self) -> None:
        """What is there keeps the numbers of its epoch; the model, which knows one alone, begins empty."""
        for channel in self.model._channels:
            everything = SliceLimits(events_max=100_000, bytes_max=1 << 30)
            form = Form(mixed_kinds=True, include_uid=True)
            after = None
            while (answers := self.both("slice", channel, after, everything, form))[0] is not None:
                self.take(channel, form, *answers)
                after = answers[0].last
            self.settle(channel, self.model._channels[channel].last_seq, is_behind_gap=False, of_batch=False)
            self.call(self.native.freeze, channel, None)
            self.take_over_gaps(channel)
        trio.from_thread.run(self.home.drain)
        self.batches = []
        self.frozen = {}
        assert self.native.epoch > self.model.epoch
        self.model.epoch = self.native.epoch

    def find_answers(self) -> None:
        for key in range(self.keys):
            kept = [
                self.call(queue.answers.begin, self.scope_of(key), BODY, self.unix_ms)
                for queue in (self.native, self.model)
            ]
            assert isinstance(kept[0], Answered)
            assert kept[0] == kept[1]

    def find_again(self, number: int, channel: Any, is_killed: bool) -> None:
        """A channel of the model as it is opened again: nothing is in flight but a frozen batch."""
        again = self.model._channels[number] = channel.copy()
        again.in_flight_seq = 0
        if is_killed:
            self.take_over_gaps(number)
        elif channel.gaps is not None:
            again.gaps = GapList(channel.gaps)
        found = self.call(self.native.stats, number)
        self.model._ledger.recovered(found.records, found.record_bytes)
        first_seq = again.records[0].seq if again.records else again.last_seq + 1
        came_back = self.call(self.native.settle, number, Position(self.model.epoch, first_seq - 1))
        assert is_killed or not came_back
        self.model._ledger.acked(came_back, found.record_bytes - again.record_bytes)

        frozen = self.call(self.native.frozen, number)
        expected = self.frozen.get(number)
        if frozen is None and expected is not None:
            arguments = (number, expected.first, expected.last, expected.form, expected.events)
            assert self.call(self.model.rebuild, *arguments) is None
            del self.frozen[number]
            again.in_flight_seq = 0
        elif frozen is not None:
            assert frozen == expected
            answers = self.both("rebuild", number, frozen.first, frozen.last, frozen.form, frozen.events)
            if frozen.events:
                self.take(number, frozen.form, *answers)
            else:  # gaps alone end where the present epoch is, which the model is not in yet
                assert self.call(read_messages, answers[0]) == at_once(read_messages(answers[1]))

    def take_over_gaps(self, number: int) -> None:
        """The queue knows better what a kill took, or what stands in an older epoch."""
        self.model._channels[number].gaps = deepcopy(self.native.rings.channels[number].gaps)

    @staticmethod
    def scope_of(key: int) -> KeyScope:
        return key_scope(1, "k_1", "/", str(key))


@pytest.mark.slow
@pytest.mark.parametrize("durability", [Durability.DISK, Durability.PROCESS])
async def test_a_queue_that_is_opened_again_goes_on_as_if_it_had_never_been_closed(
    tmp_path: Path, durability: Durability
) -> None:
    chosen = settings(max_examples=12, stateful_step_count=50, deadline=None)
    async with trio.open_nursery() as nursery:
        home = Journaled(nursery, tmp_path, durability)
        await trio.to_thread.run_sync(
            lambda: run_state_machine_as_test(lambda: ReopenedComparison(home), settings=chosen)
        )
