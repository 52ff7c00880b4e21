"""A reader of the journal, written from FORMAT.md alone: the oracle for the one in ``native/``.

Slow, and as close to the text as it can be.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

BLOCK = 4096
LOST = 0xFFFFFFFF
_CRC_TABLE = []
for _index in range(256):
    _value = _index
    for _ in range(8):
        _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
    _CRC_TABLE.append(_value)


class StoredRecord(msgspec.Struct, frozen=True):
    """One record of one channel."""

    epoch: int
    seq: int
    received_unix_ms: int
    kind: int
    body: bytes


class StoredGap(msgspec.Struct, frozen=True):
    """One gap of one channel."""

    behind_seq: int
    last_seq: int
    count: int
    from_unix_ms: int
    to_unix_ms: int
    reason: int
    is_told: bool


class ChannelState(msgspec.Struct):
    """What a journal says of one channel."""

    settled_seq: int = 0
    last_seq: int = 0
    is_deleted: bool = False
    records: dict[int, StoredRecord] = {}
    dropped: list[tuple[int, int]] = []
    gaps: list[StoredGap] = []

    def live(self) -> list[StoredRecord]:
        """What it holds, in order."""
        if self.is_deleted:
            return []
        return [
            self.records[seq]
            for seq in sorted(self.records)
            if seq > self.settled_seq and not any(first <= seq <= last for first, last in self.dropped)
        ]

    def lost(self) -> set[int]:
        """Seqs that were given and stand nowhere: of a damaged journal, what the damage took."""
        given = set() if self.is_deleted else set(range(self.settled_seq + 1, self.last_seq + 1))
        for first, last in self.dropped:
            given.difference_update(range(first, last + 1))
        return given.difference(self.records)


Channels = dict[tuple[int, int], ChannelState]  # by number and incarnation


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer, as one unit has it."""

    account: int
    answered_unix_ms: int
    body_sha256: bytes
    key: bytes
    answer: bytes


class Group(msgspec.Struct, frozen=True):
    """A group that counts, and where it stands."""

    segment: int
    offset: int
    units: list[bytes]


class Journal(msgspec.Struct):
    """A folder's journal, read."""

    groups: dict[int, Group]  # that count, by number
    damaged: list[int]
    is_clean_end: bool

    @property
    def channels(self) -> Channels:
        """What each channel holds."""
        return self.channels_without(())

    @property
    def answers(self) -> list[StoredAnswer]:
        """All answers in the order of the log, copies too."""
        units = [unit for group in self.groups.values() for unit in group.units]
        return [_answer(unit) for unit in units if struct.unpack_from("<IH", unit)[1] == 7]

    def channels_without(self, missing: Collection[int]) -> Channels:
        """What each would hold, if some groups were not there."""
        channels: Channels = {}
        for number, group in self.groups.items():
            for unit in group.units if number not in missing else ():
                _apply(channels, unit)
        return channels


def crc32c(data: bytes) -> int:
    """With bytes 4..7 taken as zeros."""
    value = 0xFFFFFFFF
    for byte in data[:4] + b"\0\0\0\0" + data[8:]:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def read_journal(folder: Path) -> Journal:
    """Read every segment, and judge its groups."""
    segments = [_Segment(path) for path in sorted(folder.glob("*.seg"))]
    ids = {segment.journal_id for segment in segments if segment.first_group is not None}
    for segment in segments:
        segment.find_groups(max(ids, default=0))
    segments = [segment for segment in segments if segment.first_group is not None]
    journal = Journal(groups={}, damaged=[], is_clean_end=True)
    is_torn = bool(segments) and segments[-1].was_never_begun()
    if is_torn:
        segments.pop()
    expected = segments[0].first_group if segments else 1
    for segment, successor in zip(segments, [*segments[1:], None], strict=True):
        if successor is None:
            end = _end_of_last(segment, expected)
            journal.is_clean_end = not is_torn and not any(segment.data[segment.end_before(end) :])
        else:
            assert successor.first_group is not None
            end = successor.first_group
        for number in range(expected, end):
            if number in segment.groups:
                units = list(segment.units(number))
                journal.groups[number] = Group(segment.id, segment.groups[number], units)
            else:
                journal.damaged.append(number)
        expected = max(expected, end)
    return journal


class _Segment:
    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.id = int(path.stem)
        self.groups: dict[int, int] = {}  # number -> offset
        self.first_group: int | None = None
        self.journal_id = 0
        header = self.data[:64]
        magic, crc, version, _, journal_id, segment_id, segment_bytes, first_group, _, _ = struct.unpack(
            "<IIIIQQQQQQ", header.ljust(64, b"\0")
        )
        is_right = magic == int.from_bytes(b"NDSG", "little") and crc == crc32c(header)
        if is_right and version in (1, 2) and segment_id == self.id and segment_bytes <= len(self.data):
            self.first_group = first_group
            self.journal_id = journal_id
            self.data = self.data[:segment_bytes]

    def find_groups(self, journal_id: int) -> None:
        offset = BLOCK
        while offset < len(self.data):
            length = self._group_bytes(offset, journal_id)
            if length:
                (number,) = struct.unpack_from("<Q", self.data, offset + 24)
                if number > max(self.groups, default=0):
                    self.groups[number] = offset
            offset += -(-length // BLOCK) * BLOCK if length else BLOCK
        if self.first_group is None and self.groups:
            self.first_group = min(self.groups)

    def durable(self) -> int:
        return max(
            (struct.unpack_from("<Q", self.data, at + 32)[0] for at in self.groups.values()), default=0
        )

    def was_never_begun(self) -> bool:
        """Of the last one: nobody was told of what stands in it."""
        return not any(self.data[:64]) and self.durable() < min(self.groups)

    def end_before(self, number: int) -> int:
        """Where the last group before this number ends."""
        offsets = [at for found, at in self.groups.items() if found < number]
        if not offsets:
            return BLOCK
        (length,) = struct.unpack_from("<I", self.data, max(offsets) + 40)
        return max(offsets) + -(-length // BLOCK) * BLOCK

    def units(self, number: int) -> Iterator[bytes]:
        at = self.groups[number]
        (length,) = struct.unpack_from("<I", self.data, at + 40)
        offset = at + 48
        while offset < at + length:
            (unit_bytes,) = struct.unpack_from("<I", self.data, offset)
            yield self.data[offset : offset + unit_bytes]
            offset += unit_bytes

    def _group_bytes(self, offset: int, journal_id: int) -> int:
        header = self.data[offset : offset + 48]
        if len(header) < 48:
            return 0
        magic, crc, its_journal, its_segment, number, durable, length, _ = struct.unpack("<IIQQQQII", header)
        if magic != int.from_bytes(b"NDGR", "little") or (its_journal, its_segment) != (journal_id, self.id):
            return 0
        if durable >= number or length < 48 or length % 8 or offset + length > len(self.data):
            return 0
        return length if crc == crc32c(self.data[offset : offset + length]) else 0


def _end_of_last(segment: _Segment, expected: int) -> int:
    """The number after the last group that counts."""
    durable = segment.durable()
    end = expected
    for number in sorted(segment.groups):
        if number > end and number - 1 > durable:
            break
        end = number + 1
    return end


def _apply(channels: Channels, unit: bytes) -> None:
    _, kind = struct.unpack_from("<IH", unit)
    if kind == 1:
        _apply_request(channels, unit)
    elif kind == 2:
        _apply_moved(channels, unit)
    elif kind in (3, 4, 5):
        channel, incarnation, _, first, last, _ = struct.unpack_from("<QQQQQQ", unit, 8)
        state = channels.setdefault((channel, incarnation), ChannelState())
        if kind == 3:
            state.settled_seq = max(state.settled_seq, first)
            state.last_seq = max(state.last_seq, last)
        elif kind == 4:
            state.dropped.append((first, last))
        else:
            state.is_deleted = True
    elif kind == 8:
        channel, incarnation, _, holes = struct.unpack_from("<QQQQ", unit, 8)
        assert len(unit) == 40 + 16 * holes
        state = channels.setdefault((channel, incarnation), ChannelState())
        state.dropped += [struct.unpack_from("<QQ", unit, 40 + 16 * at) for at in range(holes)]
    elif kind == 9:
        _apply_gaps(channels, unit)


def _answer(unit: bytes) -> StoredAnswer:
    account, unix_ms, sha256, key_bytes, answer_bytes = struct.unpack_from("<QQ32sII", unit, 8)
    key, answer, padding = unit[64:][:key_bytes], unit[64 + key_bytes :][:answer_bytes], unit[64:]
    assert not any(padding[key_bytes + answer_bytes :])
    return StoredAnswer(account, unix_ms, sha256, key, answer)


def _apply_request(channels: Channels, unit: bytes) -> None:
    epoch, received, records, routes, block_bytes = struct.unpack_from("<QQIIQ", unit, 8)
    meta = struct.unpack_from(f"<{records}Q", unit, 40)
    block = len(unit) - -(-block_bytes // 8) * 8
    bodies = list(_bodies(unit, block, meta))
    offset = 40 + 8 * records
    for _ in range(routes):
        channel, incarnation, first_seq, seqs, count = struct.unpack_from("<QQQII", unit, offset)
        entries = struct.unpack_from(f"<{count}I", unit, offset + 32) if count else range(seqs)
        offset += 32 + -(-count * 4 // 8) * 8
        state = channels.setdefault((channel, incarnation), ChannelState())
        state.last_seq = max(state.last_seq, first_seq + seqs - 1)
        for seq, index in enumerate(entries, first_seq):
            if index == LOST:
                state.dropped.append((seq, seq))
            else:
                record = StoredRecord(epoch, seq, received, meta[index] >> 56, bodies[index])
                state.records.setdefault(seq, record)
    assert offset == block


def _apply_moved(channels: Channels, unit: bytes) -> None:
    channel, incarnation, records, _ = struct.unpack_from("<QQQQ", unit, 8)
    state = channels.setdefault((channel, incarnation), ChannelState())
    rows = [struct.unpack_from("<QQQQ", unit, 40 + 32 * at) for at in range(records)]
    bodies = _bodies(unit, 40 + 32 * records, [row[3] for row in rows])
    for (epoch, seq, received, meta), body in zip(rows, bodies, strict=True):
        state.records.setdefault(seq, StoredRecord(epoch, seq, received, meta >> 56, body))
        state.last_seq = max(state.last_seq, seq)


def _apply_gaps(channels: Channels, unit: bytes) -> None:
    channel, incarnation, count = struct.unpack_from("<QQQ", unit, 8)
    assert len(unit) == 32 + 48 * count
    rows = [struct.unpack_from("<QQQQQII", unit, 32 + 48 * at) for at in range(count)]
    state = channels.setdefault((channel, incarnation), ChannelState())
    state.gaps = [StoredGap(*row[:6], is_told=bool(row[6])) for row in rows]


def _bodies(unit: bytes, at: int, meta: tuple[int, ...] | list[int]) -> Iterator[bytes]:
    for number in meta:
        yield unit[at : at + (number & 0xFFFFFF)]
        at += number & 0xFFFFFF
