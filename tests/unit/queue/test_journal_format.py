"""Two readers of one journal agree: the native one, and one written from FORMAT.md alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio
from support.journal_reader import Journal, StoredGap, read_journal
from support.stored_records import notifications, records_of

from dispatcher.errors import JournalBehind
from dispatcher.model import GAP_REASONS, Durability, Form, Overflow, Position, SliceLimits
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import QueueOptions, Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import open_durable_queue
from dispatcher.queue.whole_messages import read_messages
from dispatcher.wire.uid import uid

KNOWN = {
    number: QueueOptions(
        incarnation=100 + number,
        owner=1,
        queue_bytes=30_000,
        overflow=overflow,
        keeps_gaps=number != 2,
    )
    for number, overflow in enumerate(Overflow, 1)
}
SIZES = JournalSizes(segment_bytes=256 << 10, group_bytes_max=128 << 10, allowance_bytes=256 << 10)
FORM = Form(mixed_kinds=True, include_uid=True, include_timestamp=True, include_gaps=True)


async def opened(folder: Path) -> NativeQueue:
    async def next_epoch() -> int:
        return 1

    queue, _ = await open_durable_queue(
        folder,
        Durability.DISK,
        64 << 20,
        KNOWN,
        disk=Disk(SIZES),
        next_epoch=next_epoch,
        new_journal_id=lambda: 99,
        now_unix_ms=lambda: 1,
    )
    for number, options in KNOWN.items():
        queue.open_channel(number, options)
    return queue


Events = list[tuple[str, str, int]]
Gaps = list[dict[str, object]]


async def delivered(queue: NativeQueue, channel: int) -> tuple[Events, Gaps]:
    found: Events = []
    gaps: Gaps = []
    after: Position | None = None
    while (
        batch := await queue.slice(channel, after, SliceLimits(events_max=10_000, bytes_max=1 << 30), FORM)
    ) is not None:
        for text in await read_messages(batch):
            message = json.loads(text)
            found += [(e["path"], e["uid"], e["timestamp"]) for e in message.get("notifications", ())]
            gaps += message.get("gaps", ())
        after = batch.last
    queue.release(channel)
    return found, gaps


def expected(journal: Journal, channel: int) -> tuple[Events, Gaps]:
    state = journal.channels[channel, 100 + channel]
    events = [
        (
            json.loads(record.body)["path"],
            uid(100 + channel, record.epoch, record.seq),
            record.received_unix_ms,
        )
        for record in state.live()
    ]
    return events, [_told(gap) for gap in state.gaps]


def _told(gap: StoredGap) -> dict[str, object]:
    return {
        "first_seq": gap.behind_seq + 1,
        "last_seq": gap.last_seq or gap.behind_seq,
        "count": gap.count,
        "reason": GAP_REASONS[gap.reason - 1],
        "from_timestamp": gap.from_unix_ms,
        "to_timestamp": gap.to_unix_ms,
    }


async def live_a_little(queue: NativeQueue, dice: random.Random, now_ms: int) -> None:
    """Appends, slices, acks and releases, each in a group of its own or not."""
    assert queue.log is not None
    for turn in range(60):
        channel = dice.choice((1, 2, 3))
        match dice.randrange(6):
            case 0:
                queue.settle(
                    channel, Position(queue.epoch, queue.stats(channel).settled_seq + dice.randrange(40))
                )
            case 1:
                await queue.slice(channel, None, SliceLimits(events_max=10, bytes_max=1 << 20), FORM)
            case 2:
                queue.release(channel)
            case _:
                records = records_of(notifications(dice.randrange(1, 60), first=dice.randrange(60)))
                routes = [Route(number) for number in (1, 2, 3) if dice.random() < 0.7]
                try:
                    _, ticket = queue.append(records, routes, now_ms + turn)
                except JournalBehind:  # its disk is small
                    continue
                if dice.random() < 0.6:
                    await ticket.durable()


@pytest.mark.parametrize("seed", range(4))
async def test_both_readers_find_the_same_records(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    for life in range(4):
        queue = await opened(tmp_path)
        assert queue.log is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.log.commit.run)
            with trio.fail_after(20):
                await live_a_little(queue, dice, 1_000 * life + 1)
                await queue.log.commit.drain()
            nursery.cancel_scope.cancel()
        queue.close()
        journal = read_journal(tmp_path)
        assert journal.damaged == []
        assert journal.is_clean_end
        queue = await opened(tmp_path)
        for channel in KNOWN:
            assert await delivered(queue, channel) == expected(journal, channel)
            assert queue.stats(channel).last_seq == journal.channels[channel, 100 + channel].last_seq
        queue.close()
