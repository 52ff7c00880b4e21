"""Batches without a queue: messages given as the records they are made of."""

from __future__ import annotations

import msgspec

from dispatcher.model import Kind, Position


class ListedMessage(msgspec.Struct, frozen=True):
    records: tuple[bytes, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.NOTIFICATION,)

    @property
    def events(self) -> int:
        return len(self.records)

    @property
    def bytes_count(self) -> int:
        return sum(map(len, self.records))


class ListedBatch:
    """An ``OutgoingBatch`` whose message i is the concatenation of ``messages[i]``.

    Keeps the promises of the queue's batches: whole records while they fit, never
    past the end of a message, and a buffer that grows for a record that does not fit.
    """

    def __init__(self, messages: list[list[bytes]], *, last: int, epoch: int = 1) -> None:
        self.messages = tuple(ListedMessage(tuple(records)) for records in messages)
        self.events = sum(message.events for message in self.messages)
        self.bytes_count = sum(message.bytes_count for message in self.messages)
        self.first = Position(epoch, last - self.events + 1)
        self.last = Position(epoch, last)
        self.fails_after_reads: int | None = None
        self.reads = 0
        self.rewind()

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        return 0, 0, filled, unread  # it has no core to do it

    def rewind(self) -> None:
        self._message = self._record = 0

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        if self.reads == self.fails_after_reads:
            raise LookupError("records are gone")
        self.reads += 1
        if self._message == len(self.messages):
            return 0
        records = self.messages[self._message].records
        end = offset
        while self._record < len(records):
            record = records[self._record]
            if end + len(record) > len(buffer):
                if end > offset:
                    return end - offset
                buffer.extend(bytes(end + len(record) - len(buffer)))
            buffer[end : end + len(record)] = record
            end += len(record)
            self._record += 1
        self._message += 1
        self._record = 0
        return end - offset


def numbered_batch(first: int, events: int, *, record_bytes: int = 40) -> ListedBatch:
    """One message ``{"notifications":[...]}`` of events with ``"path":"/n"``, numbered from ``first``."""
    records = [_numbered_record(number, record_bytes) for number in range(first, first + events)]
    records = [b"," + record for record in records]
    records[0] = b'{"notifications":[' + records[0][1:]
    records[-1] += b"]}"
    return ListedBatch([records], last=first + events - 1)


def _numbered_record(number: int, record_bytes: int) -> bytes:
    record = b'{"ep":"device","path":"/%d","payload":""}' % number
    padding = max(0, record_bytes - len(record))
    return record[:-2] + b"A" * padding + record[-2:]
