"""Queues that keep the latest, with a part on the disk: what is there gives way as if it were in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.cold_queues import ColdQueue, cool, small_queue
from support.journal_folder import Folder, contents, options
from support.one_channel import EPOCH, NOW_MS, PLAIN, assert_balanced, open_channel, room_for
from support.patient_append import append_patiently
from support.stored_records import Item, notifications, records_of

from dispatcher.errors import StorageFull
from dispatcher.model import Kind, Overflow, Position, SliceLimits
from dispatcher.queue.interface import Appended, ChannelQueue, Loss, Route
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_residency import Reach
from dispatcher.queue.whole_messages import read_messages

KINDS = (*Kind, *[Kind.NOTIFICATION] * 8)


def any_item(dice: random.Random) -> Item:
    padding = dice.choice((0, 0, 40, 900, 6_000))
    return Item(dice.choice(KINDS), dice.choice("ab"), dice.randrange(12), padding)


def without_times(appended: Appended) -> list[Loss]:
    """Of a cold record no more is known than when others of its chunk were received."""
    return [replace(loss, from_unix_ms=0, to_unix_ms=0) for loss in appended.losses]


class Both:
    """The queue with most of it on the disk, and the model; whatever is done to both, both answer alike."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._cold = ColdQueue(EPOCH, 8 << 20)
        self._queues: tuple[ChannelQueue, ...] = (self._cold, MemoryQueue(EPOCH, 8 << 20))
        queue_bytes = dice.choice((2_000, 9_000, 60_000))
        for queue in self._queues:
            open_channel(queue, queue_bytes=queue_bytes, overflow=Overflow.KEEP_LATEST)

    def close(self) -> None:
        for queue in self._queues:
            queue.close()

    def append(self) -> None:
        records = records_of([any_item(self._dice) for _ in range(self._dice.randint(1, 12))])
        is_cooled = self._dice.random() < 0.7
        cold, model = self._queues
        append = self._cold.append if is_cooled else super(ColdQueue, self._cold).append
        seen = without_times(append(records, [Route(1)], NOW_MS)[0])
        assert seen == without_times(model.append(records, [Route(1)], NOW_MS)[0])
        assert_balanced(cold)

    async def warm(self, records_max: int = 5) -> None:
        assert self._cold.residency is not None
        reach = Reach(
            first_seq=self._settled() + 1 + self._dice.randrange(6) * (records_max < 100),
            records_max=records_max,
        )
        assert await self._cold.residency.fetch(self._cold.rings.channels[1], reach)

    async def slice(self) -> None:
        await self.warm(1_000)  # all: else a batch may end before what is cold
        after = self._settled() + self._dice.randrange(6)
        bounds = SliceLimits(events_max=self._dice.choice((1, 4, 100)), bytes_max=1 << 20)
        batches = [await queue.slice(1, Position(EPOCH, after), bounds, PLAIN) for queue in self._queues]
        if self._dice.random() < 0.5:
            self._cold.cool()  # and read again, by who writes the messages
        texts = [None if batch is None else await read_messages(batch) for batch in batches]
        assert texts[0] == texts[1]

    async def settle(self) -> None:
        upto = Position(EPOCH, self._settled() + self._dice.randrange(8))
        assert len({queue.settle(1, upto) for queue in self._queues}) == 1

    async def release(self) -> None:
        for queue in self._queues:
            queue.release(1, Position(EPOCH, self._settled()))

    async def cool(self) -> None:
        self._cold.cool()

    def _settled(self) -> int:
        first, second = (queue.stats(1) for queue in self._queues)
        assert (first.records, first.record_bytes) == (second.records, second.record_bytes)
        assert (first.last_seq, first.settled_seq) == (second.last_seq, second.settled_seq)
        return first.settled_seq

    async def live(self, turns: int) -> None:
        for _ in range(turns):
            self.append()
            await self._dice.choice((self.slice, self.warm, self.settle, self.release, self.cool))()
        await self.release()
        await self.slice()
        figures = [queue.totals() for queue in self._queues]
        assert figures[0].superseded == figures[1].superseded > 0
        assert figures[0].dropped == figures[1].dropped


@pytest.mark.parametrize("seed", range(60))
async def test_what_is_cold_gives_way_as_in_the_model(seed: int) -> None:
    both = Both(random.Random(seed))
    try:
        await both.live(turns=60)
    finally:
        both.close()


async def append_all(queue: NativeQueue, items: list[Item]) -> Appended:
    appended, ticket = await append_patiently(queue, records_of(items), [Route(1)], NOW_MS)
    await ticket.durable()
    return appended


async def test_the_newest_of_each_resource_survives_in_a_queue_larger_than_memory(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channel(queue, queue_bytes=30_000_000, overflow=Overflow.KEEP_LATEST)
        losses = []
        for first in range(0, 60_000, 100):  # 60 MB, of 12,000 resources with 5 values each
            items = notifications(100, padding=900, first=first % 12_000)
            losses += (await append_all(queue, items)).losses
        assert {loss.reason for loss in losses} == {"superseded"}
        assert queue.totals().scratch_bytes > 0
        assert_balanced(queue)
        numbers = [int(path.rsplit("/", 1)[1]) for path, *_ in await contents(queue)]
        assert set(numbers) == set(range(12_000))
        assert numbers[-12_000:] == list(range(12_000))


async def test_what_was_superseded_in_the_cold_does_not_come_back_after_a_kill(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    known = {1: options(queue_bytes=room_for(40), overflow=Overflow.KEEP_LATEST)}
    async with folder.opened(known, is_killed=True) as (queue, _):
        for values in (notifications(20), notifications(20)):
            await append_all(queue, values)
        cool(queue)
        appended = await append_all(queue, notifications(20))
        assert [(loss.reason, loss.count, loss.last_seq) for loss in appended.losses] == [
            ("superseded", 20, 20)
        ]
        cool(queue)
        before = await contents(queue)
        assert len(before) == 40
    async with folder.opened(known) as (queue, report):
        assert report.records == 40
        assert await contents(queue) == before


async def test_when_no_more_can_be_known_of_the_cold_publishers_are_told(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channel(queue, queue_bytes=1 << 30, overflow=Overflow.KEEP_LATEST)
        with pytest.raises(StorageFull, match="memory_bytes"):  # noqa: PT012  the one that no longer fits
            for first in range(0, 1_000_000, 1_000):
                await append_all(queue, notifications(1_000, first=first))
        last_seq = queue.stats(1).last_seq
        queue.settle(1, Position(1, last_seq - 1_000))
        await append_all(queue, notifications(1_000))
        assert queue.stats(1).last_seq == last_seq + 1_000
        assert queue.totals().dropped == {}
