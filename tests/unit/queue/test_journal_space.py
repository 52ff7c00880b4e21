"""The place a journal takes on the disk: slow and fast channels together, damage, and a disk that is full.

``DISPATCHER_SPACE_TURNS`` sets how often the long test turns the journal over (3 when unset).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from support.cold_queues import WatchedDisk as ColdDisk
from support.cold_queues import cool
from support.journal_folder import NOW_MS, Folder, contents, options
from support.small_disk import SmallDisk, WatchedDisk, disk_bytes
from support.stored_records import notifications, records_of

from dispatcher import limits
from dispatcher.core.journal_space import LiveBytes, disk_bytes_max, step_bytes
from dispatcher.errors import JournalBehind, MemoryFull, StorageFull
from dispatcher.model import Position
from dispatcher.queue.disk import JournalSizes
from dispatcher.queue.interface import Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_journal import CleaningStep, NativeJournal, SegmentCleaner

TURNS = int(os.environ.get("DISPATCHER_SPACE_TURNS", "3"))
SEGMENT = 256 << 10
SIZES = JournalSizes(  # in proportion to the real ones
    segment_bytes=SEGMENT,
    group_bytes_max=SEGMENT * limits.JOURNAL_GROUP_BYTES_MAX // limits.JOURNAL_SEGMENT_BYTES // 4096 * 4096,
    allowance_bytes=SEGMENT * limits.JOURNAL_ALLOWANCE_BYTES // limits.JOURNAL_SEGMENT_BYTES,
)
AWAY, CREEPING, IDLE, *FAST = range(1, 8)
KNOWN = {number: options(70 + number) for number in (AWAY, CREEPING, IDLE, *FAST)}


pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def journal_of(queue: NativeQueue) -> NativeJournal:
    assert queue.log is not None
    return queue.log._journal


def check_disk(folder: Folder, queue: NativeQueue, settled_bytes: int = 0) -> None:
    """``settled_bytes``: what was settled since cleaning last had its turn, and counts till then."""
    totals = queue.totals()
    live = LiveBytes(totals.records, totals.record_bytes + settled_bytes, other_bytes=0)
    assert disk_bytes(folder.path) <= disk_bytes_max(live, SIZES.allowance_bytes)


def settle(queue: NativeQueue, channel: int, share: float = 1.0) -> None:
    """Confirm the oldest records of a channel."""
    stats = queue.stats(channel)
    upto = stats.settled_seq + int((stats.last_seq - stats.settled_seq) * share)
    queue.settle(channel, Position(queue.epoch, upto))


def stored_bytes(count: int) -> int:
    """Of a request with so many records."""
    return len(records_of(notifications(count, padding=20)).block) + 32 * count


async def until_let_go(queue: NativeQueue) -> None:
    """Publishers are held back while cleaning has to catch up."""
    assert queue.log is not None
    with trio.fail_after(10):
        while queue.log._space.holds_back:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def append(queue: NativeQueue, count: int, *channels: int) -> None:
    """One request, which must become durable with its own group whatever is cleaned meanwhile."""
    journal = journal_of(queue)
    records = records_of(notifications(count, padding=20))
    await until_let_go(queue)
    before = journal.stats().durable_group
    _, ticket = queue.append(records, [Route(channel) for channel in channels], NOW_MS)
    await ticket.durable()
    assert journal.stats().durable_group <= before + 2  # the one that was being written, and the next


async def fill_and_settle(folder: Folder, queue: NativeQueue, segments: int) -> None:
    """So many segments of what a fast channel takes at once."""
    journal = journal_of(queue)
    last = journal.stats().durable_segment + segments
    while journal.stats().durable_segment < last:
        await append(queue, 40, FAST[0])
        settle(queue, FAST[0])
        check_disk(folder, queue)


async def publish_side_by_side(folder: Folder, queue: NativeQueue, dice: random.Random) -> None:
    """Small requests and large ones, to channels that settle all, or a little of it."""

    async def publish(channels: list[int], settled_share: float) -> None:
        for _ in range(10):
            chosen = dice.sample(channels, dice.randint(1, min(2, len(channels))))
            await append(queue, dice.choice((1, 1, 2, 40)), *chosen)
            for channel in chosen:
                settle(queue, channel, settled_share)
            check_disk(folder, queue)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, list(FAST), 1.0)
        nursery.start_soon(publish, list(FAST), 1.0)
        nursery.start_soon(publish, [CREEPING], 0.02)
    await append(queue, 1, AWAY)


async def test_the_disk_stays_below_its_bound_with_slow_and_fast_channels(folder: Folder) -> None:
    dice = random.Random(1)
    before: dict[int, list[tuple[str, str]]] = {}
    for _ in range(2):  # segments of an earlier run are cleaned as well
        disk = WatchedDisk(SIZES)
        async with folder.opened(KNOWN, disk=disk, seconds_max=30 + 3 * TURNS) as (queue, _):
            disk.look = partial(check_disk, folder, queue)
            assert {channel: await contents(queue, channel) for channel in before} == before
            await append(queue, 200, AWAY)
            for _ in range(TURNS):
                first = journal_of(queue).stats().oldest_segment
                while journal_of(queue).stats().oldest_segment < first + 4:
                    await publish_side_by_side(folder, queue, dice)
            before = {channel: await contents(queue, channel) for channel in KNOWN}
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert report.missing_channels == 0  # the idle one is still known
        assert {channel: await contents(queue, channel) for channel in KNOWN} == before


async def test_what_all_is_live_and_lies_one_by_one_moves_in_its_place(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        for _ in range(30):
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(append, queue, 1, (AWAY, CREEPING)[number % 2])
            check_disk(folder, queue)
        await fill_and_settle(folder, queue, 40)
        before = {channel: await contents(queue, channel) for channel in KNOWN}
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        assert {channel: await contents(queue, channel) for channel in KNOWN} == before


async def test_cleaning_goes_in_small_steps_and_lets_others_run_between(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    steps: list[int] = []
    move = SegmentCleaner.move

    def watched(cleaner: SegmentCleaner, *arguments: object) -> CleaningStep:
        before = journal_of(queue).gathered_bytes()
        outcome = move(cleaner, *arguments)
        steps.append(journal_of(queue).gathered_bytes() - before)
        turns.append(ticks)
        return outcome

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(SegmentCleaner, "move", watched)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _), trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        for _ in range(20):
            await append(queue, 40, AWAY)
        await fill_and_settle(folder, queue, 20)
        steps_per_turn = Counter(turns)
        nursery.cancel_scope.cancel()
    assert sum(steps) > SEGMENT
    assert max(steps) <= step_bytes(SIZES.group_bytes_max) + 1_000  # one record more, perhaps
    assert max(steps_per_turn.values()) <= 2  # of two tasks that run in turn, either may be first


async def test_a_slow_channel_is_written_again_once_for_each_turn_of_the_log(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        await append(queue, 200, AWAY)
        backlog_bytes = queue.totals().record_bytes
        published_bytes = 0
        groups = journal_of(queue).stats().durable_group
        first = journal_of(queue).stats().durable_segment
        for _ in range(1_000):
            await append(queue, 40, FAST[0])
            published_bytes += queue.totals().record_bytes - backlog_bytes
            settle(queue, FAST[0])
        written_bytes = (journal_of(queue).stats().durable_segment - first) * SEGMENT
        groups = journal_of(queue).stats().durable_group - groups
    turns = written_bytes / (SIZES.allowance_bytes / 2)  # the log has that length
    assert written_bytes < published_bytes + (turns + 1) * 2 * backlog_bytes + groups * 4096


async def test_damage_that_comes_while_it_runs_costs_nothing(folder: Folder) -> None:
    dice = random.Random(3)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        for channel in (AWAY, CREEPING):
            for _ in range(10):
                await append(queue, 20, channel)
        before = {channel: await contents(queue, channel) for channel in (AWAY, CREEPING)}
        for _ in range(5):
            path = folder.path / f"{journal_of(queue).stats().oldest_segment:08}.seg"
            data = bytearray(path.read_bytes())
            for _ in range(20):
                data[dice.randrange(len(data))] ^= 1
            path.write_bytes(data)
            await fill_and_settle(folder, queue, 4)
            assert not path.exists()
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert {channel: await contents(queue, channel) for channel in (AWAY, CREEPING)} == before


async def test_a_lost_segment_is_written_again_from_memory(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        await append(queue, 100, AWAY)
        before = await contents(queue, AWAY)
        await fill_and_settle(folder, queue, 1)
        (folder.path / "00000001.seg").unlink()
        await fill_and_settle(folder, queue, 10)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert await contents(queue, AWAY) == before


async def test_a_lost_segment_is_written_again_from_memory_though_its_records_were_moved_out_of_it(
    folder: Folder,
) -> None:
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        await append(queue, 100, AWAY)
        before = await contents(queue, AWAY)
        await fill_and_settle(folder, queue, 1)
        (folder.path / "00000001.seg").unlink()
        cool(queue)
        await fill_and_settle(folder, queue, 10)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert await contents(queue, AWAY) == before


async def test_what_the_scratch_file_does_not_give_back_stops_no_publisher(folder: Folder) -> None:
    disk = ColdDisk(SIZES)
    async with folder.opened(KNOWN, disk=disk) as (queue, _):
        await append(queue, 100, AWAY)
        before = await contents(queue, AWAY)
        await fill_and_settle(folder, queue, 1)
        (folder.path / "00000001.seg").unlink()
        cool(queue)
        disk.is_broken = True
        for _ in range(100):
            await append(queue, 100, FAST[0])
            settle(queue, FAST[0])
        disk.is_broken = False
        await fill_and_settle(folder, queue, 10)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert await contents(queue, AWAY) == before


async def test_a_segment_that_cannot_be_unlinked_is_not_moved_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    begin = SegmentCleaner.__init__

    def watched(cleaner: SegmentCleaner, journal: NativeJournal, segment: int) -> None:
        opened.append(segment)
        begin(cleaner, journal, segment)

    monkeypatch.setattr(SegmentCleaner, "__init__", watched)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        await append(queue, 100, AWAY)
        with monkeypatch.context() as stuck:
            stuck.setattr(NativeJournal, "unlink_oldest", lambda journal: False)
            for _ in range(400):
                await append(queue, 40, FAST[0])
                settle(queue, FAST[0])
        assert opened == [1]
        await append(queue, 1, FAST[0])
        await append(queue, 1, FAST[0])  # the first set the cleaning off
        assert not (folder.path / "00000001.seg").exists()


async def test_a_segment_that_goes_while_it_is_emptied_takes_no_other_with_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that waits for a full disk frees what is dead, whatever is being cleaned."""
    known = {number: KNOWN[number] for number in (AWAY, FAST[0])}
    async with folder.opened(known, sizes=SIZES) as (queue, _):
        assert queue.log is not None
        log, commit, journal = queue.log, queue.log.commit, journal_of(queue)
        await append(queue, 50, AWAY)
        await fill_and_settle(folder, queue, 1)
        await append(queue, 50, AWAY)
        settle(queue, AWAY, 0.2)  # how it stands is written here, and not in the first segment alone
        write = commit._write_group
        gone: list[int] = []

        async def settle_and_free() -> None:
            if commit.group.moved_from == 1 and not gone:
                queue.settle(AWAY, Position(queue.epoch, 50))
                assert await log.free_dead()
                gone.append(journal.stats().oldest_segment)
            await write()

        monkeypatch.setattr(commit, "_write_group", settle_and_free)
        while not gone:
            await append(queue, 40, FAST[0])
            settle(queue, FAST[0])
        await append(queue, 1, FAST[0])
        assert gone == [2]
        before = await contents(queue, AWAY)
        assert len(before) == 50
    async with folder.opened(known, sizes=SIZES) as (queue, report):
        assert not report.journal.is_damaged
        assert await contents(queue, AWAY) == before


async def test_publishers_that_outpace_cleaning_are_held_back_and_the_bound_holds(folder: Folder) -> None:
    refused = 0
    publishers = 4 * len(FAST)
    settled_bytes = publishers * stored_bytes(100)  # a request of each

    async def flood(channel: int) -> None:
        nonlocal refused
        records = records_of(notifications(100, padding=20))
        for _ in range(100):
            try:
                _, ticket = queue.append(records, [Route(channel)], NOW_MS)
            except JournalBehind:
                refused += 1
                await trio.sleep(0.001)
            else:
                await ticket.durable()
                settle(queue, channel)
            check_disk(folder, queue, settled_bytes)

    disk = WatchedDisk(SIZES)
    async with folder.opened(KNOWN, disk=disk, seconds_max=60) as (queue, _):
        disk.look = partial(check_disk, folder, queue, settled_bytes)
        for _ in range(100):
            await append(queue, 200, AWAY)
        async with trio.open_nursery() as nursery:
            for at in range(publishers):
                nursery.start_soon(flood, FAST[at % len(FAST)])
        assert refused > 0
        before = await contents(queue, AWAY)
        assert len(before) == 20_000
        await until_let_go(queue)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        assert await contents(queue, AWAY) == before


# --- a full disk --------------------------------------------------------------------------


async def fill_disk(queue: NativeQueue, *channels: int) -> int:
    """Publish until the disk is full; how many requests were accepted."""
    for accepted in range(10_000):
        try:
            await append(queue, 20, *channels)
        except StorageFull:
            return accepted
    raise AssertionError("it never was full")


async def until_accepting(queue: NativeQueue) -> None:
    assert queue.log is not None
    with trio.fail_after(10):
        while queue.log.commit.failure is not None:  # noqa: ASYNC110
            await trio.sleep(0.005)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.01)


@pytest.mark.usefixtures("_impatient")
async def test_a_full_disk_loses_nothing_and_takes_events_again_when_there_is_space(
    folder: Folder,
) -> None:
    disk = SmallDisk(SIZES, folder.path, segments_max=6)
    async with folder.opened(KNOWN, disk=disk) as (queue, _):
        accepted = await fill_disk(queue, AWAY, FAST[0])
        assert accepted > 50
        before = await contents(queue, AWAY)
        assert len(before) >= 20 * accepted  # those that were refused may become durable yet
        settle(queue, FAST[0])
        with pytest.raises(StorageFull):
            queue.check_accepting()
        disk.segments_max = 8
        await until_accepting(queue)
        await append(queue, 20, AWAY)
        after = await contents(queue, AWAY)
        assert after[: len(before)] == before
    async with folder.opened(KNOWN, disk=SmallDisk(SIZES, folder.path, segments_max=20)) as (queue, _):
        assert await contents(queue, AWAY) == after
        assert await contents(queue, FAST[0]) == []


@pytest.mark.usefixtures("_impatient")
async def test_a_full_disk_comes_free_when_receivers_take_what_is_queued(folder: Folder) -> None:
    async with folder.opened(KNOWN, disk=SmallDisk(SIZES, folder.path, segments_max=6)) as (queue, _):
        for _ in range(5):
            await fill_disk(queue, AWAY, FAST[0])
            settle(queue, AWAY)
            settle(queue, FAST[0])
            await until_accepting(queue)


@pytest.mark.usefixtures("_impatient")
async def test_a_full_disk_is_cleaned_of_what_lies_dead_between_a_slow_channel_s_records(
    folder: Folder,
) -> None:
    hoarding = replace(SIZES, allowance_bytes=1 << 30)
    async with folder.opened(KNOWN, disk=SmallDisk(hoarding, folder.path, segments_max=8)) as (queue, _):
        for _ in range(3):
            with pytest.raises(StorageFull):  # noqa: PT012
                while True:
                    await append(queue, 40, FAST[0])
                    await append(queue, 1, AWAY)
                    settle(queue, FAST[0])
            await until_accepting(queue)
        before = await contents(queue, AWAY)
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        assert await contents(queue, AWAY) == before


@pytest.mark.usefixtures("_impatient")
async def test_a_full_disk_without_memory_to_clean_it_refuses_and_goes_on_when_there_is_some(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hoarding = replace(SIZES, allowance_bytes=1 << 30)
    tried = 0

    def without_memory(cleaner: SegmentCleaner, journal: NativeJournal, segment: int) -> None:
        nonlocal tried
        tried += 1
        raise MemoryFull("none left")

    async with folder.opened(KNOWN, disk=SmallDisk(hoarding, folder.path, segments_max=8)) as (queue, _):
        with monkeypatch.context() as short:
            short.setattr(SegmentCleaner, "__init__", without_memory)
            await append(queue, 20, AWAY)
            with pytest.raises(StorageFull):  # noqa: PT012
                while True:
                    await append(queue, 40, FAST[0])
                    settle(queue, FAST[0])
            before = await contents(queue, AWAY)
            first = tried
            await trio.sleep(0.1)
            assert 2 <= tried - first <= 20  # once for each look at the disk, no more
            with pytest.raises(StorageFull):
                queue.check_accepting()
        await until_accepting(queue)
        await append(queue, 20, FAST[0])
        assert await contents(queue, AWAY) == before
    async with folder.opened(KNOWN, sizes=SIZES) as (queue, _):
        assert await contents(queue, AWAY) == before
