"""A queue with a journal in a real folder: opened, closed or left as a kill leaves it, and opened again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from support.patient_append import append_patiently
from support.stored_records import notifications, records_of

from dispatcher.model import Durability, Form, Overflow, Position, SliceLimits
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import QueueOptions, Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import RecoveryReport, open_durable_queue
from dispatcher.queue.whole_messages import read_messages

EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
FORM = Form(mixed_kinds=True, include_uid=True)
NOW_MS = 1_767_225_600_123
SMALL = JournalSizes(segment_bytes=256 << 10, group_bytes_max=128 << 10, allowance_bytes=512 << 10)


def options(
    incarnation: int = 77, queue_bytes: int = 50_000_000, overflow: Overflow = Overflow.DROP_OLDEST
) -> QueueOptions:
    return QueueOptions(incarnation=incarnation, owner=1, queue_bytes=queue_bytes, overflow=overflow)


class Folder:
    """A data folder, how often an epoch was asked for, and the time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs = 0
        self.now_ms = NOW_MS

    async def next_epoch(self) -> int:
        self.epochs += 1
        return self.epochs

    @asynccontextmanager
    async def opened(
        self,
        known: Mapping[int, QueueOptions] | None = None,
        durability: Durability = Durability.DISK,
        is_killed: bool = False,
        memory_bytes: int = 64 << 20,
        sizes: JournalSizes | None = None,
        disk: Disk | None = None,
        seconds_max: float = 20,
    ) -> AsyncIterator[tuple[NativeQueue, RecoveryReport]]:
        """The queue with its loop running; a kill ends it without a last write."""
        known = {1: options()} if known is None else known
        queue, report = await open_durable_queue(
            self.path,
            durability,
            memory_bytes,
            known,
            disk=disk or Disk(sizes or JournalSizes()),
            next_epoch=self.next_epoch,
            new_journal_id=lambda: 12345,
            now_unix_ms=lambda: self.now_ms,
        )
        assert queue.log is not None
        assert queue.residency is not None
        try:
            for number, its in known.items():
                queue.open_channel(number, its)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.log.commit.run)
                nursery.start_soon(queue.residency.run)
                with trio.fail_after(seconds_max):
                    yield queue, report
                    if not is_killed:
                        await queue.log.commit.drain()
                nursery.cancel_scope.cancel()
        finally:
            queue.close()


async def publish(queue: NativeQueue, count: int, channel: int = 1, start: int = 1) -> None:
    records = records_of(notifications(count, first=start))
    _, ticket = await append_patiently(queue, records, [Route(channel)], NOW_MS)
    await ticket.durable()


async def contents(queue: NativeQueue, channel: int = 1) -> list[tuple[str, str]]:
    """All events that may be delivered, as path and uid."""
    found: list[tuple[str, str]] = []
    after: Position | None = None
    while (batch := await queue.slice(channel, after, EVERYTHING, FORM)) is not None:
        for text in await read_messages(batch):
            found += [(event["path"], event["uid"]) for event in json.loads(text)["notifications"]]
        after = batch.last
    queue.release(channel)
    return found


async def turn_over(queue: NativeQueue, segments: int, *, backlog: int = 0) -> None:
    """Publish and settle in channel 1 until so many segments more have gone.

    Each time a few records come into channel 2 as well, and stay there.
    """
    assert queue.log is not None
    journal = queue.log._journal
    last = journal.stats().oldest_segment + segments
    while journal.stats().oldest_segment < last:
        await publish(queue, 500, start=queue.stats(1).last_seq + 1)
        queue.settle(1, Position(queue.epoch, queue.stats(1).last_seq))
        if backlog:
            await publish(queue, backlog, channel=2, start=queue.stats(2).last_seq + 1)
