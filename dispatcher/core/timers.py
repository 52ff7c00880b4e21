"""When each of many things is to be looked at next.  Pure: the caller passes the time in.

    due          near: a heap            far: by the minute
    [7, 9, 4]    (12.5, 3) (31.0, 8)     60: [1, 2, 6]   120: [5]   86400: [10, 11, ...]

Nearly all moments are a day away, and nobody needs them to the second until that day is over.
So only those of the running minute are known exactly.  A number further off costs its place in
a list, a tenth of what it takes in a heap, and **comes back early**, when its minute begins: who
looks at it then puts it back for its exact moment.  It never comes back late.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable

_SLOT_S = 60.0  # how early a number may come back


class Timers:
    """Numbers with a moment each; one that was put twice comes back twice."""

    def __init__(self) -> None:
        self._due: deque[int] = deque()
        self._near: list[tuple[float, int]] = []  # a heap
        self._far: dict[int, list[int]] = {}  # by slot
        self._slots: list[int] = []  # of ``_far``; a heap
        self._count = 0

    def __repr__(self) -> str:
        return f"<Timers {self._count} numbers, next at {self.next_s:.1f}>"

    def __len__(self) -> int:
        return self._count

    @property
    def next_s(self) -> float:
        """When ``take`` has something, unless it is put before; infinity: never."""
        if self._due:
            return -math.inf
        near_s = self._near[0][0] if self._near else math.inf
        return min(near_s, self._slots[0] * _SLOT_S) if self._slots else near_s

    def put(self, number: int, at_s: float, now_s: float) -> None:
        """Have a number come back at a moment, or a little before; at once if that has passed.

        Cost: constant; O(log numbers) for a moment of the running minute.
        """
        self._count += 1
        slot = int(at_s // _SLOT_S)
        if at_s <= now_s:
            self._due.append(number)
        elif slot * _SLOT_S <= now_s:
            heapq.heappush(self._near, (at_s, number))
        elif slot in self._far:
            self._far[slot].append(number)
        else:
            self._far[slot] = [number]
            heapq.heappush(self._slots, slot)

    def take(self, now_s: float) -> int | None:
        """A number to look at now; None: no other."""
        while self._slots and self._slots[0] * _SLOT_S <= now_s:
            self._due.extend(self._far.pop(heapq.heappop(self._slots)))
        if self._due:
            self._count -= 1
            return self._due.popleft()
        if self._near and self._near[0][0] <= now_s:
            self._count -= 1
            return heapq.heappop(self._near)[1]
        return None

    def keep(self, is_wanted: Callable[[int], bool]) -> None:
        """Forget all numbers but these.  Cost: O(numbers)."""
        self._due = deque(filter(is_wanted, self._due))
        self._near = [entry for entry in self._near if is_wanted(entry[1])]
        heapq.heapify(self._near)
        far = {slot: list(filter(is_wanted, numbers)) for slot, numbers in self._far.items()}
        self._far = {slot: numbers for slot, numbers in far.items() if numbers}
        self._slots = sorted(self._far)
        self._count = len(self._due) + len(self._near) + sum(map(len, self._far.values()))
