"""The queue as it is meant: short, slow, obviously right.  Tests hold the others against it.

Every channel is a list of records; every rule is applied to one record at a time,
in the words of ``interface``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import trio

from dispatcher.core.idempotency import IdempotencyTable
from dispatcher.core.memory_pressure import Holding, plan_relief, relief_bytes
from dispatcher.errors import ChannelGone, MemoryFull, PositionLost, Unavailable
from dispatcher.model import KIND_NAMES, Kind, Position
from dispatcher.queue.interface import (
    Appended,
    ChannelStats,
    Form,
    FrozenBatch,
    Keep,
    Loss,
    Message,
    QueueOptions,
    QueueTotals,
    Records,
    Route,
    SliceLimits,
)
from dispatcher.queue.ledger import Ledger
from dispatcher.queue.memory_channel import MemoryChannel, MemoryRecord, parse
from dispatcher.wire.uid import uid


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

    def delete_channel(self, channel: int) -> int:
        """Forget a channel."""
        found = self._channel(channel)
        self._ledger.deleted(len(found.records), found.record_bytes)
        found.is_open = False
        del self._channels[channel]
        return len(found.records)

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, keep: Keep | None = None
    ) -> tuple[Appended, DurableInMemory]:
        """Store one request's records: tried on copies first, then made true."""
        self._check_open()
        self._received_unix_ms = max(self._received_unix_ms, received_unix_ms)
        parsed = parse(records, self._received_unix_ms)
        while True:
            copies = {route.channel: self._channel(route.channel).copy() for route in routes}
            outcomes = [copies[route.channel].append(_picked(route, parsed)) for route in routes]
            if sum(c.record_bytes for c in (self._channels | copies).values()) <= self._memory_bytes_max:
                break
            self._relieve()
        losses = self._unreported
        self._unreported = []
        queued = rejected = 0
        for route, outcome in zip(routes, outcomes, strict=True):
            number = route.channel
            self._channels[number].records = copies[number].records
            self._channels[number].last_seq = copies[number].last_seq
            self._channels[number].sweep_credit = copies[number].sweep_credit
            self._ledger.queued(len(outcome.queued), sum(record.stored_bytes for record in outcome.queued))
            queued += len(outcome.queued)
            rejected += len(outcome.refused)
            losses += [self._lost(number, "superseded", outcome.superseded)] if outcome.superseded else []
            losses += [self._lost(number, "overflow", outcome.dropped)] if outcome.dropped else []
            losses += [_loss(number, "rejected", outcome.refused)] if outcome.refused else []
        self._ledger.rejected(rejected)
        appended = Appended(queued=queued, rejected=rejected, losses=tuple(losses))
        if keep is not None:
            self.answers.finish(keep.scope, keep.answer(appended), self._received_unix_ms)
        return appended, DurableInMemory()

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        copy = self._channel(channel).copy()
        return not copy.append(parse(records, 0)).refused

    async def slice(
        self, channel: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> MemoryBatch | None:
        """Take the records after a position."""
        found = self._channel(channel)
        waiting = [record for record in found.records if record.seq > self._seq(after)]
        orderly = _orderly(waiting[: limits.events_max])
        fits = bisect_right(
            range(1, len(orderly) + 1),
            limits.bytes_max,
            key=lambda count: sum(map(len, _messages(orderly[:count], form, found.options, self.epoch))),
        )
        return self._hold(found, orderly[: max(1, fits)], form)

    async def rebuild(
        self, channel: int, first: Position, last: Position, form: Form, events: int | None = None
    ) -> MemoryBatch | None:
        """The same batch again."""
        found = self._channel(channel)
        if first.epoch != self.epoch or last.epoch != self.epoch:
            return None
        records = [record for record in found.records if first.seq <= record.seq <= last.seq]
        if not records or (records[0].seq, records[-1].seq) != (first.seq, last.seq):
            return None
        if events is not None and len(records) != events:
            return None
        return self._hold(found, records, form)

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
        self._ledger.acked(len(settled), sum(record.stored_bytes for record in settled))
        return len(settled)

    def release(self, channel: int, after: Position | None = None) -> None:
        """Records after this position are no longer in flight."""
        found = self._channel(channel)
        found.in_flight_seq = min(found.in_flight_seq, self._seq(after))

    def expire(self, channel: int, received_before_unix_ms: int) -> Loss | None:
        """Remove every record received before a moment."""
        found = self._channel(channel)
        expired = [record for record in found.records if record.received_unix_ms < received_before_unix_ms]
        found.records = found.records[len(expired) :]
        return self._lost(channel, "expired", expired) if expired else None

    def stats(self, channel: int) -> ChannelStats:
        """One channel's figures."""
        found = self._channel(channel)
        return ChannelStats(
            records=len(found.records),
            record_bytes=found.record_bytes,
            last_seq=found.last_seq,
            settled_seq=found.records[0].seq - 1 if found.records else found.last_seq,
            oldest_unix_ms=found.records[0].received_unix_ms if found.records else None,
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

    def _hold(self, channel: MemoryChannel, records: list[MemoryRecord], form: Form) -> MemoryBatch | None:
        if not records:
            return None
        channel.in_flight_seq = max(channel.in_flight_seq, records[-1].seq)
        return MemoryBatch(channel, self.epoch, records, form)

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
        return loss

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


class MemoryBatch:
    """A batch of the model (``interface.Batch``)."""

    def __init__(self, channel: MemoryChannel, epoch: int, records: list[MemoryRecord], form: Form) -> None:
        self._channel = channel
        self._pieces = _pieces(records, form, channel.options, epoch)
        self.first = Position(epoch, records[0].seq)
        self.last = Position(epoch, records[-1].seq)
        self._records = records
        self.events = len(records)
        self.messages = _describe(records, form, [b"".join(pieces) for pieces in self._pieces])
        self.bytes_count = sum(message.bytes_count for message in self.messages)
        self._message = self._piece = 0

    def read_into(self, buffer: bytearray, offset: int) -> int:
        """Write whole pieces while they fit, never past the end of a message."""
        if not self._channel.is_open:
            raise ChannelGone(f"channel {self._channel.number} was deleted")
        if self._message == len(self._pieces):
            return 0
        if any(record not in self._channel.records for record in self._records):
            raise PositionLost(f"records of channel {self._channel.number} are gone")
        pieces = self._pieces[self._message]
        if len(buffer) - offset < len(pieces[self._piece]):
            buffer.extend(bytes(offset + len(pieces[self._piece]) - len(buffer)))
        at = offset
        while self._piece < len(pieces) and at + len(pieces[self._piece]) <= len(buffer):
            piece = pieces[self._piece]
            buffer[at : at + len(piece)] = piece
            at += len(piece)
            self._piece += 1
        if self._piece == len(pieces):
            self._message, self._piece = self._message + 1, 0
        return at - offset

    def rewind(self) -> None:
        """Start over."""
        self._message = self._piece = 0

    def tobytes(self) -> list[bytes]:
        """All messages."""
        self.rewind()
        messages = []
        for message in self.messages:
            buffer = bytearray(message.bytes_count)
            messages.append(bytes(buffer[: self.read_into(buffer, 0)]))
        self.rewind()
        return messages


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
    )


def _orderly(records: list[MemoryRecord]) -> list[MemoryRecord]:
    """As many records as can be grouped by kind without changing any device's order."""
    order: list[Kind] = []
    latest: dict[bytes, int] = {}  # ep -> the latest place in the order under which it stands
    for count, record in enumerate(records):
        if record.kind not in order:
            order.append(record.kind)
        place = order.index(record.kind)
        if record.ep and latest.get(record.ep, 0) > place:
            return records[:count]
        if record.ep:
            latest[record.ep] = place
    return records


def _kinds(records: list[MemoryRecord]) -> list[Kind]:
    return list(dict.fromkeys(record.kind for record in records))


def _pieces(records: list[MemoryRecord], form: Form, options: QueueOptions, epoch: int) -> list[list[bytes]]:
    """The messages, each as the pieces that are written whole."""
    arrays = []
    for kind in _kinds(records):
        head = b'"%s":[' % KIND_NAMES[kind].encode()
        texts = [_emit(record, form, options, epoch) for record in records if record.kind is kind]
        arrays.append([head, texts[0], *(b"," + text for text in texts[1:]), b"]"])
    groups = [arrays] if form.mixed_kinds else [[array] for array in arrays]
    messages = []
    for group in groups:
        for array in group:
            array[0] = (b"{" if array is group[0] else b",") + array[0]
        group[-1][-1] += b"}"
        messages.append([piece for array in group for piece in array])
    return messages


def _messages(records: list[MemoryRecord], form: Form, options: QueueOptions, epoch: int) -> list[bytes]:
    return [b"".join(pieces) for pieces in _pieces(records, form, options, epoch)]


def _describe(records: list[MemoryRecord], form: Form, messages: list[bytes]) -> tuple[Message, ...]:
    kinds = _kinds(records)
    groups = [tuple(kinds)] if form.mixed_kinds else [(kind,) for kind in kinds]
    return tuple(
        Message(
            kinds=group,
            events=sum(record.kind in group for record in records),
            bytes_count=len(message),
        )
        for group, message in zip(groups, messages, strict=True)
    )


def _emit(record: MemoryRecord, form: Form, options: QueueOptions, epoch: int) -> bytes:
    """A record as it stands in a message."""
    if record.kind is Kind.ASYNC_RESPONSE:
        return record.body
    is_leaving = record.kind in (Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED)
    if is_leaving and not form.deregistrations_as_object:
        return b'"%s"' % record.ep
    text = record.body[: len(record.body) - 1 - len(record.tail)]
    if form.include_uid:
        text += b',"uid":"%s"' % uid(options.incarnation, epoch, record.seq).encode()
    if form.include_timestamp:
        text += b',"timestamp":%d' % record.received_unix_ms
    if record.tail and (form.include_original_ep or record.kind in (Kind.REGISTRATION, Kind.REG_UPDATE)):
        text += record.tail
    elif form.include_original_ep and not record.tail:
        text += b',"original-ep":"%s"' % record.ep
    return text + b"}"
