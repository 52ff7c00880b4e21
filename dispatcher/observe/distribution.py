"""What is counted at every delivery: as much as a histogram shows, for a few steps of the interpreter."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString

Buckets = list[tuple[str, float]]
"""Of each bound, as text, how many observations are at most that; the last is all of them."""


class Distribution:
    """How many of its observations are at most so large, for each of some rising bounds; of one thread."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # between a bound and the one before; the last: above all
        self.total = 0.0  # of all observations

    def __repr__(self) -> str:
        return f"<Distribution of {sum(self._counts)}>"

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> Buckets:
        """As an exposition wants them."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class Deliveries:
    """What became of the batches to channels of one type."""

    __slots__ = ("failed", "seconds", "succeeded")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.succeeded = 0
        self.failed = 0
        self.seconds = Distribution(bounds)  # of either
