"""Things that come in bursts are counted one by one and logged once in a while."""

from __future__ import annotations

import math


class Burst:
    """How often something happened since it was last told."""

    __slots__ = ("_told_s", "_untold")

    def __init__(self) -> None:
        self._told_s = -math.inf
        self._untold = 0

    def happened(self, now_s: float, interval_s: float) -> int:
        """Once more: the number to tell now, or 0 as long as ``interval_s`` since the last is not over.

        The first of a burst is told at once, those behind it together with the next that is told.
        """
        self._untold += 1
        if now_s - self._told_s < interval_s:
            return 0
        count, self._untold, self._told_s = self._untold, 0, now_s
        return count
