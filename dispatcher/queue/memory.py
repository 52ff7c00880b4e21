"""The queue as it is meant: short, slow, obviously right.  Tests hold the others against it.

Every channel is a list of records; every rule is applied to one record at a time,
in the words of ``interface``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec
import trio

from dispatcher.core.idempotency import IdempotencyTable
from dispatcher.core.memory_pressure import Holding, plan_relief, relief_bytes
from dispatcher.errors import ChannelGone, MemoryFull, PositionLost, Unavailable
from dispatcher.model import KIND_NAMES, Kind, Overflow, Position
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
from dispatcher.wire.uid import uid

_HEADER_BYTES = 32


class _Record(msgspec.Struct, frozen=True):
    """A record; ``ep`` and ``tail`` are what its body holds of them."""

    seq: int
    received_unix_ms: int
    kind: Kind
    body: bytes
    ep: bytes
    tail: bytes

    @property
    def stored_bytes(self) -> int:
        return _HEADER_BYTES + (len(self.body) + 7) // 8 * 8


class _Channel:
    def __init__(self, number: int, options: QueueOptions) -> None:
        self.number = number
        self.options = options
        self.records: list[_Record] = []
        self.last_seq = 0
        self.in_flight_seq = 0
        self.is_open = True

    def copy(self) -> _Channel:
        other = _Channel(self.number, self.options)
        other.records = list(self.records)
        other.last_seq = self.last_seq
        other.in_flight_seq = self.in_flight_seq
        return other

    @property
    def record_bytes(self) -> int:
        return sum(record.stored_bytes for record in self.records)

    @property
    def held_bytes(self) -> int:
        return sum(record.stored_bytes for record in self.records if record.seq <= self.in_flight_seq)

    def drop_oldest(self, record_bytes: int) -> list[_Record]:
        """Drop records that are not in flight until so many bytes are gone."""
        dropped: list[_Record] = []
        while sum(record.stored_bytes for record in dropped) < record_bytes:
            at = next((i for i, record in enumerate(self.records) if record.seq > self.in_flight_seq), None)
            if at is None:
                break
            dropped.append(self.records.pop(at))
        return dropped

    def append(self, record: _Record) -> tuple[list[_Record], list[_Record]]:
        """Store a record; return what was dropped for it and what was refused."""
        excess = self.record_bytes + record.stored_bytes - self.options.queue_bytes
        if self.options.overflow is Overflow.REJECT and excess > 0:
            return [], [record]
        record = msgspec.structs.replace(record, seq=self.last_seq + 1)
        self.last_seq = record.seq
        if self.held_bytes + record.stored_bytes > self.options.queue_bytes:
            return [record], []
        dropped = self.drop_oldest(excess)
        self.records.append(record)
        return dropped, []


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
        self._channels: dict[int, _Channel] = {}
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
        self._channels[channel] = _Channel(channel, options)

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
        parsed = _parse(records, self._received_unix_ms)
        while True:
            copies = {route.channel: self._channel(route.channel).copy() for route in routes}
            outcomes = [_append_route(copies[route.channel], route, parsed) for route in routes]
            if sum(c.record_bytes for c in (self._channels | copies).values()) <= self._memory_bytes_max:
                break
            self._relieve()
        losses = self._unreported
        self._unreported = []
        queued = rejected = 0
        for route, (stored, dropped, refused) in zip(routes, outcomes, strict=True):
            number = route.channel
            self._channels[number].records = copies[number].records
            self._channels[number].last_seq = copies[number].last_seq
            self._ledger.queued(len(stored), sum(record.stored_bytes for record in stored))
            queued += len(stored)
            rejected += len(refused)
            losses += [self._lost(number, "overflow", dropped)] if dropped else []
            losses += [_loss(number, "rejected", refused)] if refused else []
        self._ledger.rejected(rejected)
        appended = Appended(queued=queued, rejected=rejected, losses=tuple(losses))
        if keep is not None:
            self.answers.finish(keep.scope, keep.answer(appended), self._received_unix_ms)
        return appended, DurableInMemory()

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        copy = self._channel(channel).copy()
        return not _append_route(copy, Route(channel), _parse(records, 0))[2]

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

    def _hold(self, channel: _Channel, records: list[_Record], form: Form) -> MemoryBatch | None:
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

    def _lost(self, channel: int, reason: str, records: list[_Record]) -> Loss:
        loss = _loss(channel, reason, records)
        self._ledger.lost(loss)
        return loss

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unavailable("the queue is closed")

    def _channel(self, number: int) -> _Channel:
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

    def __init__(self, channel: _Channel, epoch: int, records: list[_Record], form: Form) -> None:
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


def _parse(records: Records, received_unix_ms: int) -> list[_Record]:
    """The records of a request, without seqs."""
    parsed = []
    at = 0
    for meta in records.meta:
        body_bytes, tail_bytes, ep_bytes = meta & 0xFFFFFF, meta >> 24 & 0xFFFF, meta >> 40 & 0xFFFF
        body = bytes(records.block[at : at + body_bytes])
        at += body_bytes
        ep = body[len('{"ep":"') :][:ep_bytes]
        tail = body[:-1][body_bytes - 1 - tail_bytes :]
        parsed.append(_Record(0, received_unix_ms, Kind(meta >> 56), body, ep, tail))
    return parsed


def _append_route(
    channel: _Channel, route: Route, records: list[_Record]
) -> tuple[list[_Record], list[_Record], list[_Record]]:
    """Append to a channel; return what was given a seq, what was dropped, what was refused."""
    stored: list[_Record] = []
    dropped: list[_Record] = []
    refused: list[_Record] = []
    for index in range(len(records)) if route.indices is None else route.indices:
        dropped_now, refused_now = channel.append(records[index])
        dropped += dropped_now
        refused += refused_now
        stored += [] if refused_now else [records[index]]
    return stored, sorted(dropped, key=lambda record: record.seq), refused


def _loss(channel: int, reason: str, records: list[_Record]) -> Loss:
    return Loss(
        channel=channel,
        reason=reason,
        count=len(records),
        record_bytes=sum(record.stored_bytes for record in records),
        first_seq=records[0].seq,
        last_seq=records[-1].seq,
    )


def _orderly(records: list[_Record]) -> list[_Record]:
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


def _kinds(records: list[_Record]) -> list[Kind]:
    return list(dict.fromkeys(record.kind for record in records))


def _pieces(records: list[_Record], form: Form, options: QueueOptions, epoch: int) -> list[list[bytes]]:
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


def _messages(records: list[_Record], form: Form, options: QueueOptions, epoch: int) -> list[bytes]:
    return [b"".join(pieces) for pieces in _pieces(records, form, options, epoch)]


def _describe(records: list[_Record], form: Form, messages: list[bytes]) -> tuple[Message, ...]:
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


def _emit(record: _Record, form: Form, options: QueueOptions, epoch: int) -> bytes:
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
