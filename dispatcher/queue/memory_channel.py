"""One channel of the model (``memory``): a list of records, and what happens when it is full."""

from __future__ import annotations

import json

import msgspec

from dispatcher.core.gap_list import GapList
from dispatcher.model import Kind, Overflow
from dispatcher.queue.interface import SWEEP_BYTES, QueueOptions, Records

_HEADER_BYTES = 32


class MemoryRecord(msgspec.Struct, frozen=True):
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

    @property
    def resource(self) -> tuple[str, str] | None:
        """Whose newest value a notification may be."""
        if self.kind is not Kind.NOTIFICATION:
            return None
        event = json.loads(self.body)
        return event["ep"], event["path"]


class Outcome(msgspec.Struct):
    """What an append did to one channel."""

    queued: list[MemoryRecord] = []
    superseded: list[MemoryRecord] = []
    dropped: list[MemoryRecord] = []
    refused: list[MemoryRecord] = []


class MemoryChannel:
    """A queue as a list.  Every rule is applied to one record at a time, but for superseding."""

    def __init__(self, number: int, options: QueueOptions) -> None:
        self.number = number
        self.options = options
        self.records: list[MemoryRecord] = []
        self.last_seq = 0
        self.in_flight_seq = 0
        self.gaps = GapList() if options.keeps_gaps else None
        self.sweep_credit = 2 * options.queue_bytes  # that may be looked through for superseded records
        self.is_open = True

    def copy(self) -> MemoryChannel:
        other = MemoryChannel(self.number, self.options)
        other.records = list(self.records)
        other.last_seq = self.last_seq
        other.in_flight_seq = self.in_flight_seq
        other.sweep_credit = self.sweep_credit
        return other

    @property
    def record_bytes(self) -> int:
        return sum(record.stored_bytes for record in self.records)

    @property
    def held_bytes(self) -> int:
        return sum(record.stored_bytes for record in self.records if record.seq <= self.in_flight_seq)

    def drop_oldest(self, record_bytes: int) -> list[MemoryRecord]:
        """Drop records that are not in flight until so many bytes are gone."""
        dropped: list[MemoryRecord] = []
        while sum(record.stored_bytes for record in dropped) < record_bytes:
            at = next((i for i, record in enumerate(self.records) if record.seq > self.in_flight_seq), None)
            if at is None:
                break
            dropped.append(self.records.pop(at))
        return dropped

    def append(self, new: list[MemoryRecord]) -> Outcome:
        """Store what one request brings."""
        outcome = Outcome()
        going = self._superseded_by(new)
        outcome.superseded += [record for record in self.records if record.seq in going]
        self.records = [record for record in self.records if record.seq not in going]
        for record in new:
            if self.last_seq + 1 in going:
                outcome.superseded.append(self._numbered(record))
                outcome.queued.append(record)
            else:
                self._append_one(record, outcome)
        outcome.dropped.sort(key=lambda record: record.seq)
        return outcome

    def _append_one(self, record: MemoryRecord, outcome: Outcome) -> None:
        excess = self.record_bytes + record.stored_bytes - self.options.queue_bytes
        if self.options.overflow is Overflow.REJECT and excess > 0:
            outcome.refused.append(record)
            return
        outcome.queued.append(record)
        record = self._numbered(record)
        if self.held_bytes + record.stored_bytes > self.options.queue_bytes:
            outcome.dropped.append(record)
            return
        outcome.dropped += self.drop_oldest(excess)
        self.records.append(record)

    def _superseded_by(self, new: list[MemoryRecord]) -> set[int]:
        """The seqs of notifications whose place newer ones take when these come in."""
        if self.options.overflow is not Overflow.KEEP_LATEST:
            return set()
        room = self.options.queue_bytes - self.held_bytes
        given = [msgspec.structs.replace(r, seq=seq) for seq, r in enumerate(new, self.last_seq + 1)]
        fitting = [record for record in given if record.stored_bytes <= room]
        coming_bytes = sum(record.stored_bytes for record in fitting)
        waiting_bytes = self.record_bytes - self.held_bytes
        credit = self.sweep_credit + SWEEP_BYTES * coming_bytes
        self.sweep_credit = min(credit, 2 * self.options.queue_bytes)
        is_full = self.record_bytes + coming_bytes > self.options.queue_bytes
        if not is_full or self.sweep_credit < waiting_bytes:
            return set()
        self.sweep_credit -= waiting_bytes
        waiting = [record for record in self.records if record.seq > self.in_flight_seq]
        notifications = [record for record in waiting + fitting if record.resource is not None]
        newest = {record.resource: record.seq for record in notifications}
        return {record.seq for record in notifications} - set(newest.values())

    def _numbered(self, record: MemoryRecord) -> MemoryRecord:
        self.last_seq += 1
        return msgspec.structs.replace(record, seq=self.last_seq)


def parse(records: Records, received_unix_ms: int) -> list[MemoryRecord]:
    """The records of a request, without seqs."""
    parsed = []
    at = 0
    for meta in records.meta:
        body_bytes, tail_bytes, ep_bytes = meta & 0xFFFFFF, meta >> 24 & 0xFFFF, meta >> 40 & 0xFFFF
        body = bytes(records.block[at : at + body_bytes])
        at += body_bytes
        ep = body[len('{"ep":"') :][:ep_bytes]
        tail = body[:-1][body_bytes - 1 - tail_bytes :]
        parsed.append(MemoryRecord(0, received_unix_ms, Kind(meta >> 56), body, ep, tail))
    return parsed
