"""One channel of a queue, and what is done to it and asked of it again and again."""

from __future__ import annotations

import json

from support.stored_records import Item, at_once, notifications, records_of, stored_bytes

from dispatcher.model import Overflow, Position
from dispatcher.queue.interface import (
    Appended,
    Batch,
    ChannelQueue,
    Form,
    QueueOptions,
    Records,
    Route,
    SliceLimits,
)
from dispatcher.queue.whole_messages import read_messages

EPOCH = 5
NOW_MS = 1_767_225_600_123
INCARNATION = 0xC0FFEE
EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
PLAIN = Form(mixed_kinds=True)


def open_channel(
    queue: ChannelQueue,
    channel: int = 1,
    *,
    queue_bytes: int = 50_000_000,
    overflow: Overflow = Overflow.DROP_OLDEST,
    owner: int = 1,
) -> None:
    options = QueueOptions(incarnation=INCARNATION, owner=owner, queue_bytes=queue_bytes, overflow=overflow)
    queue.open_channel(channel, options)


async def store(queue: ChannelQueue, records: Records, *routes: Route, unix_ms: int = NOW_MS) -> Appended:
    """Append, and wait until it is durable: before that nothing of it may be seen."""
    appended, ticket = queue.append(records, routes, unix_ms)
    await ticket.durable()
    return appended


async def append(queue: ChannelQueue, items: list[Item], channel: int = 1, unix_ms: int = NOW_MS) -> Appended:
    return await store(queue, records_of(items), Route(channel), unix_ms=unix_ms)


async def take(
    queue: ChannelQueue, after: int | None = None, *, events: int = 100_000, form: Form = PLAIN
) -> Batch:
    position = None if after is None else Position(EPOCH, after)
    batch = await queue.slice(1, position, SliceLimits(events_max=events, bytes_max=1 << 30), form)
    assert batch is not None
    return batch


def numbers_in(batch: Batch) -> list[int]:
    return [
        int(event["path"].rsplit("/", 1)[1])
        for event in json.loads(at_once(read_messages(batch))[0])["notifications"]
    ]


async def numbers_of(queue: ChannelQueue, channel: int = 1) -> list[int]:
    batch = await queue.slice(channel, None, EVERYTHING, PLAIN)
    queue.release(channel)
    return [] if batch is None else numbers_in(batch)


def assert_balanced(queue: ChannelQueue) -> None:
    totals = queue.totals()
    gone = (
        totals.acked
        + totals.expired
        + totals.superseded
        + totals.parked
        + totals.deleted
        + sum(totals.dropped.values())
    )
    assert totals.queued == gone + totals.records


def room_for(count: int) -> int:
    return count * stored_bytes(notifications(1)[0])
