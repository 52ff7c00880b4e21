"""The model's batches: records grouped and written out by the rules of FORMAT.md, one at a time."""

from __future__ import annotations

from dispatcher.errors import ChannelGone, PositionLost
from dispatcher.model import KIND_NAMES, Form, Gap, Kind, Position
from dispatcher.queue.interface import Message, QueueOptions
from dispatcher.queue.losses import position_behind
from dispatcher.queue.memory_channel import MemoryChannel, MemoryRecord
from dispatcher.wire.gaps import gaps_array
from dispatcher.wire.uid import uid


class MemoryBatch:
    """A batch of the model (``interface.Batch``)."""

    def __init__(
        self,
        channel: MemoryChannel,
        epoch: int,
        gaps: tuple[Gap, ...],
        records: list[MemoryRecord],
        form: Form,
    ) -> None:
        self._channel = channel
        self._pieces = _pieces(gaps, records, form, channel.options, epoch)
        if records:
            self.first = Position(epoch, records[0].seq)
            self.last = Position(epoch, records[-1].seq)
        else:
            self.first = self.last = position_behind(gaps, epoch)
        self._records = records
        self.events = len(records)
        self.messages = _describe(records, form, [b"".join(pieces) for pieces in self._pieces])
        self.bytes_count = sum(message.bytes_count for message in self.messages)
        self._message = self._piece = 0

    async def read_into(self, buffer: bytearray, offset: int) -> int:
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

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        """Leave all of it to others."""
        return 0, 0, filled, unread

    def rewind(self) -> None:
        """Start over."""
        self._message = self._piece = 0


def orderly(records: list[MemoryRecord]) -> list[MemoryRecord]:
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


def _pieces(
    gaps: tuple[Gap, ...], records: list[MemoryRecord], form: Form, options: QueueOptions, epoch: int
) -> list[list[bytes]]:
    """The messages, each as the pieces that are written whole."""
    arrays = []
    for kind in _kinds(records):
        head = b'"%s":[' % KIND_NAMES[kind].encode()
        texts = [_emit(record, form, options, epoch) for record in records if record.kind is kind]
        arrays.append([head, texts[0], *(b"," + text for text in texts[1:]), b"]"])
    groups = [arrays] if form.mixed_kinds and arrays else [[array] for array in arrays]
    if gaps:
        groups = [[[b"".join(gaps_array(gaps))], *first] for first in groups[:1] or [[]]] + groups[1:]
    messages = []
    for group in groups:
        for array in group:
            array[0] = (b"{" if array is group[0] else b",") + array[0]
        group[-1][-1] += b"}"
        messages.append([piece for array in group for piece in array])
    return messages


def messages_of(
    gaps: tuple[Gap, ...], records: list[MemoryRecord], form: Form, options: QueueOptions, epoch: int
) -> list[bytes]:
    return [b"".join(pieces) for pieces in _pieces(gaps, records, form, options, epoch)]


def _describe(records: list[MemoryRecord], form: Form, messages: list[bytes]) -> tuple[Message, ...]:
    kinds = _kinds(records)
    groups = [tuple(kinds)] if form.mixed_kinds or not kinds else [(kind,) for kind in kinds]
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
