"""Which records are safe on the simulated disk, read from its bytes by FORMAT.md alone.

The promises are judged by this and not by what the dispatcher says: a record exists from
the moment at which the sync of its group returned.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec
from simulation.events import numbers_in
from support.journal_reader import BLOCK, LOST, crc32c

_GROUP = struct.Struct("<4sIQQQQII")
_UNIT = struct.Struct("<IHH")
_REQUEST = struct.Struct("<QQIIQ")
_ROUTE = struct.Struct("<QQQII")
_UNIT_REQUEST = 1


class SafeRecord(msgspec.Struct, frozen=True):
    """A record that a later crash must leave."""

    incarnation: int
    epoch: int
    seq: int
    number: int  # of its event
    is_promised: bool  # it was synced; else it is there by luck


class DiskBooks:
    """Follows what becomes safe; ``learned`` is told of each record, in the order of the log."""

    def __init__(self, learned: Callable[[SafeRecord], None]) -> None:
        self._learned = learned
        self._groups: set[tuple[int, int, int]] = set()  # known, by segment, number and checksum

    def learn(self, data: bytearray, first: int, end: int) -> None:
        """These bytes of a segment are safe, whole."""
        for group in self._new_groups(data, first, end):
            self._take(group, is_promised=True)

    def learn_if_whole(self, data: bytearray, first: int, end: int) -> None:
        """These bytes of a segment are what a power cut left: groups may be torn."""
        for group in self._new_groups(data, first, end):
            if int.from_bytes(group[4:8], "little") == crc32c(group):
                self._take(group, is_promised=False)

    def forget(self) -> None:
        """Whatever was learned may be gone."""
        self._groups.clear()

    def _new_groups(self, data: bytearray, first: int, end: int) -> Iterator[bytes]:
        at = max(BLOCK, first - first % BLOCK)
        while at < end:
            step = BLOCK
            if data.startswith(b"NDGR", at):
                _, crc, _, segment, number, _, length, _ = _GROUP.unpack_from(data, at)
                if _GROUP.size <= length <= end - at and (segment, number, crc) not in self._groups:
                    yield bytes(data[at : at + length])
                    step = -(-length // BLOCK) * BLOCK
            at += step

    def _take(self, group: bytes, *, is_promised: bool) -> None:
        _, crc, _, segment, number, _, length, _ = _GROUP.unpack_from(group)
        self._groups.add((segment, number, crc))
        at = _GROUP.size
        while at < length:
            unit_bytes, kind, _ = _UNIT.unpack_from(group, at)
            if kind == _UNIT_REQUEST:
                for record in _records(group[at : at + unit_bytes], is_promised=is_promised):
                    self._learned(record)
            at += unit_bytes


def _records(unit: bytes, *, is_promised: bool) -> Iterator[SafeRecord]:
    epoch, _, records, routes, block_bytes = _REQUEST.unpack_from(unit, 8)
    numbers = numbers_in(unit[len(unit) - -(-block_bytes // 8) * 8 :])
    assert len(numbers) == records, "every event has one mark"
    at = 40 + 8 * records
    for _ in range(routes):
        _, incarnation, first_seq, seqs, count = _ROUTE.unpack_from(unit, at)
        entries = struct.unpack_from(f"<{count}I", unit, at + 32) if count else range(seqs)
        at += 32 + -(-count * 4 // 8) * 8
        for seq, index in enumerate(entries, first_seq):
            if index != LOST:
                yield SafeRecord(incarnation, epoch, seq, numbers[index], is_promised)
