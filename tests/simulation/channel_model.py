"""One channel as the outside may see it: what it holds for good, what was shown, confirmed and lost.

Made of the disk's bytes, of what receivers saw and said, and of the losses that were told;
of the dispatcher's own books it uses only how far a channel is settled.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable

import trio

Key = tuple[int, int]
"""A record's place in its channel: epoch and seq."""


class Intervals:
    """Sets of whole numbers, kept as runs."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect.bisect_right(self._first, number) - 1
        return at >= 0 and number <= self._last[at]

    def add(self, first: int, last: int) -> None:
        """All numbers from one to another."""
        at = bisect.bisect_left(self._last, first - 1)
        end = bisect.bisect_right(self._first, last + 1)
        if at < end:
            first, last = min(first, self._first[at]), max(last, self._last[end - 1])
        self._first[at:end] = [first]
        self._last[at:end] = [last]


class ChannelModel:
    """One incarnation of one application's channel."""

    def __init__(self, name: str, incarnation: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.is_gone = False
        self.records: dict[Key, int] = {}  # safe on the disk: the event's number
        self.copies: dict[int, list[Key]] = {}  # by event
        self.doubtful: set[Key] = set()  # of the records: those that a crash was allowed to take
        self.last_seq = 0  # of the records
        self.seen: set[Key] = set()
        self.confirmed: set[Key] = set()
        self.confirmed_numbers: set[int] = set()
        self.expected: dict[int, None] = {}  # events whose publisher was told that they are accepted
        self.lost = Intervals()  # seqs
        self.lost_count = 0
        self.has_refused = False  # records of a request may be refused, and those behind them stored
        self.settled_seq = 0  # when last looked at, in this life of the dispatcher
        self._settled: deque[tuple[float, int]] = deque(maxlen=4096)  # since when
        self._unsettled: deque[Key] = deque()  # records that no look has found settled
        self._unseen: dict[str, deque[Key]] = {}  # by device

    def __repr__(self) -> str:
        return f"<{self.name} {len(self.records)} records, settled {self.settled_seq}>"

    # --- what comes in -------------------------------------------------------------------

    def add(self, key: Key, number: int, ep: str, *, is_promised: bool) -> str | None:
        """A record is on the disk for good; what is wrong with it.

        One that is there by luck alone may be delivered, and need not be.
        """
        before = self.records.get(key)
        if before is not None and before != number:
            return f"INV-3: {self.name}: {key} names event {before} and event {number}"
        if before is None:
            self.records[key] = number
            self.copies.setdefault(number, []).append(key)
            self.last_seq = max(self.last_seq, key[1])
            if is_promised:
                self._unsettled.append(key)
                self._unseen.setdefault(ep, deque()).append(key)
        return None

    def promise_nothing(self) -> None:
        """Whatever it holds may be gone: the durability that was asked for does not reach so far."""
        self.doubtful.update(self.records)
        self.expected.clear()
        self._unsettled.clear()
        self._unseen.clear()
        self._settled.clear()

    def lose(self, first_seq: int, last_seq: int, count: int) -> None:
        """A loss was told."""
        self.lost_count += count
        if first_seq:
            self.lost.add(first_seq, last_seq)
        else:
            self.has_refused = True

    # --- what receivers see ----------------------------------------------------------------

    def see(self, key: Key, number: int, ep: str, *, has_disk: bool) -> str | None:
        """A receiver has a whole message with this record; what is wrong with that."""
        if has_disk and self.records.get(key) != number:
            return (
                f"INV-3: {self.name}: {key} was sent as event {number} and stored as {self.records.get(key)}"
            )
        unseen = self._unseen.get(ep, deque())
        while unseen and unseen[0] <= key:
            earlier = unseen.popleft()
            if earlier != key and earlier not in self.seen and earlier[1] not in self.lost:
                return f"INV-4: {self.name}: {ep}: {key} came before {earlier}"
        self.seen.add(key)
        return None

    # --- what the queue says ---------------------------------------------------------------

    def settle(self, seq: int) -> str | None:
        """The queue holds everything up to here to be done with; what is wrong with that."""
        if seq < self.settled_seq:
            return f"INV-1: {self.name}: settled fell from {self.settled_seq} to {seq}"
        if seq > self.settled_seq:
            self.settled_seq = seq
            self._settled.append((trio.current_time(), seq))
        while self._unsettled and self._unsettled[0][1] <= seq:
            key = self._unsettled.popleft()
            if key not in self.confirmed and key[1] not in self.lost:
                return f"INV-4: {self.name}: {key} (event {self.records[key]}) was settled, and nobody has it"
        return None

    def begin_life(self, settled_seq: int, records: int, surely_settled_before_s: float) -> str | None:
        """A dispatcher found this channel again; what is missing, or there once more."""
        safe_seq = max((seq for at_s, seq in self._settled if at_s <= surely_settled_before_s), default=0)
        self.settled_seq = min(settled_seq, self.settled_seq)
        wrong = self.settle(settled_seq)
        self._settled.clear()
        self._settled.append((0.0, settled_seq))
        if wrong is not None:
            return f"INV-5: gone over a restart, or {wrong}"
        if settled_seq < safe_seq:
            return f"duplicates: {self.name}: settled up to {safe_seq} long ago, and now up to {settled_seq}"
        live = sum(1 for _, seq in self._unsettled if seq > settled_seq and seq not in self.lost)
        if records < live:
            return f"INV-5: {self.name}: {live} records are on the disk, {records} were found"
        return None

    # --- the end ---------------------------------------------------------------------------

    def out_of_order(self, numbers: Iterable[int]) -> tuple[int, int] | None:
        """Two accepted events, of one device's, that are stored in another order than they were posted in.

        When a full queue refused the first of two, and the publisher, who never saw the answer,
        posted both again, the copies of the second try are what he was told of.
        """
        before: tuple[Key, int] | None = None
        for number in numbers:
            copies = self._copies_of(number)
            if number not in self.expected or not copies:
                continue
            if before is not None and self.has_refused:
                copies = [key for key in copies if key > before[0]] or copies
            if before is not None and min(copies) < before[0]:
                return before[1], number
            before = min(copies), number
        return None

    def _copies_of(self, number: int) -> list[Key]:
        """Of an event that was posted again after a crash, the copies behind it."""
        copies = self.copies.get(number, [])
        return [key for key in copies if key not in self.doubtful] or copies

    def missing(self) -> list[int]:
        """Accepted events that nobody has and whose absence nobody named."""
        unnamed, named = [], 0
        for number in self.expected:
            if number in self.confirmed_numbers:
                continue
            copies = self._copies_of(number)
            if all(seq in self.lost for _, seq in copies):
                named += max(1, len(copies))
            else:
                unnamed.append(number)
        if named > self.lost_count:
            unnamed.append(-1)
        return unnamed
