"""One channel of the model (``memory``): a list of records, and what happens when it is full."""

from __future__ import annotations

import json

import msgspec

from dispatcher import limits
from dispatcher.core.gap_list import GapList
from dispatcher.model import Kind, Overflow
from dispatcher.queue.interface import QueueOptions, Records

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
    ahead_bytes: int = 0  # superseded besides


class MemoryChannel:
    """A queue as a list.  Every rule is applied to one record at a time; what is old, to a request's."""

    def __init__(self, number: int, options: QueueOptions) -> None:
        self.number = number
        self.options = options
        self.records: list[MemoryRecord] = []
        self.last_seq = 0
        self.in_flight_seq = 0
        self.gaps = GapList() if options.keeps_gaps else None
        self.old: set[int] = set()  # seqs of notifications behind which a newer one of the resource came
        self.is_open = True

    def copy(self) -> MemoryChannel:
        other = MemoryChannel(self.number, self.options)
        other.records = list(self.records)
        other.last_seq = self.last_seq
        other.in_flight_seq = self.in_flight_seq
        other.old = set(self.old)
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

    def append(self, new: list[MemoryRecord], ahead_bytes_max: int = 0) -> Outcome:
        """Store what one request brings; so much may be superseded ahead of those that come next."""
        outcome = Outcome()
        going, outcome.ahead_bytes = self._superseded_by(new, ahead_bytes_max)
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

    def _superseded_by(self, new: list[MemoryRecord], ahead_bytes_max: int) -> tuple[set[int], int]:
        """The seqs of notifications that give way when these come in, and how much of it is ahead."""
        if self.options.overflow is not Overflow.KEEP_LATEST:
            return set(), 0
        room = self.options.queue_bytes - self.held_bytes
        given = [msgspec.structs.replace(r, seq=seq) for seq, r in enumerate(new, self.last_seq + 1)]
        fitting = [record for record in given if record.stored_bytes <= room]
        newest: dict[tuple[str, str], int] = {}
        for record in self.records + fitting:
            if record.resource in newest:
                self.old.add(newest[record.resource])
            if record.resource is not None:
                newest[record.resource] = record.seq
        excess = self.record_bytes + sum(r.stored_bytes for r in fitting) - self.options.queue_bytes
        if excess <= 0:
            return set(), 0
        ahead_max = min(ahead_bytes_max, self.options.queue_bytes // limits.SUPERSEDED_AHEAD_SHARE)
        going: set[int] = set()
        ahead_bytes = 0
        for record in self.records + fitting:
            is_new = record.seq > self.last_seq
            if record.seq <= self.in_flight_seq or record.seq not in self.old:
                continue
            if excess > 0:
                excess -= record.stored_bytes
                ahead_bytes = 0 if is_new else max(0, -excess)
            elif is_new or ahead_bytes + record.stored_bytes > ahead_max:
                break
            else:
                ahead_bytes += record.stored_bytes
            going.add(record.seq)
        return going, ahead_bytes

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
