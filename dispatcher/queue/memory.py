"""The queue as it is meant: short, slow, obviously right.  Tests hold the others against it.

Every channel is a list of records; every rule is applied to one record at a time,
in the words of ``interface``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import trio

from dispatcher import limits
from dispatcher.core.gap_list import GapList, mark_of
from dispatcher.core.idempotency import IdempotencyTable, KeyScope
from dispatcher.core.memory_pressure import Holding, plan_relief, relief_bytes
from dispatcher.errors import ChannelGone, MemoryFull, Unavailable
from dispatcher.model import Gap, Position
from dispatcher.queue.interface import (
    Appended,
    ChannelStats,
    Form,
    FrozenBatch,
    Loss,
    Peeked,
    QueueOptions,
    QueueTotals,
    Records,
    Route,
    SliceLimits,
)
from dispatcher.queue.ledger import Ledger
from dispatcher.queue.losses import gap_of, joined
from dispatcher.queue.memory_batch import MemoryBatch, messages_of, orderly
from dispatcher.queue.memory_channel import MemoryChannel, MemoryRecord, parse


class DurableInMemory:
    """All is done when ``append`` returns."""

    is_durable = True

    async def durable(self) -> None:
        """Return after one checkpoint."""
        await trio.lowlevel.checkpoint()


class MemoryQueue:
    """The model (``interface.ChannelQueue``); memory is counted in stored bytes."""

    def __init__(self, epoch: int, memory_bytes_max: int) -> None:
        self.epoch = epoch
        self.answers = IdempotencyTable()
        self._memory_bytes_max = memory_bytes_max
        self._channels: dict[int, MemoryChannel] = {}
        self._ledger = Ledger()
        self._received_unix_ms = 0
        self._unreported: list[Loss] = []
        self._is_open = True

    def check_accepting(self) -> None:
        """Memory takes everything, at others' cost."""
        self._check_open()

    def open_channel(self, channel: int, options: QueueOptions) -> None:
        """Begin a channel."""
        self._check_open()
        if channel in self._channels:
            raise ValueError(f"channel {channel} is open")
        self._channels[channel] = MemoryChannel(channel, options)

    def keep_gaps(self, channel: int, is_wanted: bool) -> None:
        """Keep gaps from now on, or forget them."""
        found = self._channel(channel)
        if is_wanted != (found.gaps is not None):
            found.gaps = GapList() if is_wanted else None

    def delete_channel(self, channel: int) -> int:
        """Forget a channel."""
        found = self._channel(channel)
        self._ledger.deleted(len(found.records), found.record_bytes)
        found.is_open = False
        del self._channels[channel]
        return len(found.records)

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, *, has_answer: bool = False
    ) -> tuple[Appended, DurableInMemory]:
        """Store one request's records: tried on copies first, then made true."""
        self._check_open()
        self._received_unix_ms = max(self._received_unix_ms, received_unix_ms)
        parsed = parse(records, self._received_unix_ms)
        while True:
            copies = {route.channel: self._channel(route.channel).copy() for route in routes}
            ahead_bytes_max, outcomes = limits.SUPERSEDED_AHEAD_BYTES_MAX, []
            for route in routes:
                outcomes.append(copies[route.channel].append(_picked(route, parsed), ahead_bytes_max))
                ahead_bytes_max -= min(ahead_bytes_max, outcomes[-1].ahead_bytes)
            if sum(c.record_bytes for c in (self._channels | copies).values()) <= self._memory_bytes_max:
                break
            self._relieve()
        losses = self.take_losses()
        queued = rejected = 0
        for route, outcome in zip(routes, outcomes, strict=True):
            number = route.channel
            self._channels[number].records = copies[number].records
            self._channels[number].last_seq = copies[number].last_seq
            self._channels[number].old = copies[number].old
            self._ledger.queued(len(outcome.queued), sum(record.stored_bytes for record in outcome.queued))
            queued += len(outcome.queued)
            rejected += len(outcome.refused)
            losses += [self._lost(number, "superseded", outcome.superseded)] if outcome.superseded else []
            losses += [self._lost(number, "overflow", outcome.dropped)] if outcome.dropped else []
            if outcome.refused:
                losses.append(_loss(number, "rejected", outcome.refused))
                self._keep_gap(losses[-1])
        self._ledger.rejected(rejected)
        return Appended(queued=queued, rejected=rejected, losses=tuple(losses)), DurableInMemory()

    def keep(self, scope: KeyScope, answer: bytes) -> DurableInMemory:
        """Keep the answer to what was just stored."""
        self.answers.finish(scope, answer, self._received_unix_ms)
        return DurableInMemory()

    def take_losses(self) -> list[Loss]:
        """Losses that nobody was told of yet."""
        losses, self._unreported = self._unreported, []
        return losses

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        copy = self._channel(channel).copy()
        return not copy.append(parse(records, 0)).refused

    def may_have_more(self, channel: int, after: Position) -> bool:
        """False when nothing is behind a position, and no gap is kept."""
        found = self._channel(channel)
        return bool(found.gaps) or any(record.seq > self._seq(after) for record in found.records)

    async def slice(
        self, channel: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> MemoryBatch | None:
        """Take the records after a position."""
        found = self._channel(channel)
        waiting = [record for record in found.records if record.seq > self._seq(after)]
        gaps: tuple[Gap, ...] = ()
        if form.include_gaps and found.gaps is not None:
            telling = found.gaps.telling(self._mark(after), waiting[0].seq if waiting else 0)
            gaps = telling.gaps
            if telling.upto_seq is not None:
                waiting = [record for record in waiting if record.seq <= telling.upto_seq]
        taken = orderly(waiting[: limits.events_max])
        fits = bisect_right(
            range(1, len(taken) + 1),
            limits.bytes_max,
            key=lambda count: sum(
                map(len, messages_of(gaps, taken[:count], form, found.options, self.epoch))
            ),
        )
        return self._hold(found, gaps, taken[: max(1, fits)], form)

    async def peek(self, channel: int, limits: SliceLimits, form: Form) -> list[Peeked]:
        """Look at the oldest records."""
        found = self._channel(channel)
        peeked: list[Peeked] = []
        bytes_count = 0
        for record in found.records[: limits.events_max]:
            if bytes_count >= limits.bytes_max:
                break
            (message,) = messages_of((), [record], form, found.options, self.epoch)
            bytes_count += len(message)
            peeked.append(
                Peeked(
                    position=Position(self.epoch, record.seq),
                    kind=record.kind,
                    message=message,
                    is_in_flight=record.seq <= found.in_flight_seq,
                )
            )
        return peeked

    async def rebuild(
        self, channel: int, first: Position, last: Position, form: Form, events: int | None = None
    ) -> MemoryBatch | None:
        """The same batch again."""
        found = self._channel(channel)
        if first.epoch != self.epoch or last.epoch != self.epoch:
            return None
        told = found.gaps if form.include_gaps else None
        if last.is_behind_gap:
            return self._hold(found, told.told_alone(last.seq) if told is not None else (), [], form)
        records = [record for record in found.records if first.seq <= record.seq <= last.seq]
        if not records or (records[0].seq, records[-1].seq) != (first.seq, last.seq):
            return None
        if events is not None and len(records) != events:
            return None
        return self._hold(found, told.told_in_front_of(first.seq) if told is not None else (), records, form)

    def freeze(self, channel: int, batch: FrozenBatch | None) -> None:
        """Nothing is remembered over a restart."""
        self._channel(channel)

    def frozen(self, channel: int) -> FrozenBatch | None:
        """Nothing was there when the queue was opened."""
        self._channel(channel)
        return None

    def settle(self, channel: int, upto: Position) -> int:
        """Acknowledge every record up to a position."""
        found = self._channel(channel)
        seq = self._seq(upto)
        settled = [record for record in found.records if record.seq <= seq]
        found.records = found.records[len(settled) :]
        if found.gaps is not None:
            found.gaps.settle(self._mark(upto))
        self._ledger.acked(len(settled), sum(record.stored_bytes for record in settled))
        return len(settled)

    def park(self, channel: int, position: Position) -> Loss | None:
        """Take the oldest record out."""
        found = self._channel(channel)
        if not found.records or found.records[0].seq != self._seq(position):
            return None
        self.release(channel)
        return self._lost(channel, "parked", [found.records.pop(0)])

    def release(self, channel: int, after: Position | None = None) -> None:
        """Records after this position are no longer in flight."""
        found = self._channel(channel)
        found.in_flight_seq = min(found.in_flight_seq, self._seq(after))
        if found.gaps is not None:
            found.gaps.release(self._mark(after))

    def expire(self, channel: int, received_before_unix_ms: int) -> Loss | None:
        """Remove every record received before a moment."""
        found = self._channel(channel)
        expired = [record for record in found.records if record.received_unix_ms < received_before_unix_ms]
        found.records = found.records[len(expired) :]
        parts = [
            self._lost(channel, "expired", part)
            for is_in_flight in (True, False)
            if (part := [r for r in expired if (r.seq <= found.in_flight_seq) == is_in_flight])
        ]
        return joined(parts) if parts else None

    def stats(self, channel: int) -> ChannelStats:
        """One channel's figures."""
        found = self._channel(channel)
        return ChannelStats(
            records=len(found.records),
            record_bytes=found.record_bytes,
            last_seq=found.last_seq,
            settled_seq=found.records[0].seq - 1 if found.records else found.last_seq,
            oldest_unix_ms=found.records[0].received_unix_ms if found.records else None,
            gaps=0 if found.gaps is None else len(found.gaps),
        )

    def totals(self) -> QueueTotals:
        """The sums over all channels."""
        self._check_open()
        memory_bytes = sum(channel.record_bytes for channel in self._channels.values())
        return self._ledger.totals(memory_bytes, self._memory_bytes_max)

    def close(self) -> None:
        """Forget everything."""
        for channel in self._channels.values():
            channel.is_open = False
        self._channels.clear()
        self._is_open = False

    def _hold(
        self, channel: MemoryChannel, gaps: tuple[Gap, ...], records: list[MemoryRecord], form: Form
    ) -> MemoryBatch | None:
        if not records and not gaps:
            return None
        batch = MemoryBatch(channel, self.epoch, gaps, records, form)
        if records:  # a gap alone holds nothing
            channel.in_flight_seq = max(channel.in_flight_seq, batch.last.seq)
        if channel.gaps is not None:
            channel.gaps.told(gaps, mark_of(batch.last.seq, batch.last))
        return batch

    def _relieve(self) -> None:
        drops = plan_relief(self._holdings(), relief_bytes(len(self._channels)))
        if not drops:
            raise MemoryFull("no memory: all that is queued is being delivered; try again later")
        for drop in drops:
            dropped = self._channels[drop.channel].drop_oldest(drop.record_bytes)
            self._unreported.append(self._lost(drop.channel, "memory", dropped))

    def _holdings(self) -> Iterator[Holding]:
        for number, channel in self._channels.items():
            bytes_count = channel.record_bytes
            yield Holding(number, channel.options.owner, bytes_count, bytes_count - channel.held_bytes)

    def _lost(self, channel: int, reason: str, records: list[MemoryRecord]) -> Loss:
        loss = _loss(channel, reason, records)
        self._ledger.lost(loss)
        self._keep_gap(loss)
        return loss

    def _keep_gap(self, loss: Loss) -> None:
        channel = self._channels[loss.channel]
        if channel.gaps is not None:
            channel.gaps.add(gap_of(loss, channel.last_seq))

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unavailable("the queue is closed")

    def _channel(self, number: int) -> MemoryChannel:
        self._check_open()
        if number not in self._channels:
            raise ChannelGone(f"channel {number} does not exist")
        return self._channels[number]

    def _seq(self, position: Position | None) -> int:
        if position is None or position.epoch < self.epoch:
            return 0
        if position.epoch > self.epoch:
            raise ValueError(f"{position} is of an epoch that has not begun")
        return position.seq

    def _mark(self, position: Position | None) -> int:
        return mark_of(self._seq(position), position)


def _picked(route: Route, records: list[MemoryRecord]) -> list[MemoryRecord]:
    return records if route.indices is None else [records[index] for index in route.indices]


def _loss(channel: int, reason: str, records: list[MemoryRecord]) -> Loss:
    return Loss(
        channel=channel,
        reason=reason,
        count=len(records),
        record_bytes=sum(record.stored_bytes for record in records),
        first_seq=records[0].seq,
        last_seq=records[-1].seq,
        from_unix_ms=records[0].received_unix_ms,
        to_unix_ms=records[-1].received_unix_ms,
    )
