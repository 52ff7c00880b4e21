"""A journal with flipped bits, cut tails and lost files: it starts, says so, and isolates the damage.

One journal with units of every type is made, and damaged in one way after the other.  What
is expected follows from the undamaged one alone, read by the second reader: everything but
the groups that the damage touched.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from dispatcher.queue._core import ffi, lib
from support.journal_reader import BLOCK, Channels, Journal, StoredRecord, read_journal
from support.stored_records import notifications, records_of

from dispatcher.cli.fsck import journal_findings
from dispatcher.cli.progress import Bar
from dispatcher.model import Durability, Form, Overflow, Position, SliceLimits
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import FrozenBatch, QueueOptions, Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import RecoveryReport, open_durable_queue
from dispatcher.queue.whole_messages import read_messages
from dispatcher.wire.uid import uid

SIZES = JournalSizes(segment_bytes=64 << 10, group_bytes_max=48 << 10, allowance_bytes=512 << 10)
FAST, SLOW, HOLEY, FROZEN, IDLE, DELETED, LATEST = range(1, 8)
OPTIONS = {
    number: QueueOptions(
        incarnation=100 + number,
        owner=1,
        queue_bytes=12_000 if number in (HOLEY, LATEST) else 50_000_000,
        overflow=Overflow.KEEP_LATEST if number == LATEST else Overflow.DROP_OLDEST,
        keeps_gaps=number in (HOLEY, LATEST),
    )
    for number in (FAST, SLOW, HOLEY, FROZEN, IDLE, DELETED, LATEST)
}
KNOWN = {number: options for number, options in OPTIONS.items() if number != DELETED}
UNIT_TYPES = {
    1: "request",
    2: "moved",
    3: "state",
    4: "dropped",
    5: "deleted",
    6: "frozen",
    7: "answer",
    8: "superseded",
    9: "gaps",
}
FORM = Form(mixed_kinds=True, include_uid=True)
FLIPS = 5  # of each kind

Delivered = list[tuple[str, str]]  # path and uid


class Made(msgspec.Struct):
    """The undamaged journal."""

    folder: Path
    journal: Journal
    uids: dict[str, set[tuple[int, str]]]  # of all records that ever were: the channel and the path


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[NativeQueue, RecoveryReport]]:
    epochs = iter(range(10, 100))

    async def next_epoch() -> int:
        return next(epochs)

    queue, report = await open_durable_queue(
        folder,
        Durability.DISK,
        64 << 20,
        KNOWN,
        disk=Disk(SIZES),
        next_epoch=next_epoch,
        new_journal_id=lambda: 99,
        now_unix_ms=lambda: 1,
    )
    assert queue.log is not None
    for number, options in KNOWN.items():
        queue.open_channel(number, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.log.commit.run)
        with trio.fail_after(20):
            yield queue, report
            await queue.log.commit.drain()
        nursery.cancel_scope.cancel()
    queue.close()


async def publish(queue: NativeQueue, first: int, count: int, *channels: int) -> None:
    records = records_of(notifications(count, first=first))
    _, ticket = queue.append(records, [Route(channel) for channel in channels], 1)
    await ticket.durable()


async def hold_a_batch(queue: NativeQueue, channel: int) -> FrozenBatch:
    batch = await queue.slice(channel, None, SliceLimits(events_max=10, bytes_max=1 << 20), FORM)
    assert batch is not None
    return FrozenBatch(first=batch.first, last=batch.last, events=batch.events, form=FORM)


def gather_answer(queue: NativeQueue, number: int) -> None:
    assert queue.log is not None
    key, sha = ffi.new("uint8_t[]", b"key-%d" % number), ffi.new("uint8_t[32]")
    answer = ffi.new("nd_journal_answer *", {"account": 1, "body_sha256": sha, "key": key, "key_bytes": 5})
    assert lib.nd_journal_gather_answer(queue.log._journal.raw, answer) == lib.ND_OK


async def write_every_type_of_unit(folder: Path) -> None:
    """Segments that turn over, so that what the slow channel holds is moved; the rest by hand."""
    async with opened(folder) as (queue, _):
        queue.open_channel(DELETED, OPTIONS[DELETED])
        await publish(queue, 0, 20, SLOW, FROZEN, DELETED)
        for first in range(0, 5_000, 50):
            await publish(queue, first, 50, FAST)
            queue.settle(FAST, Position(queue.epoch, first))
            if first % 500 == 0:
                await publish(queue, 10_000 + first, 10, SLOW, FAST)
        queue.freeze(FROZEN, await hold_a_batch(queue, FROZEN))
        queue.delete_channel(DELETED)
        await publish(queue, 0, 60, HOLEY)
        await hold_a_batch(queue, HOLEY)
        for first in range(60, 300, 40):
            await publish(queue, first, 40, HOLEY, FAST, SLOW)
            gather_answer(queue, first)
        for first in (0, 15, 30, 5, 20, 10):
            await publish(queue, first, 30, LATEST)
        await publish(queue, 300, 5, SLOW, FROZEN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("undamaged")
    trio.run(write_every_type_of_unit, folder)
    journal = read_journal(folder)
    assert journal.damaged == []
    units = {int.from_bytes(unit[4:6], "little") for group in journal.groups.values() for unit in group.units}
    assert units == set(UNIT_TYPES)
    assert len({group.segment for group in journal.groups.values()}) > 3
    uids: dict[str, set[tuple[int, str]]] = {}
    for (channel, incarnation), state in journal.channels.items():
        for record in state.records.values():
            event = (channel, json.loads(record.body)["path"])
            uids.setdefault(uid(incarnation, record.epoch, record.seq), set()).add(event)
    assert all(len(events) == 1 for events in uids.values())
    return Made(folder, journal, uids)


def copy_of(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "journal"))


async def delivered(queue: NativeQueue, channel: int) -> Delivered:
    found: Delivered = []
    after: Position | None = None
    limits = SliceLimits(events_max=10_000, bytes_max=1 << 30)
    while (batch := await queue.slice(channel, after, limits, FORM)) is not None:
        for text in await read_messages(batch):
            found += [(event["path"], event["uid"]) for event in json.loads(text)["notifications"]]
        after = batch.last
    queue.release(channel)
    return found


def expected(channels: Channels, channel: int) -> tuple[Delivered, int]:
    """What is live, and how many of the oldest go: a lost drop makes a queue larger than it may be."""
    state = channels.get((channel, 100 + channel))
    live = state.live() if state is not None else []
    over_bytes = sum(map(stored_bytes, live)) - OPTIONS[channel].queue_bytes
    dropped = 0
    while over_bytes > 0:
        over_bytes -= stored_bytes(live[dropped])
        dropped += 1
    events = [
        (json.loads(record.body)["path"], uid(100 + channel, record.epoch, record.seq)) for record in live
    ]
    return events[dropped:], dropped


def stored_bytes(record: StoredRecord) -> int:
    return 32 + (len(record.body) + 7) // 8 * 8


async def check(made: Made, folder: Path, missing: set[int]) -> RecoveryReport:
    """Open what was damaged: all is there but the missing groups; then go on with it, twice."""
    said = list(journal_findings(folder, Bar()))
    second = read_journal(folder)
    channels = made.journal.channels_without(missing)
    async with opened(folder) as (queue, report):
        whole = {channel: await delivered(queue, channel) for channel in KNOWN}
        assert whole == {channel: expected(channels, channel)[0] for channel in KNOWN}
        assert report.lost_records("overflow") == sum(expected(channels, channel)[1] for channel in KNOWN)
        assert lost_to_damage(report) == (
            {number: seqs for number in KNOWN if (seqs := lost_of(channels, number))}
            if report.journal.is_damaged
            else {}
        )
        assert queue.totals().dropped.get("corrupt", 0) == report.lost_records("corrupt")
        assert any(finding.is_wrong for finding in said) == report.journal.is_damaged
        assert len(second.damaged) == report.journal.damaged_groups
        assert second.is_clean_end == report.journal.is_clean_end
        damaged = report.journal.damaged_groups
        assert any(f" {damaged} groups" in finding.text for finding in said if finding.is_wrong) == bool(
            damaged
        )
        for channel in (HOLEY, LATEST):  # full, or nearly: some would go for anything new
            whole.pop(channel)
        for channel in whole:
            await publish(queue, 90_000, 3, channel)
    async with opened(folder) as (queue, again):
        for channel, before in whole.items():
            *there, first, second, third = await delivered(queue, channel)
            assert there == before
            for path, its_uid in (first, second, third):  # new events: nobody has seen their uids
                assert path.startswith("/3303/0/9000")
                assert its_uid not in made.uids
        assert again.journal.damaged_groups in (0, report.journal.damaged_groups)  # 0: it was cleaned
    return report


def lost_to_damage(report: RecoveryReport) -> dict[int, set[int]]:
    """The seqs that the native reader says are gone, by channel."""
    found: dict[int, set[int]] = {}
    for one in report.lost:
        if one.loss.reason == "corrupt":
            seqs = set(range(one.loss.first_seq, one.loss.last_seq + 1))
            assert len(seqs) == one.loss.count
            found.setdefault(one.loss.channel, set()).update(seqs)
    return found


def lost_of(channels: Channels, number: int) -> set[int]:
    state = channels.get((number, 100 + number))
    return state.lost() if state is not None else set()


def sites(made: Made, unit_type: int) -> list[tuple[int, int, int]]:
    """Units of a type: their group, segment and offset there, and their length."""
    found = []
    for number, group in made.journal.groups.items():
        offset = group.offset + 48
        for unit in group.units:
            if int.from_bytes(unit[4:6], "little") == unit_type:
                found.append((number, offset, len(unit)))
            offset += len(unit)
    return found


def flip(folder: Path, segment: int, offset: int, bit: int) -> None:
    path = folder / f"{segment:08}.seg"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def check_report(made: Made, report: RecoveryReport, group: int) -> None:
    """One group is damaged; the last one might as well have been torn."""
    if group == max(made.journal.groups):
        assert report.journal.damaged_groups == 0
        assert not report.journal.is_clean_end
    else:
        assert report.journal.damaged_groups == 1
        assert report.journal.damaged_group == group
        assert report.journal.damaged_segment == made.journal.groups[group].segment


@pytest.mark.parametrize("unit_type", UNIT_TYPES, ids=UNIT_TYPES.get)
@pytest.mark.parametrize("seed", range(FLIPS))
async def test_a_bit_flipped_in_a_unit_costs_its_group_alone(
    made: Made, tmp_path: Path, unit_type: int, seed: int
) -> None:
    dice = random.Random(seed * 10 + unit_type)
    group, offset, length = dice.choice(sites(made, unit_type))
    folder = copy_of(made, tmp_path)
    at = offset + (seed if seed < 2 else dice.randrange(length))
    flip(folder, made.journal.groups[group].segment, at, dice.randrange(8))
    check_report(made, await check(made, folder, {group}), group)


@pytest.mark.parametrize("at", [*range(0, 48, 4)])
async def test_a_bit_flipped_in_a_groups_header_costs_that_group_alone(
    made: Made, tmp_path: Path, at: int
) -> None:
    dice = random.Random(at)
    number = dice.choice(list(made.journal.groups))
    group = made.journal.groups[number]
    folder = copy_of(made, tmp_path)
    flip(folder, group.segment, group.offset + at, dice.randrange(8))
    check_report(made, await check(made, folder, {number}), number)


@pytest.mark.parametrize("at", [*range(0, 64, 8)])
async def test_a_bit_flipped_in_a_segments_header_costs_nothing(made: Made, tmp_path: Path, at: int) -> None:
    dice = random.Random(at)
    folder = copy_of(made, tmp_path)
    segment = dice.choice(sorted({group.segment for group in made.journal.groups.values()}))
    flip(folder, segment, at, dice.randrange(8))
    report = await check(made, folder, set())
    assert report.journal.damaged_segments == 1
    assert report.journal.damaged_groups == 0


def last_segment(made: Made) -> int:
    return max(group.segment for group in made.journal.groups.values())


def middle_segment(made: Made) -> int:
    return sorted({group.segment for group in made.journal.groups.values()})[1]


def behind(made: Made, segment: int, offset: int) -> set[int]:
    """The groups of a segment that do not end before an offset."""
    return {
        number
        for number, group in made.journal.groups.items()
        if group.segment == segment and group.offset + 48 + sum(map(len, group.units)) > offset
    }


def cut(folder: Path, segment: int, offset: int) -> None:
    path = folder / f"{segment:08}.seg"
    path.write_bytes(path.read_bytes()[:offset])


def zero(folder: Path, segment: int, offset: int) -> None:
    """Cut a tail, and leave the file as long as it was: a write that never reached the disk."""
    path = folder / f"{segment:08}.seg"
    data = path.read_bytes()
    path.write_bytes(data[:offset].ljust(len(data), b"\0"))


def cuts(made: Made, segment: int) -> list[int]:
    """Offsets at, within and between the groups of a segment."""
    offsets = sorted(group.offset for group in made.journal.groups.values() if group.segment == segment)
    last = offsets[-1]
    return [64, BLOCK, offsets[1], offsets[1] + 30, offsets[1] + 300, last, last + 47, last + 48, last + 200]


@pytest.mark.parametrize("shorten", [cut, zero])
@pytest.mark.parametrize("choice", range(9))
async def test_a_tail_cut_from_the_last_segment_costs_what_stood_there(
    made: Made, tmp_path: Path, choice: int, shorten: Callable[[Path, int, int], None]
) -> None:
    segment = last_segment(made)
    offset = cuts(made, segment)[choice]
    folder = copy_of(made, tmp_path)
    shorten(folder, segment, offset)
    report = await check(made, folder, behind(made, segment, offset))
    assert report.journal.damaged_groups == 0  # nobody is left who could call them durable


@pytest.mark.parametrize("shorten", [cut, zero])
@pytest.mark.parametrize("choice", range(9))
async def test_a_tail_cut_from_an_older_segment_is_damage(
    made: Made, tmp_path: Path, choice: int, shorten: Callable[[Path, int, int], None]
) -> None:
    segment = middle_segment(made)
    offset = cuts(made, segment)[choice]
    folder = copy_of(made, tmp_path)
    shorten(folder, segment, offset)
    missing = behind(made, segment, offset)
    report = await check(made, folder, missing)
    assert report.journal.damaged_groups == len(missing) > 0
    assert report.journal.damaged_group == min(missing)
    assert report.journal.damaged_segment == segment


async def test_a_header_that_was_erased_is_damage_and_costs_nothing(made: Made, tmp_path: Path) -> None:
    folder = copy_of(made, tmp_path)
    erase_header(folder, last_segment(made))
    report = await check(made, folder, set())
    assert (report.journal.damaged_segments, report.journal.damaged_groups) == (1, 0)


async def test_a_segment_torn_as_it_was_begun_is_no_damage(made: Made, tmp_path: Path) -> None:
    """Its first group reached the disk, and its header did not: nobody was told of the group."""
    folder = copy_of(made, tmp_path)
    segment = last_segment(made)
    (folder / f"{segment + 1:08}.seg").unlink()  # the spare is made when the group is durable
    zero(folder, segment, cuts(made, segment)[2])
    erase_header(folder, segment)
    report = await check(made, folder, behind(made, segment, 0))
    assert not report.journal.is_damaged
    assert not report.journal.is_clean_end


def erase_header(folder: Path, segment: int) -> None:
    path = folder / f"{segment:08}.seg"
    path.write_bytes(bytes(64) + path.read_bytes()[64:])


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "emptied"])
async def test_a_lost_segment_among_others_is_damage(made: Made, tmp_path: Path, is_removed: bool) -> None:
    segment = middle_segment(made)
    folder = copy_of(made, tmp_path)
    if is_removed:
        (folder / f"{segment:08}.seg").unlink()
    else:
        cut(folder, segment, 0)
    missing = behind(made, segment, 0)
    report = await check(made, folder, missing)
    assert report.journal.damaged_segments == 1
    assert report.journal.damaged_groups == len(missing)


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "emptied"])
async def test_a_lost_last_segment_never_gives_its_uids_again(
    made: Made, tmp_path: Path, is_removed: bool
) -> None:
    segment = last_segment(made)
    folder = copy_of(made, tmp_path)
    assert (folder / f"{segment + 1:08}.seg").exists()  # the spare that was ready
    if is_removed:
        (folder / f"{segment:08}.seg").unlink()
    else:
        cut(folder, segment, 0)
    report = await check(made, folder, behind(made, segment, 0))
    assert report.journal.damaged_segments == 1


async def test_garbage_behind_the_end_is_no_group(made: Made, tmp_path: Path) -> None:
    folder = copy_of(made, tmp_path)
    segment = last_segment(made)
    path = folder / f"{segment:08}.seg"
    data = bytearray(path.read_bytes())
    end = max(at for at in range(0, len(data), BLOCK) if any(data[at : at + BLOCK])) + BLOCK
    data[end : end + 6000] = random.Random(1).randbytes(6000)
    path.write_bytes(data + b"behind the file")
    report = await check(made, folder, set())
    assert report.journal.damaged_groups == 0
    assert not report.journal.is_clean_end


async def test_a_copy_of_a_group_in_another_place_does_not_count_twice(made: Made, tmp_path: Path) -> None:
    folder = copy_of(made, tmp_path)
    path = folder / f"{last_segment(made):08}.seg"
    data = bytearray(path.read_bytes())
    end = max(at for at in range(0, len(data), BLOCK) if any(data[at : at + BLOCK])) + BLOCK
    data[end : end + BLOCK] = data[BLOCK : 2 * BLOCK]
    path.write_bytes(data)
    await check(made, folder, set())


async def test_files_that_are_no_segments_are_left_alone(made: Made, tmp_path: Path) -> None:
    folder = copy_of(made, tmp_path)
    for name in ("00000002.seg.bak", "2.seg", "notes.txt"):
        (folder / name).write_bytes(b"mine")
    await check(made, folder, set())
    assert (folder / "00000002.seg.bak").read_bytes() == b"mine"
