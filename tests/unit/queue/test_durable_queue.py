"""The queue with a journal in a real folder: closed, or left as a kill leaves it, and opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from support.journal_folder import EVERYTHING, FORM, NOW_MS, SMALL, Folder, contents, options, publish
from support.small_disk import disk_bytes
from support.stored_records import notifications, records_of

from dispatcher import limits
from dispatcher.errors import BodyTooLarge, DataFolderError, JournalFailed, StorageFull
from dispatcher.model import Durability, Position, SliceLimits
from dispatcher.queue.interface import FrozenBatch, Route
from dispatcher.queue.native_journal import GroupOutcome, NativeJournal
from dispatcher.queue.native_recovery import JournalReader
from dispatcher.queue.whole_messages import read_messages


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_what_was_durable_is_found_again_with_the_same_uids(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 500)
        before = await contents(queue)
        assert len(before) == 500
    async with folder.opened() as (queue, report):
        assert report.records == 500
        assert queue.totals().recovered == 500
        assert await contents(queue) == before
        await publish(queue, 10, start=501)
        assert (await contents(queue))[:500] == before
        assert queue.stats(1).last_seq == 510


async def test_nothing_is_sliced_before_it_is_durable(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        _, ticket = queue.append(records_of(notifications(10)), [Route(1)], NOW_MS)
        assert not ticket.is_durable
        assert await queue.slice(1, None, EVERYTHING, FORM) is None
        await ticket.durable()
        assert len(await contents(queue)) == 10


async def test_a_channel_is_told_of_when_its_records_are_durable(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        told: list[int] = []
        assert queue.log is not None
        queue.log.report_to(on_shown=told.append, on_sync=lambda seconds: None)
        _, ticket = queue.append(records_of(notifications(1)), [Route(1)], NOW_MS)
        assert told == []
        await ticket.durable()
        assert told == [1]


async def test_acks_are_remembered_when_the_queue_was_closed(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 100)
        queue.settle(1, Position(queue.epoch, 60))
    async with folder.opened() as (queue, report):
        assert report.records == 40
        assert (await contents(queue))[0][0].endswith("/61")


async def test_a_kill_costs_acks_at_most_and_no_record(folder: Folder) -> None:
    async with folder.opened(is_killed=True) as (queue, _):
        await publish(queue, 100)
        queue.settle(1, Position(queue.epoch, 60))
    async with folder.opened() as (queue, report):
        assert 40 <= report.records <= 100
        assert (await contents(queue))[-1][0].endswith("/100")


async def test_a_hole_behind_what_is_in_flight_stays_a_hole(folder: Folder) -> None:
    known = {1: options(queue_bytes=20_000)}
    async with folder.opened(known) as (queue, _):
        await publish(queue, 100)
        held = await queue.slice(1, None, SliceLimits(events_max=20, bytes_max=1 << 20), FORM)
        assert held is not None
        await publish(queue, 150, start=101)
        assert queue.totals().dropped["overflow"] > 0
        before = await contents(queue)
        assert before[0][0].endswith("/1")
        assert len(before) < 250
    async with folder.opened(known) as (queue, _):
        assert await contents(queue) == before


async def test_every_start_begins_an_epoch_and_records_keep_theirs(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        assert queue.epoch == 1
        await publish(queue, 5)
    async with folder.opened(durability=Durability.PROCESS) as (queue, _):
        assert queue.epoch == 2
        await publish(queue, 5, start=6)
        batch = await queue.slice(1, None, EVERYTHING, FORM)
        assert batch is not None
        assert (batch.first, batch.last) == (Position(1, 1), Position(1, 5))  # of one epoch alone
        following = await queue.slice(1, batch.last, EVERYTHING, FORM)
        assert following is not None
        assert (following.first, following.last) == (Position(2, 6), Position(2, 10))
        before = await contents(queue)
    async with folder.opened() as (queue, _):
        assert queue.epoch == 3
        assert await contents(queue) == before
        queue.settle(1, Position(1, 99))  # numbers of the first epoch that nobody remembers
        assert len(await contents(queue)) == 5
        queue.settle(1, Position(2, 10))
        assert await contents(queue) == []


async def test_a_channel_that_nobody_knows_any_more_is_left_out(folder: Folder) -> None:
    async with folder.opened({1: options(), 2: options(78)}) as (queue, _):
        await publish(queue, 5, channel=1)
        await publish(queue, 7, channel=2)
    async with folder.opened({2: options(79)}) as (queue, report):  # 2 is another channel now
        assert report.unknown_channels == 2
        assert report.missing_channels == 1
        assert await contents(queue, 2) == []
        assert queue.totals().records == 0


async def test_a_deleted_channel_does_not_come_back(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 5)
        assert queue.delete_channel(1) == 5
    async with folder.opened() as (queue, report):
        assert report.records == 0
        assert await contents(queue) == []


async def test_damage_in_the_midst_costs_its_group_alone(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        for start in (1, 11, 21):
            await publish(queue, 10, start=start)
    segment = folder.path / "00000001.seg"
    spoiled = bytearray(segment.read_bytes())
    spoiled[2 * 4096 + 200] ^= 1  # in the second group
    segment.write_bytes(spoiled)
    async with folder.opened() as (queue, report):
        assert report.journal.damaged_groups == 1
        assert [path.rpartition("/")[2] for path, _ in await contents(queue)] == [
            str(number) for number in range(1, 31) if not 11 <= number <= 20
        ]


async def test_nothing_is_lost_when_there_is_less_memory_than_before(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        for start in range(1, 40_001, 5_000):
            await publish(queue, 5_000, start=start)
        before = [path for path, _ in await contents(queue)]
    async with folder.opened(memory_bytes=2 << 20) as (queue, report):
        assert (report.records, report.lost) == (40_000, ())
        assert queue.totals().record_bytes > queue.totals().memory_bytes_max
        assert [path for path, _ in await contents(queue)] == before


async def test_disk_used_stays_below_twice_what_is_live_and_an_allowance(folder: Folder) -> None:
    known = {1: options(), 2: options(78)}
    async with folder.opened(known, sizes=SMALL) as (queue, _):
        await publish(queue, 50, channel=2)  # a channel whose receiver is away: its records move on and on
        for start in range(1, 40_001, 500):
            await publish(queue, 500, start=start)
            queue.settle(1, Position(queue.epoch, start + 300))
        assert queue.log is not None
        await queue.log.commit.drain()
        await queue.log.commit.drain()
        live = queue.totals().record_bytes
        assert disk_bytes(folder.path) <= 2 * live + SMALL.allowance_bytes + SMALL.segment_bytes
        assert not (folder.path / "00000001.seg").exists()
        before = {channel: await contents(queue, channel) for channel in known}
        assert len(before[2]) == 50
    async with folder.opened(known) as (queue, report):
        assert not report.journal.is_damaged
        assert {channel: await contents(queue, channel) for channel in known} == before
        assert queue.stats(1).last_seq == 40_000


async def test_a_request_that_no_group_can_hold_is_refused_whole(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        with pytest.raises(BodyTooLarge):
            queue.append(records_of(notifications(5_000)), [Route(1)], NOW_MS)
        assert queue.stats(1).last_seq == 0


async def test_a_frozen_batch_is_the_same_bytes_after_a_restart_until_it_thaws(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 30)
        batch = await queue.slice(1, None, SliceLimits(events_max=20, bytes_max=1 << 20), FORM)
        assert batch is not None
        before = await read_messages(batch)
        queue.freeze(1, FrozenBatch(first=batch.first, last=batch.last, events=20, form=FORM))
    async with folder.opened() as (queue, _):
        frozen = queue.frozen(1)
        assert frozen is not None
        again = await queue.rebuild(1, frozen.first, frozen.last, frozen.form, frozen.events)
        assert again is not None
        assert await read_messages(again) == before
        queue.freeze(1, None)
    async with folder.opened() as (queue, _):
        assert queue.frozen(1) is None


async def test_a_frozen_batch_is_in_flight_from_the_start(folder: Folder) -> None:
    known = {1: options(queue_bytes=20_000)}
    async with folder.opened(known) as (queue, _):
        await publish(queue, 100)
        batch = await queue.slice(1, None, SliceLimits(events_max=20, bytes_max=1 << 20), FORM)
        assert batch is not None
        queue.freeze(1, FrozenBatch(first=batch.first, last=batch.last, events=20, form=FORM))
    async with folder.opened(known) as (queue, _):
        await publish(queue, 200, start=101)  # more than there is room for
        frozen = queue.frozen(1)
        assert frozen is not None
        assert await queue.rebuild(1, frozen.first, frozen.last, frozen.form, frozen.events) is not None


async def test_nothing_is_dropped_for_want_of_memory(folder: Folder) -> None:
    async with folder.opened(memory_bytes=2 << 20) as (queue, _):
        for start in range(1, 20_001, 1_000):
            await publish(queue, 1_000, start=start)
        before = await contents(queue)
        assert len(before) == 20_000
        assert queue.totals().dropped == {}
        assert queue.totals().scratch_bytes > 0
    async with folder.opened(memory_bytes=8 << 20) as (queue, _):
        assert await contents(queue) == before


async def test_a_full_disk_gets_the_dead_segments_back_and_then_takes_events_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hoarding = replace(SMALL, allowance_bytes=1 << 30)
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.01)
    async with folder.opened(sizes=hoarding) as (queue, _):
        for start in range(1, 10_001, 500):
            await publish(queue, 500, start=start)
            queue.settle(1, Position(queue.epoch, start + 499))
        assert disk_bytes(folder.path) > 4 * SMALL.segment_bytes
        assert queue.log is not None
        has_space = NativeJournal.prepare
        monkeypatch.setattr(NativeJournal, "prepare", lambda journal: False)
        with pytest.raises(StorageFull):  # noqa: PT012
            for start in range(10_001, 20_001, 500):  # until the segment that is being written is full
                await publish(queue, 500, start=start)
        with trio.fail_after(30):
            while disk_bytes(folder.path) > 3 * SMALL.segment_bytes:
                queue.settle(1, Position(queue.epoch, queue.stats(1).last_seq))
                await trio.sleep(0.01)
        with pytest.raises(StorageFull):
            queue.check_accepting()
        monkeypatch.setattr(NativeJournal, "prepare", has_space)
        with trio.fail_after(30):
            while queue.log.commit.failure is not None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await publish(queue, 10, start=30_001)
    async with folder.opened() as (queue, _):
        assert (await contents(queue))[-1][0].endswith("/30010")


async def test_a_disk_that_fails_while_queues_are_read_back_stops_the_start_in_words(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 10)

    load = JournalReader.load

    async def break_behind_the_first_records(reader: JournalReader, *arguments: Any) -> None:
        await load(reader, *arguments)
        raise DataFolderError("the disk does not give the journal back")

    with monkeypatch.context() as patch:
        patch.setattr(JournalReader, "load", break_behind_the_first_records)
        with pytest.raises(DataFolderError):
            async with folder.opened():
                pass
    async with folder.opened() as (queue, report):
        assert report.records == 10


async def test_what_is_durable_is_delivered_after_the_disk_broke(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with folder.opened() as (queue, _):
        await publish(queue, 10)
        monkeypatch.setattr(NativeJournal, "done", lambda journal: GroupOutcome.POISONED)
        with pytest.raises(JournalFailed):
            await publish(queue, 10, start=11)
        with pytest.raises(JournalFailed):
            queue.append(records_of(notifications(1)), [Route(1)], NOW_MS)
        with pytest.raises(JournalFailed):
            queue.check_accepting()
        assert len(await contents(queue)) == 10
        assert queue.settle(1, Position(queue.epoch, 10)) == 10
