"""What one channel's receiver has yet to be told that it does not get.  Pure.

Gaps stand between records, each in front of the first record behind its ``behind_seq``:

      1  2  3 |      | 7  8  9 |      |
              | 4..6 |         | 10.. |      4..6 is told before 7, 10.. before whatever comes next

Two rules make gaps exact for a receiver.  One that was told never changes, since the
receiver may have it: it is told again as it was, until it is confirmed.  And one that was
not told yet never reaches from what is in flight to what is not: if records expire that
were sent already, and then turn out to have arrived, their gap is forgotten.

Memory is bounded: over ``limits.GAPS_PER_CHANNEL_MAX`` the two closest of one reason become
one.  Counts stay exact, and others then stand between first and last.  Gaps that were not
told yet go first; then those that were told in vain, to a receiver that never confirms;
those in flight never.

Positions are *marks* here: twice the seq, and one more when the gap behind it is included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from dispatcher import limits
from dispatcher.model import Gap, Position

_TOLD_BEFORE = 1 << 66  # behind every mark: told with a batch that is not in flight any more


class KnownGap(msgspec.Struct, frozen=True):
    """A gap as it is remembered over a restart."""

    gap: Gap
    is_told: bool


class Telling(msgspec.Struct, frozen=True):
    """The gaps that begin the next batch, and how far the records behind them may go."""

    gaps: tuple[Gap, ...]
    upto_seq: int | None = None  # where the next gap stands; None: there is none


class _Entry(msgspec.Struct):
    gap: Gap
    told_upto: int | None = None  # the mark at the end of the batch in flight that told it

    @property
    def is_in_flight(self) -> bool:
        """Whether it was told, and may be confirmed any time."""
        return self.told_upto is not None and self.told_upto != _TOLD_BEFORE

    @property
    def done_mark(self) -> int:
        """It needs no telling to who has everything up to here."""
        if self.told_upto is not None:
            return self.told_upto
        return 2 * self.gap.last_seq if self.gap.last_seq else 2 * self.gap.behind_seq + 1


def mark_of(seq: int, position: Position | None) -> int:
    """A position as a mark; ``seq`` is what it stands for in its channel."""
    return 2 * seq + (position is not None and position.is_behind_gap)


class GapList:
    """The gaps of one channel that were not confirmed, in the order in which they stand."""

    def __init__(self, known: Iterable[KnownGap] = ()) -> None:
        self._entries = [_Entry(one.gap, _TOLD_BEFORE if one.is_told else None) for one in known]
        self._in_flight_seq = 0

    def __repr__(self) -> str:
        return f"<GapList {len(self)} gaps, {sum(one.is_told for one in self)} told>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[KnownGap]:
        return (KnownGap(entry.gap, entry.told_upto is not None) for entry in self._entries)

    @property
    def in_flight_seq(self) -> int:
        """Records up to here were handed out, and are not confirmed or released."""
        return self._in_flight_seq

    def add(self, gap: Gap) -> None:
        """Records went.  Joined with what it touches, if that has the same reason and was not told."""
        for entry in [entry for entry in self._entries if self._may_join(entry, gap)]:
            if gap.behind_seq <= entry.gap.end_seq and entry.gap.behind_seq <= gap.end_seq:
                gap = _joined(entry.gap, gap)
                self._entries.remove(entry)
        self._insert(gap)
        while len(self._entries) > limits.GAPS_PER_CHANNEL_MAX and self._join_closest():
            pass

    def telling(self, after: int, first_seq: int) -> Telling:
        """What to tell behind a mark, in front of the record ``first_seq``, the next; 0: there is none."""
        waiting = [entry.gap for entry in self._entries if entry.done_mark > after]
        head = tuple(gap for gap in waiting if not first_seq or gap.behind_seq < first_seq)
        rest = waiting[len(head) :]
        return Telling(head, rest[0].behind_seq if rest else None)

    def told(self, gaps: Iterable[Gap], upto: int) -> None:
        """These begin a batch that ends with this mark, and that was handed out."""
        self._in_flight_seq = max(self._in_flight_seq, upto >> 1)
        for gap in gaps:
            for entry in self._entries:
                if entry.gap is gap:
                    entry.told_upto = upto

    def told_in_front_of(self, first_seq: int) -> tuple[Gap, ...]:
        """The gaps that were told before this record."""
        return tuple(one.gap for one in self if one.is_told and one.gap.behind_seq < first_seq)

    def told_alone(self, upto_seq: int) -> tuple[Gap, ...]:
        """The gaps that were told in a batch without records, which ends behind this seq."""
        return tuple(one.gap for one in self if one.is_told and one.gap.end_seq <= upto_seq)

    def settle(self, upto: int) -> bool:
        """The receiver has everything up to a mark; whether that settled any."""
        before = len(self._entries)
        self._entries = [entry for entry in self._entries if entry.done_mark > upto]
        return len(self._entries) < before

    def release(self, after: int) -> None:
        """What is behind this mark is no longer in flight."""
        self._in_flight_seq = min(self._in_flight_seq, after >> 1)
        for entry in self._entries:
            if entry.told_upto is not None and entry.told_upto > after:
                entry.told_upto = _TOLD_BEFORE

    def _insert(self, gap: Gap) -> None:
        at = len(self._entries)
        while at > 0 and self._entries[at - 1].gap.behind_seq > gap.behind_seq:
            at -= 1
        self._entries.insert(at, _Entry(gap))

    def _may_join(self, entry: _Entry, gap: Gap) -> bool:
        is_in_flight = gap.end_seq <= self._in_flight_seq
        return (
            entry.told_upto is None
            and entry.gap.reason == gap.reason
            and (entry.gap.end_seq <= self._in_flight_seq) == is_in_flight
        )

    def _join_closest(self) -> bool:
        """Make one of the two closest that may be joined; False when there are none."""
        alike: dict[tuple[str, bool, bool], list[_Entry]] = {}
        for entry in self._entries:
            if not entry.is_in_flight:
                is_sent = entry.gap.end_seq <= self._in_flight_seq
                alike.setdefault((entry.gap.reason, is_sent, entry.told_upto is not None), []).append(entry)
        pairs = [pair for entries in alike.values() for pair in pairwise(entries)]
        if not pairs:
            return False
        one, other = min(pairs, key=_by_distance)
        self._entries.remove(other)
        one.gap = _joined(one.gap, other.gap)
        return True


def _by_distance(pair: tuple[_Entry, _Entry]) -> tuple[bool, int]:
    one, other = pair
    return one.told_upto is not None, other.gap.behind_seq - one.gap.end_seq


def _joined(one: Gap, other: Gap) -> Gap:
    """Both as one; ``one`` came first where they stand at the same place."""
    first = other if other.behind_seq < one.behind_seq else one
    last = one if one.end_seq > other.end_seq else other
    return Gap(
        behind_seq=first.behind_seq,
        last_seq=last.last_seq,
        count=one.count + other.count,
        reason=one.reason,
        from_unix_ms=first.from_unix_ms,
        to_unix_ms=last.to_unix_ms,
    )
