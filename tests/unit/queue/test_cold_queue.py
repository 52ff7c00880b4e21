"""Queues larger than their memory: what does not fit lies on the disk, and only its readers wait for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
from support.cold_queues import WatchedDisk, cool, small_queue
from support.patient_append import append_patiently
from support.stored_records import Item, notifications, records_of

from dispatcher import limits
from dispatcher.errors import (
    ChannelGone,
    JournalBehind,
    MemoryFull,
    PositionLost,
    StorageFull,
    StorageUnreadable,
)
from dispatcher.model import Form, Kind, Overflow, Position, SliceLimits
from dispatcher.queue.interface import Batch, Loss, QueueOptions, Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_residency import Reach
from dispatcher.queue.whole_messages import read_messages

FORM = Form(mixed_kinds=True)
SOME = SliceLimits(events_max=2_000, bytes_max=1 << 20)
NOW_MS = 1_767_225_600_123
PADDING = 900  # with it a record is about a kilobyte


def open_channels(queue: NativeQueue, count: int, queue_bytes: int = 50_000_000) -> None:
    for number in range(1, count + 1):
        options = QueueOptions(
            incarnation=number, owner=1, queue_bytes=queue_bytes, overflow=Overflow.DROP_OLDEST
        )
        queue.open_channel(number, options)


async def put(queue: NativeQueue, channel: int, count: int, first: int, unix_ms: int = NOW_MS) -> None:
    records = records_of(notifications(count, padding=PADDING, first=first))
    await append_patiently(queue, records, [Route(channel)], unix_ms)


async def put_until_refused(queue: NativeQueue, channel: int, at_once: int) -> int:
    """Append until the disk is full; how many were stored."""
    stored = 0
    with pytest.raises(StorageFull, match="disk_bytes"):  # noqa: PT012  the one that no longer fits
        while True:
            await put(queue, channel, at_once, stored)
            stored += at_once
    return stored


async def fill(queue: NativeQueue, channels: int, events: int, at_once: int = 500) -> None:
    """The same numbered events for each channel, in turn."""
    for first in range(0, events, at_once):
        for channel in range(1, channels + 1):
            await put(queue, channel, min(at_once, events - first), first)


async def read(batch: Batch, piece_bytes: int = 64 << 10) -> bytes:
    """A batch as a sink reads it."""
    buffer = bytearray(piece_bytes)
    text = bytearray()
    batch.rewind()
    while len(text) < batch.bytes_count:
        text += buffer[: await batch.read_into(buffer, 0)]
    return bytes(text)


def numbers_in(text: bytes) -> list[int]:
    """The events' numbers, in the order of a message's text."""
    parts = text.split(b'"path":"/3303/0/')[1:]
    return [int(part.split(b'"')[0]) for part in parts]


async def drain(queue: NativeQueue, channel: int) -> list[int]:
    """Deliver all of a channel."""
    numbers: list[int] = []
    while (batch := await queue.slice(channel, None, SOME, FORM)) is not None:
        numbers += numbers_in(await read(batch))
        queue.settle(channel, batch.last)
    return numbers


async def one_batch(queue: NativeQueue) -> tuple[Batch, bytes]:
    """A megabyte of records that are in memory, and its text."""
    open_channels(queue, 1)
    await put(queue, 1, 900, 0)
    batch = await queue.slice(1, None, SOME, FORM)
    assert batch is not None
    return batch, await read(batch)


async def test_more_than_memory_is_held_and_comes_out_in_order(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 8)
        await fill(queue, 8, 4_000)
        totals = queue.totals()
        assert totals.record_bytes > 3 * totals.memory_bytes_max
        assert totals.memory_bytes <= totals.memory_bytes_max
        assert totals.scratch_bytes > totals.record_bytes - totals.memory_bytes_max
        for channel in range(1, 9):
            assert await drain(queue, channel) == list(range(4_000))
        assert queue.totals().records == queue.totals().record_bytes == 0
        assert queue.totals().dropped == {}


async def test_the_disk_is_never_waited_for_on_the_trio_thread(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 4)
        await fill(queue, 4, 4_000)
        for channel in range(1, 5):
            assert await drain(queue, channel) == list(range(4_000))
    assert disk.threads
    assert threading.get_ident() not in disk.threads


async def test_many_channels_are_read_at_the_same_time(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 30)
        await fill(queue, 30, 1_000, at_once=100)
        results: dict[int, list[int]] = {}

        async def read_one(channel: int) -> None:
            results[channel] = await drain(queue, channel)

        async with trio.open_nursery() as nursery:
            for channel in range(1, 31):
                nursery.start_soon(read_one, channel)
        assert results == {channel: list(range(1_000)) for channel in range(1, 31)}


async def test_a_batch_that_waits_for_its_receiver_costs_no_memory(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        batch, before = await one_batch(queue)
        cool(queue)
        assert await read(batch) == before
        cool(queue)
        again = await queue.rebuild(1, batch.first, batch.last, FORM)
        assert again is not None
        assert await read(again) == before
        cool(queue)
        assert await read_messages(again) == [before]


async def read_without_memory_or_disk(
    queue: NativeQueue, disk: WatchedDisk, batch: Batch, begun: bytes = b""
) -> bytes:
    """The rest of a batch, from nothing but what was written of it already."""
    cool(queue)
    disk.is_broken = True
    text, buffer = bytearray(begun), bytearray(64 << 10)
    while len(text) < batch.bytes_count:
        text += buffer[: await batch.read_into(buffer, 0)]
    disk.is_broken = False
    return bytes(text)


@pytest.mark.parametrize("starts_in_memory", [False, True])
async def test_slices_of_a_cold_queue_are_framed_by_the_threads_that_read_them(
    tmp_path: Path, starts_in_memory: bool
) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, memory_bytes=32 << 20, disk=disk) as queue:
        open_channels(queue, 1)
        await fill(queue, 1, 5_000)
        cool(queue)
        disk.threads.clear()
        numbers: list[int] = []
        while (batch := await queue.slice(1, None, SOME, FORM)) is not None:
            numbers += numbers_in(await read_without_memory_or_disk(queue, disk, batch))
            if starts_in_memory:  # the rest of a chunk, in front of others that are cold
                assert queue.residency is not None
                reach = Reach(first_seq=batch.last.seq + 1, records_max=1)
                assert await queue.residency.fetch(queue.rings.channels[1], reach)
            queue.settle(1, batch.last)
        assert numbers == list(range(5_000))
        assert disk.threads
        assert threading.get_ident() not in disk.threads


async def test_a_batch_that_is_sent_again_is_framed_by_the_thread_that_reads_it(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, memory_bytes=32 << 20, disk=disk) as queue:
        batch, before = await one_batch(queue)
        cool(queue)
        again = await queue.rebuild(1, batch.first, batch.last, FORM, batch.events)
        assert again is not None
        assert await read_without_memory_or_disk(queue, disk, again) == before
        cool(queue)
        assert await queue.rebuild(1, batch.first, batch.last, FORM, batch.events - 1) is None


async def test_what_went_cold_while_it_waited_is_framed_by_the_thread_that_reads_it(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, memory_bytes=32 << 20, disk=disk) as queue:
        batch, before = await one_batch(queue)
        batch.rewind()
        cool(queue)
        disk.threads.clear()
        buffer = bytearray(64 << 10)
        count = await batch.read_into(buffer, 0)
        assert len(disk.threads) == 1
        assert threading.get_ident() not in disk.threads
        assert await read_without_memory_or_disk(queue, disk, batch, bytes(buffer[:count])) == before


async def test_many_batches_that_nobody_reads_keep_no_more_than_their_bound(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 20)
        await fill(queue, 20, 800)
        cool(queue)
        assert queue.residency is not None
        batches = [await queue.slice(channel, None, SOME, FORM) for channel in range(1, 21)]
        cold = queue._slicer.cold
        assert cold is not None
        assert sum(batch.bytes_count for batch in batches if batch is not None) > 4 * cold.bytes_max
        assert 0 < cold.bytes_held <= cold.bytes_max
        for batch in batches:
            assert batch is not None
            assert numbers_in(await read(batch)) == list(range(batch.events))
        batches.clear()
        del batch
        assert cold.bytes_held == 0


async def test_records_of_another_kind_behind_those_in_memory_are_waited_for_like_others(
    tmp_path: Path,
) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        items = notifications(400, padding=PADDING)
        items += [Item(Kind.ASYNC_RESPONSE, "", number, PADDING) for number in range(400)]
        await append_patiently(queue, records_of(items), [Route(1)], NOW_MS)
        batch = await queue.slice(1, None, SOME, FORM)
        assert batch is not None
        assert len(batch.messages[0].kinds) == 2
        before = await read(batch)
        batch.rewind()
        buffer = bytearray(batch.bytes_count)
        at = 0
        while at < batch.bytes_count:
            cool(queue)
            disk.threads.clear()
            assert queue.residency is not None
            assert await queue.residency.fetch(queue.rings.channels[1], Reach(first_seq=1, records_max=1))
            at += await batch.read_into(buffer, at)
            assert threading.get_ident() not in disk.threads
        assert buffer == before


async def test_gaps_go_before_what_is_cold(tmp_path: Path) -> None:
    form = Form(mixed_kinds=True, include_gaps=True)
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        queue.keep_gaps(1, True)
        await put(queue, 1, 10, 0)
        await put(queue, 1, 90, 10, unix_ms=NOW_MS + 1)
        queue.expire(1, NOW_MS + 1)
        batch = await queue.slice(1, None, SOME, form)
        assert batch is not None
        before = await read(batch)
        assert b'"gaps":[' in before
        batch.rewind()
        cool(queue)
        assert await read(batch) == before


@pytest.mark.parametrize("change", ["nothing", "append", "settle", "expire", "delete", "cancel"])
async def test_what_was_framed_counts_only_if_the_batch_is_whole_then(tmp_path: Path, change: str) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        await put(queue, 1, 100, 0)
        batch = await queue.slice(1, None, SOME, FORM)
        assert batch is not None
        before = await read(batch)
        batch.rewind()
        cool(queue)
        disk.exit = trio.Event()
        results: list[bytes | type[Exception]] = []

        async def read_one() -> None:
            try:
                results.append(await read(batch, piece_bytes=1 << 20))
            except (PositionLost, ChannelGone) as error:
                results.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_one)
            await trio.testing.wait_all_tasks_blocked()
            match change:
                case "append":
                    await put(queue, 1, 10, 100)
                case "settle":
                    queue.settle(1, Position(1, 1))
                case "expire":
                    queue.expire(1, NOW_MS + 1)
                case "delete":
                    queue.delete_channel(1)
                case "cancel":
                    nursery.cancel_scope.cancel()
            disk.exit.set()
        expected: dict[str, list[bytes | type[Exception]]] = {
            "settle": [PositionLost],
            "expire": [PositionLost],
            "delete": [ChannelGone],
            "cancel": [],
        }
        assert results == expected.get(change, [before])
        disk.exit = None
        if change == "cancel":
            assert await read(batch) == before


async def test_a_frozen_batch_larger_than_the_memory_for_it_is_not_rebuilt(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        await fill(queue, 1, 9_000)
        cool(queue)
        assert await queue.rebuild(1, Position(1, 1), Position(1, 9_000), FORM) is None
        assert await drain(queue, 1) == list(range(9_000))


async def test_settling_what_is_cold_waits_for_nothing_and_the_books_are_right(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        await put(queue, 1, 100, 0)
        cool(queue)
        assert queue.settle(1, Position(1, 40)) == 40
        assert queue.stats(1).records == queue.totals().records == 60
        batch = await queue.slice(1, None, SOME, FORM)
        assert batch is not None
        assert numbers_in(await read(batch)) == list(range(40, 100))
        assert queue.stats(1).record_bytes == queue.totals().record_bytes
        assert queue.settle(1, batch.last) == 60
        assert queue.totals().record_bytes == 0


async def test_what_is_too_old_is_not_sent_though_it_was_cold(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        for number in range(100):
            await put(queue, 1, 1, number, unix_ms=NOW_MS + number)
        cool(queue)
        told: list[Loss] = []
        queue.report_to(told.append)
        loss = queue.expire(1, NOW_MS + 10)  # chunks that are too old as a whole
        assert loss is not None
        assert queue.stats(1).oldest_unix_ms is not None
        batch = await queue.slice(1, None, SOME, FORM)
        assert batch is not None
        (late,) = told
        assert (loss.first_seq, late.first_seq, late.last_seq) == (1, loss.last_seq + 1, 10)
        assert (late.reason, loss.count + late.count) == ("expired", 10)
        assert numbers_in(await read(batch)) == list(range(10, 100))
        assert queue.totals().expired == 10
        appended, _ = queue.append(records_of(notifications(1)), [Route(1)], NOW_MS + 100)
        assert appended.losses == ()  # it was told already


async def test_a_batch_that_expired_is_gone_and_not_cold(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        for number in range(100):
            await put(queue, 1, 1, number, unix_ms=NOW_MS + number)
        batch = await queue.slice(1, None, SliceLimits(events_max=10, bytes_max=1 << 20), FORM)
        assert batch is not None
        queue.expire(1, NOW_MS + 50)
        cool(queue)
        with pytest.raises(PositionLost):
            await batch.read_into(bytearray(64 << 10), 0)
        assert await queue.rebuild(1, batch.first, batch.last, FORM) is None


async def test_a_full_channel_gives_up_whole_chunks_of_what_is_cold(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1, queue_bytes=1_000_000)
        for first in range(0, 3_000, 100):
            await put(queue, 1, 100, first)
            cool(queue)
        totals = queue.totals()
        assert 700_000 < totals.record_bytes <= 1_000_000
        assert totals.dropped == {"overflow": 3_000 - totals.records}
        assert await drain(queue, 1) == list(range(3_000 - totals.records, 3_000))


async def test_publishers_are_told_to_come_again_while_the_disk_is_behind(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        disk.gate = trio.Event()
        records = records_of(notifications(500, padding=PADDING))
        with pytest.raises(JournalBehind) as refused:  # noqa: PT012  the one that no longer fits
            for _ in range(20):
                queue.append(records, [Route(1)], NOW_MS)
        assert refused.value.retry_after_s is not None
        held = queue.totals().records
        assert held >= 4_000
        await trio.testing.wait_all_tasks_blocked()
        assert disk.waiting == 1
        disk.gate.set()
        await put(queue, 1, 500, 0)
        assert queue.totals().records == held + 500
        assert queue.totals().dropped == {}


async def test_a_request_larger_than_memory_is_refused_for_good(tmp_path: Path) -> None:
    async with small_queue(tmp_path) as queue:
        open_channels(queue, 1)
        with pytest.raises(MemoryFull, match="memory_bytes"):
            queue.append(records_of(notifications(9_000, padding=PADDING)), [Route(1)], NOW_MS)


async def test_a_full_disk_refuses_and_delivers_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.01)
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 2, queue_bytes=200_000_000)
        await put(queue, 2, 1_000, 0)
        cool(queue)
        disk.is_full = True
        first = await put_until_refused(queue, 1, 1_000)  # the space that was taken before goes first
        with pytest.raises(StorageFull):
            queue.check_accepting()
        assert await drain(queue, 2) == list(range(1_000))  # what is cold is read past what cannot move
        disk.is_full = False
        with trio.fail_after(5):
            while True:
                try:
                    await put(queue, 1, 1_000, first)
                except StorageFull:
                    await trio.sleep(0.01)
                else:
                    break
        queue.check_accepting()
        assert await drain(queue, 1) == list(range(first + 1_000))
        assert queue.totals().dropped == {}


async def test_the_bound_of_the_disk_refuses_until_something_was_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.01)
    async with small_queue(tmp_path, disk_bytes=10 << 20) as queue:
        open_channels(queue, 1)
        first = await put_until_refused(queue, 1, 100)
        assert queue.totals().scratch_bytes == 10 << 20
        assert queue.totals().record_bytes > 12 << 20
        assert await drain(queue, 1) == list(range(first))
        await put(queue, 1, 100, 0)
        with trio.fail_after(5):
            while "full" in repr(queue.residency):  # noqa: ASYNC110  it looks again on its own
                await trio.sleep(0.01)


async def test_a_disk_that_gives_nothing_back_is_told_and_nothing_is_dropped(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        await put(queue, 1, 100, 0)
        cool(queue)
        disk.is_broken = True
        with pytest.raises(StorageUnreadable, match="check it"):
            await queue.slice(1, None, SOME, FORM)
        disk.is_broken = False
        assert await drain(queue, 1) == list(range(100))
        assert queue.totals().dropped == {}


async def test_a_channel_may_go_while_it_is_being_read(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        await put(queue, 1, 100, 0)
        cool(queue)
        disk.gate = trio.Event()

        async def read_one() -> None:
            with pytest.raises(ChannelGone):
                await queue.slice(1, None, SOME, FORM)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_one)
            await trio.testing.wait_all_tasks_blocked()
            queue.delete_channel(1)
            disk.gate.set()
        assert queue.totals().deleted == 100


async def test_a_cancelled_slice_leaves_the_queue_as_it_was(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with small_queue(tmp_path, disk=disk) as queue:
        open_channels(queue, 1)
        await put(queue, 1, 100, 0)
        cool(queue)
        disk.gate = trio.Event()
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + 0.01
            await queue.slice(1, None, SOME, FORM)
        assert scope.cancelled_caught
        disk.gate = None
        assert await drain(queue, 1) == list(range(100))


async def test_the_scratch_file_is_private_and_gone_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(b"left by an earlier run")
    async with small_queue(tmp_path) as queue:
        assert not (tmp_path / "scratch").exists()
        open_channels(queue, 1)
        await fill(queue, 1, 8_000)
        about = (tmp_path / "scratch").stat()
        assert about.st_mode & 0o777 == 0o600
        assert about.st_blocks * 512 >= queue.totals().scratch_bytes  # never sparse
    assert not (tmp_path / "scratch").exists()
