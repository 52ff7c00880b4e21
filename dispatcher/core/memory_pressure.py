"""Whose oldest records go when the memory of all queues is used up.  Pure.

The owner that holds the most loses first, from its channel that has the most to
lose; never records in flight.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

import msgspec

from dispatcher.limits import RELIEF_BYTES_PER_CHANNEL, RELIEF_STEP_BYTES_MIN, RELIEF_STEP_SHARE


class Holding(msgspec.Struct, frozen=True):
    """What one channel's queue holds."""

    channel: int
    owner: int
    record_bytes: int
    droppable_bytes: int  # of these, not in flight


class Drop(msgspec.Struct, frozen=True):
    """Drop a channel's oldest records until this many bytes are gone."""

    channel: int
    record_bytes: int


def relief_bytes(channels_count: int) -> int:
    """How much one relief frees: enough to pay for looking at every channel."""
    return max(RELIEF_STEP_BYTES_MIN, channels_count * RELIEF_BYTES_PER_CHANNEL)


def plan_relief(holdings: Iterable[Holding], target_bytes: int) -> tuple[Drop, ...]:
    """Choose what to drop to free about ``target_bytes``; empty when nothing may be dropped.

    Goes in steps of at least ``RELIEF_STEP_BYTES_MIN`` or a share of the channel, each
    time from the owner that then holds the most.  Equal ones go in order of number.
    """
    owners: dict[int, _Owner] = {}
    for holding in holdings:
        owners.setdefault(holding.owner, _Owner()).add(holding)
    largest = [(-owner.record_bytes, number) for number, owner in owners.items()]
    heapify(largest)
    dropped: dict[int, int] = {}
    freed_bytes = 0
    while largest and freed_bytes < target_bytes:
        _, number = heappop(largest)
        step = owners[number].take_step()
        if step is None:
            continue
        dropped[step.channel] = dropped.get(step.channel, 0) + step.record_bytes
        freed_bytes += step.record_bytes
        heappush(largest, (-owners[number].record_bytes, number))
    return tuple(Drop(channel, record_bytes) for channel, record_bytes in dropped.items())


class _Owner:
    """One owner's channels while a relief is planned."""

    def __init__(self) -> None:
        self.record_bytes = 0
        self._droppable: list[tuple[int, int]] = []  # (-bytes, channel); a heap once stepping begins
        self._is_heap = False

    def add(self, holding: Holding) -> None:
        self.record_bytes += holding.record_bytes
        if holding.droppable_bytes > 0:
            self._droppable.append((-holding.droppable_bytes, holding.channel))

    def take_step(self) -> Drop | None:
        """One step from the channel with the most to lose; None when there is none."""
        if not self._is_heap:
            heapify(self._droppable)
            self._is_heap = True
        if not self._droppable:
            return None
        negative, channel = heappop(self._droppable)
        droppable = -negative
        step = min(droppable, max(RELIEF_STEP_BYTES_MIN, droppable // RELIEF_STEP_SHARE))
        self.record_bytes -= step
        if step < droppable:
            heappush(self._droppable, (step - droppable, channel))
        return Drop(channel, step)
