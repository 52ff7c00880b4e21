"""The bound on a journal's disk, in the worst order that its contents can have."""

from __future__ import annotations

from collections import deque

import pytest

from dispatcher import limits
from dispatcher.core.journal_space import (
    LiveBytes,
    cleaning_begins_at,
    disk_bytes_max,
    is_worth_moving,
    moves_due,
    publishers_bytes_max,
    publishers_wait_at,
    step_bytes,
)

MIB = limits.MIB
SEGMENT = limits.JOURNAL_SEGMENT_BYTES
GROUP = limits.JOURNAL_GROUP_BYTES_MAX
ALLOWANCE = limits.JOURNAL_ALLOWANCE_BYTES
REQUEST = 32 * limits.KIB
STORED, MOVED = 136, 176  # a notification of 100 bytes, in memory and moved alone


def live(records: int) -> LiveBytes:
    return LiveBytes(records, records * STORED, other_bytes=0)


class Disk:
    """Segments, oldest first, as the live bytes in each; then the one being written, and the spare."""

    def __init__(self, records: int) -> None:
        """All that is live lies in the oldest segments, alone; behind it all is dead."""
        full, rest = divmod(records * MOVED, SEGMENT)
        self.live = live(records)
        self.most_bytes = 0
        self._segments = deque([SEGMENT] * full + [rest])
        self._written = self._written_live = 0
        while not self.is_due():
            self._segments.append(0)

    @property
    def used_bytes(self) -> int:
        return (len(self._segments) + 2) * SEGMENT

    def is_due(self) -> bool:
        return self.used_bytes > cleaning_begins_at(self.live, ALLOWANCE)

    def clean_oldest(self, published_bytes: int) -> None:
        """Publishers offer so many bytes between two groups, and all of them are dead at once."""
        left = self._segments[0]
        while left > 0:
            taken = published_bytes
            if self.used_bytes > publishers_wait_at(self.live, ALLOWANCE):
                taken = min(taken, publishers_bytes_max(GROUP) + REQUEST)
            moved = min(left, moves_due(taken, GROUP))
            left -= moved
            if self._written + moved + taken > SEGMENT:
                self._segments.append(self._written_live)
                self._written = self._written_live = 0
            self._written += moved + taken
            self._written_live += moved
            self.most_bytes = max(self.most_bytes, self.used_bytes)
        self._segments.popleft()


@pytest.mark.parametrize("live_mib", [0, 10, 100, 1_000, 10_000, 50_000])
@pytest.mark.parametrize("published_bytes", [0, 100_000, 1_000_000, 5_000_000, 12_000_000, GROUP - 2 * MIB])
def test_the_worst_order_keeps_the_bound_and_cleaning_ends(live_mib: int, published_bytes: int) -> None:
    disk = Disk(live_mib * MIB // STORED)
    for _ in range(3 * disk.used_bytes // SEGMENT):  # three turns of the log
        if disk.is_due():
            disk.clean_oldest(published_bytes)
    assert disk.most_bytes <= disk_bytes_max(disk.live, ALLOWANCE)
    for _ in range(disk.used_bytes // SEGMENT):
        if disk.is_due():
            disk.clean_oldest(published_bytes=0)
    assert not disk.is_due()


def test_cleaning_never_begins_below_what_it_can_reach() -> None:
    tiny = LiveBytes(records=10**7, record_bytes=10**7 * 48, other_bytes=0)  # de-registrations of one letter
    assert cleaning_begins_at(tiny, ALLOWANCE) > 10**7 * 88


def test_moves_follow_what_is_published_and_never_stop() -> None:
    least = limits.JOURNAL_MOVES_MIN_BYTES
    assert moves_due(0, GROUP) == least
    assert moves_due(1_000_000, GROUP) == 8_000_000
    assert moves_due(GROUP, GROUP) == least
    for published in range(0, GROUP, GROUP // 7):
        assert published + moves_due(published, GROUP) <= max(published + least, GROUP // 2)


def test_publishers_are_held_back_after_cleaning_began_and_before_the_bound() -> None:
    much = live(10**6)
    begins, waits = cleaning_begins_at(much, ALLOWANCE), publishers_wait_at(much, ALLOWANCE)
    assert begins < waits < disk_bytes_max(much, ALLOWANCE)
    held_back = publishers_bytes_max(GROUP)
    assert 0 < limits.JOURNAL_MOVES_PER_PUBLISHED * held_back - moves_due(held_back, GROUP) <= held_back


def test_a_full_disk_is_cleaned_while_there_is_something_to_gain_and_room_is_left_for_acks() -> None:
    much = live(10**6)
    worth = much.total + 3 * SEGMENT
    assert is_worth_moving(much, worth, segment_room=SEGMENT // 2, segment_bytes=SEGMENT)
    assert not is_worth_moving(much, worth, segment_room=SEGMENT // 4, segment_bytes=SEGMENT)
    assert not is_worth_moving(much, much.total + SEGMENT, segment_room=SEGMENT // 2, segment_bytes=SEGMENT)


def test_a_step_is_small_beside_a_group() -> None:
    assert step_bytes(GROUP) == limits.JOURNAL_STEP_BYTES
    assert step_bytes(32_768) == 2_048
