"""The task that moves one channel's events from its queue to its sink.

The whole life of a delivery is in this file: slice, send, settle what is
confirmed, pause after a failure.  A channel has a task only while there is something
to send; a wakeup gives it one again (``supervisor``).
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from dispatcher.core.batching import events_max
from dispatcher.core.refusals import Search, after_refusal, after_taken, is_refusal
from dispatcher.core.retry import RetryPolicy, after_failure, after_refused_size, after_success
from dispatcher.deliver.sink import DeliveryFailed, OutgoingBatch, Sink
from dispatcher.deliver.turns import turns_of_loop
from dispatcher.model import Position, RefusedEvents
from dispatcher.queue.interface import Batch, ChannelQueue, FrozenBatch
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.parking import Parking


async def run_channel(
    channel: ActiveChannel,
    queue: ChannelQueue,
    now_unix_ms: Callable[[], int],
    observer: Observer,
    parking: Parking,
) -> None:
    """Deliver one channel, in order, at least once, until nothing is left to send.

    Cancellation: allowed at every ``await``.  A batch cut off half way was not
        confirmed, so it is sent again; the receiver may see it twice.
    Memory: none of its own; batches are read through the sink's buffer.
    Raises ``SinkClosed`` when the receiver has gone, and what the queue raises when
        the records have gone meanwhile.
    """
    number, has_sent, turns = channel.row.id, False, turns_of_loop()
    while (sink := channel.ready_sink()) is not None:
        channel.is_dirty = False
        batch = await next_batch(channel, queue, now_unix_ms(), observer)
        if batch is None:
            if channel.is_dirty:
                continue
            return
        if has_sent:
            await turns.give_way()  # a sink may take a small batch without a checkpoint (INV-9)
            if channel.sink is not sink:
                continue  # who took it away gives back what was handed out
        has_sent = True
        started_s = trio.current_time()
        try:
            status = await sink.send(batch)
        except DeliveryFailed as failure:
            observer.delivery_failed(channel, batch, failure, trio.current_time() - started_s)
            if channel.sink is sink:
                _take_failure(channel, queue, batch, failure)
                if channel.search.may_park and await _park(channel, parking, batch, failure):
                    continue
                queue.freeze(number, channel.frozen)
                await _pause(channel)
        else:
            observer.delivered(channel, batch, trio.current_time() - started_s, status)
            _take_success(channel, sink, batch)
            if not channel.is_dirty and not queue.may_have_more(number, batch.last):
                return  # for a lone event, to slice in vain costs as much as to send it


def confirm(channel: ActiveChannel, queue: ChannelQueue, position: Position) -> int:
    """The receiver has everything up to ``position``; return how many records that settled."""
    if channel.is_gone:
        return 0
    settled = queue.settle(channel.row.id, position)
    channel.confirmed_count += settled
    return settled


def expire(channel: ActiveChannel, queue: ChannelQueue, now_unix_ms: int, observer: Observer) -> bool:
    """Remove what is past its lifetime, and tell of it; whether anything was."""
    lifetime_ms = int(channel.row.limits.event_lifetime_s * 1000)
    loss = queue.expire(channel.row.id, now_unix_ms - lifetime_ms)
    if loss is not None:
        observer.lost(channel, loss)
    return loss is not None


def frozen(channel: ActiveChannel, batch: OutgoingBatch) -> FrozenBatch:
    """A batch as it has to go again, for ``ActiveChannel.frozen`` and ``ChannelQueue.freeze``."""
    return FrozenBatch(first=batch.first, last=batch.last, events=batch.events, form=channel.form)


async def next_batch(
    channel: ActiveChannel, queue: ChannelQueue, now_unix_ms: int, observer: Observer
) -> Batch | None:
    """The frozen batch while it stands whole, else the next slice.

    Expires first, so that no event is sent after its lifetime.  None as well while the
    channel is paused.
    """
    number = channel.row.id
    expire(channel, queue, now_unix_ms, observer)
    if channel.row.is_paused:
        return None
    if channel.frozen is not None:
        wanted = channel.frozen
        batch = await queue.rebuild(number, wanted.first, wanted.last, wanted.form, wanted.events)
        if batch is not None:
            return batch
        channel.frozen = None
        queue.release(number, channel.sent)
    queue.freeze(number, None)
    return await queue.slice(number, channel.sent, channel.limits(), channel.form)


def _take_failure(channel: ActiveChannel, queue: ChannelQueue, batch: Batch, failure: DeliveryFailed) -> None:
    """Freeze the batch, or thaw it in a smaller size when it was too large."""
    smaller = after_refused_size(channel.size, batch.bytes_count)
    if failure.is_too_large and batch.events > 1 and smaller != channel.size:
        channel.size = smaller
        channel.frozen = None
        queue.release(channel.row.id, channel.sent)
        return  # the receiver works; the smaller batch goes at once
    if channel.row.limits.refused_events is RefusedEvents.PARK and _is_refused(batch, failure):
        channel.search = after_refusal(channel.search, batch.last, batch.events)
        if batch.events > 1:
            channel.frozen = None
            queue.release(channel.row.id, channel.sent)
            return  # as above
    limits = channel.row.limits
    policy = RetryPolicy(initial_s=limits.retry_initial_s, max_s=limits.retry_max_s)
    channel.retry = after_failure(channel.retry, policy, trio.current_time(), failure.retry_after_s)
    if channel.frozen is None:
        channel.frozen = frozen(channel, batch)


def _take_success(channel: ActiveChannel, sink: Sink, batch: Batch) -> None:
    if channel.sink is not sink:
        return  # another sink took over meanwhile and starts with what is not confirmed
    channel.sent = batch.last
    channel.frozen = None
    channel.retry = channel.retry.__class__()
    channel.size = after_success(channel.size)
    channel.search = after_taken(channel.search, events_max(channel.row))


def _is_refused(batch: Batch, failure: DeliveryFailed) -> bool:
    return batch.events > 0 and is_refusal(failure.status)


async def _park(channel: ActiveChannel, parking: Parking, batch: Batch, failure: DeliveryFailed) -> bool:
    """Set aside the event that was refused alone; True: what is behind it goes at once.

    Failures are not forgotten by it: what is refused next pauses longer.
    """
    assert failure.status is not None, "it was refused by an answer"
    if not await parking.park(channel, batch.last, failure.status):
        return False
    channel.search = Search(events_max=1)
    channel.frozen = None
    return True


async def _pause(channel: ActiveChannel) -> None:
    """Wait until the next attempt is due, or until the registration changes."""
    channel.retry_now = trio.Event()
    try:
        with trio.move_on_at(channel.retry.next_attempt_s):
            await channel.retry_now.wait()
    finally:
        channel.retry_now = None
