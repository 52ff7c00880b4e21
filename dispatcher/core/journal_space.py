"""When a journal is cleaned, and how fast, so that it keeps to its place on the disk.  Pure.

The promise: the disk used stays under twice what is live, and an allowance.

    what is live           half way            seven tenths            the bound
    |----------------------|-------------------|-----------------------|
                           cleaning begins     publishers are held back

Cleaning takes the oldest segment, writes again what is live in it, and gives it back.  From
half way on it moves ``JOURNAL_MOVES_PER_PUBLISHED`` bytes for each that publishers add, up to
half of a group.  If they add more than that can outpace, the disk comes to seven tenths of the
way; from there on they have a sixteenth of each group.

In the worst order all that is live lies in the oldest segments.  Before the first dead byte
comes back, all of it was moved, and the disk has grown by what was published meanwhile, and by
the ends of segments that no group fitted into: by three tenths of what is live, at most.  The rest
of the allowance is for what comes in whole segments: the one that is being cleaned, the one
that is being written, and the spare.

What was moved takes more than it took in memory, if records are short: a header of 72 bytes
where that has 32.  Cleaning must not begin below what it can reach, or it would never end.
"""

from __future__ import annotations

import msgspec

from dispatcher.limits import JOURNAL_MOVES_MIN_BYTES, JOURNAL_MOVES_PER_PUBLISHED, JOURNAL_STEP_BYTES

_BEGINS_AT = 0.5  # of the way from what is live to the bound
_HOLDS_BACK_AT = 0.7
_MOVED_HEADER_BYTES = 40  # more than a stored record's; FORMAT.md, moved
_SLACK = 1.25  # of what was moved; a fifth of the disk is dead then
_GROUP_SHARE = 0.5  # of a group that moves may fill: larger ones waste the ends of segments
_PUBLISHERS_SHARE = 1 / 16  # of a group, when they are held back
_ACKS_SHARE = 0.25  # of the last segment on a full disk


class LiveBytes(msgspec.Struct, frozen=True):
    """What a journal holds that is needed."""

    records: int
    record_bytes: int  # as stored in memory
    other_bytes: int  # states and answers

    @property
    def total(self) -> int:
        """All of it, as stored in memory."""
        return self.record_bytes + self.other_bytes


def disk_bytes_max(live: LiveBytes, allowance_bytes: int) -> int:
    """The bound on the disk."""
    return 2 * live.total + allowance_bytes


def cleaning_begins_at(live: LiveBytes, allowance_bytes: int) -> int:
    """With more than so many bytes on the disk, the oldest segment is cleaned."""
    return _on_the_way(_BEGINS_AT, live, allowance_bytes)


def publishers_wait_at(live: LiveBytes, allowance_bytes: int) -> int:
    """With more than so many bytes on the disk, publishers have ``publishers_bytes_max`` of a group."""
    return _on_the_way(_HOLDS_BACK_AT, live, allowance_bytes)


def _on_the_way(share: float, live: LiveBytes, allowance_bytes: int) -> int:
    reachable_bytes = _SLACK * (live.total + _MOVED_HEADER_BYTES * live.records)
    return int(max((1 + share) * live.total, reachable_bytes) + share * allowance_bytes)


def is_worth_moving(live: LiveBytes, disk_bytes: int, segment_room: int, segment_bytes: int) -> bool:
    """Whether to clean a full disk, with so much room in the segment that is being written.

    A part of that is left for acks.
    """
    return segment_room > _ACKS_SHARE * segment_bytes and disk_bytes > live.total + 2 * segment_bytes


def step_bytes(group_bytes_max: int) -> int:
    """How much is moved before others get their turn."""
    return min(JOURNAL_STEP_BYTES, group_bytes_max // 16)


def publishers_bytes_max(group_bytes_max: int) -> int:
    """When they are held back: with more in a group, the next request has to come again."""
    return int(_PUBLISHERS_SHARE * group_bytes_max)


def moves_due(published_bytes: int, group_bytes_max: int) -> int:
    """How many bytes to move into a group in which publishers have so many."""
    least_bytes = min(JOURNAL_MOVES_MIN_BYTES, group_bytes_max // 4)
    share_bytes = int(_GROUP_SHARE * group_bytes_max) - published_bytes
    return max(least_bytes, min(JOURNAL_MOVES_PER_PUBLISHED * published_bytes, share_bytes))
