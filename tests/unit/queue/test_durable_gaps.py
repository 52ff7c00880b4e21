"""Gaps over a restart, and a damaged journal: what is missing has a name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.stored_records import notifications, records_of, stored_bytes

from dispatcher.model import Durability, Form, Overflow, Position, SliceLimits
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import Batch, FrozenBatch, QueueOptions, Route
from dispatcher.queue.native import NativeQueue, ffi, lib
from dispatcher.queue.native_recovery import RecoveryReport, open_durable_queue
from dispatcher.queue.whole_messages import read_messages

EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
FORM = Form(mixed_kinds=True, include_gaps=True)
NOW_MS = 1_767_225_600_123
RECORD_BYTES = stored_bytes(notifications(1)[0])
BLOCK = 4096


def options(
    number: int,
    *,
    records_max: int = 1_000,
    overflow: Overflow = Overflow.DROP_OLDEST,
    keeps_gaps: bool = True,
) -> QueueOptions:
    return QueueOptions(
        incarnation=70 + number,
        owner=1,
        queue_bytes=records_max * RECORD_BYTES,
        overflow=overflow,
        keeps_gaps=keeps_gaps,
    )


@asynccontextmanager
async def opened(
    folder: Path, *known: QueueOptions, is_killed: bool = False, sizes: JournalSizes | None = None
) -> AsyncIterator[tuple[NativeQueue, RecoveryReport]]:
    """Channels 1, 2, ... of a folder; a kill ends them without a last write."""

    async def next_epoch() -> int:
        return 1  # the queue takes a higher one when the journal had it before

    channels = dict(enumerate(known or (options(1),), 1))
    queue, report = await open_durable_queue(
        folder,
        Durability.DISK,
        64 << 20,
        channels,
        disk=Disk() if sizes is None else Disk(sizes),
        next_epoch=next_epoch,
        new_journal_id=lambda: 12345,
        now_unix_ms=lambda: NOW_MS,
    )
    assert queue.log is not None
    try:
        for number, its in channels.items():
            queue.open_channel(number, its)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.log.commit.run)
            with trio.fail_after(20):
                yield queue, report
                if not is_killed:
                    await queue.log.commit.drain()
            nursery.cancel_scope.cancel()
    finally:
        queue.close()


async def publish(queue: NativeQueue, first: int, last: int, channel: int = 1) -> None:
    """One group of events numbered like their seqs."""
    records = records_of(notifications(last - first + 1, first=first))
    _, ticket = queue.append(records, [Route(channel)], NOW_MS)
    await ticket.durable()


async def take(queue: NativeQueue, after: Position | None = None, channel: int = 1) -> tuple[Batch, Any]:
    batch = await queue.slice(channel, after, EVERYTHING, FORM)
    assert batch is not None
    return batch, json.loads((await read_messages(batch))[0])


async def everything(queue: NativeQueue, channel: int = 1) -> list[int | tuple[str, int, int, int]]:
    """All that is told, in order: events by their numbers, gaps by reason, count, first and last."""
    found: list[int | tuple[str, int, int, int]] = []
    after: Position | None = None
    while (batch := await queue.slice(channel, after, EVERYTHING, FORM)) is not None:
        message = json.loads((await read_messages(batch))[0])
        found += [(g["reason"], g["count"], g["first_seq"], g["last_seq"]) for g in message.get("gaps", ())]
        found += [int(event["path"].rsplit("/", 1)[1]) for event in message.get("notifications", ())]
        after = batch.last
    queue.release(channel)
    return found


def spoil(folder: Path, group: int, segment: str = "00000001.seg") -> None:
    """Damage the group of this number."""
    path = folder / segment
    spoiled = bytearray(path.read_bytes())
    for at in range(BLOCK, len(spoiled), BLOCK):
        if spoiled[at : at + 4] == b"NDGR" and int.from_bytes(spoiled[at + 24 : at + 32], "little") == group:
            spoiled[at + 60] ^= 1
            path.write_bytes(spoiled)
            return
    raise AssertionError(f"there is no group {group}")


def balances(queue: NativeQueue) -> bool:
    totals = queue.totals()
    gone = totals.acked + totals.expired + totals.deleted + sum(totals.dropped.values())
    return totals.queued + totals.recovered == gone + totals.records


# --- gaps over a restart ------------------------------------------------------------------


async def test_gaps_survive_a_restart_with_their_reasons_counts_and_times(tmp_path: Path) -> None:
    small = options(1, records_max=5)
    async with opened(tmp_path, small) as (queue, _):
        for number in range(1, 9):
            await publish(queue, number, number)
        _, before = await take(queue)
    assert before["gaps"] == [
        {
            "first_seq": 1,
            "last_seq": 3,
            "count": 3,
            "reason": "overflow",
            "from_timestamp": NOW_MS,
            "to_timestamp": NOW_MS,
        }
    ]
    async with opened(tmp_path, small) as (queue, _):
        assert (await take(queue))[1] == before
        queue.settle(1, Position(queue.epoch, 8))
    async with opened(tmp_path, small) as (queue, _):
        assert queue.stats(1).gaps == 0
        assert await everything(queue) == []


async def test_a_kill_forgets_no_gap_that_was_durable(tmp_path: Path) -> None:
    small = options(1, records_max=5)
    async with opened(tmp_path, small, is_killed=True) as (queue, _):
        await publish(queue, 1, 8)
        await publish(queue, 9, 9)
        await publish(queue, 10, 10)
    async with opened(tmp_path, small) as (queue, _):
        assert await everything(queue) == [("overflow", 5, 1, 5), 6, 7, 8, 9, 10]


async def test_refused_records_are_remembered_where_they_were_refused(tmp_path: Path) -> None:
    full = options(1, records_max=5, overflow=Overflow.REJECT)
    async with opened(tmp_path, full) as (queue, _):
        await publish(queue, 1, 7)
    async with opened(tmp_path, full) as (queue, _):
        assert await everything(queue) == [1, 2, 3, 4, 5, ("rejected", 2, 6, 5)]


async def test_a_frozen_batch_has_the_same_gaps_after_a_restart(tmp_path: Path) -> None:
    small = options(1, records_max=5)
    async with opened(tmp_path, small) as (queue, _):
        await publish(queue, 1, 8)
        batch, _ = await take(queue)
        before = await read_messages(batch)
        queue.freeze(1, FrozenBatch(first=batch.first, last=batch.last, events=batch.events, form=FORM))
    async with opened(tmp_path, small) as (queue, _):
        await publish(queue, 9, 20)  # all of them dropped: what is frozen is in flight
        frozen = queue.frozen(1)
        assert frozen is not None
        again = await queue.rebuild(1, frozen.first, frozen.last, frozen.form, frozen.events)
        assert again is not None
        assert await read_messages(again) == before
        queue.settle(1, again.last)
        assert await everything(queue) == [("overflow", 12, 9, 20)]


async def test_a_frozen_batch_of_gaps_alone_goes_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await publish(queue, 1, 3)
        queue.expire(1, NOW_MS + 1)
        batch, _ = await take(queue)
        before = await read_messages(batch)
        queue.freeze(1, FrozenBatch(first=batch.first, last=batch.last, events=0, form=FORM))
    async with opened(tmp_path) as (queue, _):
        await publish(queue, 4, 5)
        frozen = queue.frozen(1)
        assert frozen is not None
        again = await queue.rebuild(1, frozen.first, frozen.last, frozen.form, frozen.events)
        assert again is not None
        assert await read_messages(again) == before


async def test_who_did_not_ask_has_no_gaps_in_the_journal_either(tmp_path: Path) -> None:
    silent = options(1, records_max=5, keeps_gaps=False)
    async with opened(tmp_path, silent) as (queue, _):
        await publish(queue, 1, 8)
    async with opened(tmp_path, options(1, records_max=5)) as (queue, _):
        assert await everything(queue) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("is_busy", [False, True])
async def test_gaps_outlive_the_segment_that_they_were_written_in(tmp_path: Path, is_busy: bool) -> None:
    sizes = JournalSizes(segment_bytes=256 << 10, group_bytes_max=128 << 10, allowance_bytes=1 << 20)
    known = (options(1), options(2, records_max=100_000, keeps_gaps=False))
    async with opened(tmp_path, *known, sizes=sizes) as (queue, _):
        await publish(queue, 1, 3)
        queue.expire(1, NOW_MS + 1)
        last = 3
        for first in range(1, 20_001, 500):
            await publish(queue, first, first + 499, channel=2)
            queue.settle(2, Position(queue.epoch, first + 499))
            if is_busy:  # later segments speak of the channel, but not of its gaps
                last += 1
                await publish(queue, last, last)
        assert queue.log is not None
        await queue.log.commit.drain()
        await queue.log.commit.drain()
        assert not (tmp_path / "00000001.seg").exists()
    async with opened(tmp_path, *known) as (queue, _):
        assert await everything(queue) == [("expired", 3, 1, 3), *range(4, last + 1)]


# --- damage -------------------------------------------------------------------------------


async def test_a_damaged_group_is_a_gap_where_its_records_were(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        for first in (1, 11, 21):
            await publish(queue, first, first + 9)
    spoil(tmp_path, 2)
    async with opened(tmp_path) as (queue, report):
        (lost,) = report.lost
        assert (lost.loss.channel, lost.loss.reason, lost.is_exact) == (1, "corrupt", True)
        assert (lost.loss.count, lost.loss.first_seq, lost.loss.last_seq) == (10, 11, 20)
        assert (report.silent_channels, report.lost_records("corrupt")) == (0, 10)
        assert await everything(queue) == [*range(1, 11), ("corrupt", 10, 11, 20), *range(21, 31)]
        assert queue.totals().recovered == 30
        assert queue.totals().dropped == {"corrupt": 10}
        assert balances(queue)
        assert queue.log is not None
        assert queue.log.damaged_groups == 1
    async with opened(tmp_path) as (queue, report):  # the damage is still there, and is not counted twice
        assert (report.journal.damaged_groups, report.lost) == (1, ())
        assert await everything(queue) == [*range(1, 11), ("corrupt", 10, 11, 20), *range(21, 31)]
        assert queue.totals().dropped == {}


async def test_what_stood_at_the_end_is_told_by_a_later_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        for first in (1, 11):
            await publish(queue, first, first + 9)
        queue.settle(1, Position(queue.epoch, 5))
        assert queue.log is not None
        await queue.log.commit.drain()
        await publish(queue, 21, 21)
        queue.settle(1, Position(queue.epoch, 5))
    spoil(tmp_path, 2)
    async with opened(tmp_path) as (queue, _):
        assert await everything(queue) == [*range(6, 11), ("corrupt", 10, 11, 20), 21]


async def test_records_of_a_damaged_group_that_were_acked_are_not_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        for first in (1, 11, 21):
            await publish(queue, first, first + 9)
        queue.settle(1, Position(queue.epoch, 15))
    spoil(tmp_path, 2)
    async with opened(tmp_path) as (queue, report):
        assert report.lost_records("corrupt") == 5
        assert await everything(queue) == [("corrupt", 5, 16, 20), *range(21, 31)]


async def test_records_of_a_damaged_group_that_were_dropped_have_that_name_already(tmp_path: Path) -> None:
    small = options(1, records_max=25)
    async with opened(tmp_path, small) as (queue, _):
        for first in (1, 11):
            await publish(queue, first, first + 9)
        await queue.slice(1, None, SliceLimits(events_max=10, bytes_max=1 << 20), FORM)
        await publish(queue, 21, 30)  # 11 to 15 go, behind what is in flight
    spoil(tmp_path, 2)
    async with opened(tmp_path, small) as (queue, report):
        assert report.lost_records("corrupt") == 5
        assert await everything(queue) == [
            *range(1, 11),
            ("overflow", 5, 11, 15),
            ("corrupt", 5, 16, 20),
            *range(21, 31),
        ]


async def test_what_a_channel_without_a_word_behind_the_damage_lost_is_not_invented(tmp_path: Path) -> None:
    known = (options(1), options(2))
    async with opened(tmp_path, *known, is_killed=True) as (queue, _):
        await publish(queue, 1, 10)
        await publish(queue, 1, 10, channel=2)
        await publish(queue, 11, 20, channel=2)
        await publish(queue, 21, 30, channel=2)
    spoil(tmp_path, 3)
    async with opened(tmp_path, *known) as (queue, report):
        assert report.silent_channels == 1  # channel 1 may have had records in it
        assert [(one.loss.channel, one.loss.count, one.is_exact) for one in report.lost] == [(2, 10, True)]
        assert await everything(queue) == [*range(1, 11)]


async def test_a_channel_that_did_not_ask_is_counted_all_the_same(tmp_path: Path) -> None:
    silent = options(1, keeps_gaps=False)
    async with opened(tmp_path, silent) as (queue, _):
        for first in (1, 11, 21):
            await publish(queue, first, first + 9)
    spoil(tmp_path, 2)
    async with opened(tmp_path, silent) as (queue, _):
        assert queue.totals().dropped == {"corrupt": 10}
        assert queue.stats(1).gaps == 0
        assert await everything(queue) == [*range(1, 11), *range(21, 31)]


@pytest.mark.parametrize("overflow", Overflow)
async def test_what_comes_back_beyond_the_bound_because_acks_are_lost_is_named(
    tmp_path: Path, overflow: Overflow
) -> None:
    small = options(1, records_max=20, overflow=overflow)
    async with opened(tmp_path, small) as (queue, _):
        await publish(queue, 1, 15)
        queue.settle(1, Position(queue.epoch, 15))
        assert queue.log is not None
        await queue.log.commit.drain()
        await publish(queue, 16, 30)
    spoil(tmp_path, 2)  # it says that 1 to 15 were acked
    async with opened(tmp_path, small) as (queue, report):
        assert await everything(queue) == [("overflow", 10, 1, 10), *range(11, 31)]
        assert [(one.loss.reason, one.loss.count) for one in report.lost] == [("overflow", 10)]
        assert balances(queue)


async def test_damage_found_while_delivering_is_a_gap_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await publish(queue, 1, 9)
        ring = queue.rings.channels[1].ring
        raw = ffi.new("nd_batch *")
        assert lib.nd_frame_plan_exact(ring, 1, 5, 0, 0, raw) == lib.ND_OK
        queue._isolate(queue.rings.channels[1], 5)
        queue.release(1)
        assert await everything(queue) == [1, 2, 3, 4, ("corrupt", 1, 5, 5), 6, 7, 8, 9]
    async with opened(tmp_path) as (queue, report):
        assert await everything(queue) == [1, 2, 3, 4, ("corrupt", 1, 5, 5), 6, 7, 8, 9]
        assert report.lost == ()
