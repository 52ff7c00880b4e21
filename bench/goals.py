"""What a target demands of what was measured, and whether it is reached.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

Figures = dict[str, float]
"""What one side showed in one round, by name; the units are in ``UNITS``."""

Samples = Mapping[str, Sequence[Figures]]
"""By side, in the order of the rounds: the n-th of every side are of the same round."""


class Unit(msgspec.Struct, frozen=True):
    """How a figure is printed."""

    text: str
    digits: int = 0
    factor: float = 1.0

    def show(self, value: float) -> str:
        """The number with its unit."""
        return f"{value * self.factor:,.{self.digits}f} {self.text}".strip()


UNITS: dict[str, Unit] = {
    "events_per_s": Unit("events/s"),
    "requests_per_s": Unit("requests/s"),
    "server_cpu_s_per_million": Unit("CPU s/M", digits=3),
    "server_core": Unit("% of the server's core", factor=100),
    "load_core": Unit("% of the load's core", factor=100),
    "p50_ms": Unit("ms p50", digits=3),
    "p99_ms": Unit("ms p99", digits=3),
    "longest_turn_ms": Unit("ms longest turn"),
    "us_per_batch": Unit("µs per 10,000", digits=1),
    "ns_per_event": Unit("ns per event"),
    "bytes_each": Unit("KB each", digits=2, factor=1e-3),
    "idle_core": Unit("% of a core, idle", digits=2, factor=100),
    "bytes_per_s": Unit("MB/s", factor=1e-6),
    "plain_bytes_per_s": Unit("MB/s read plainly", factor=1e-6),
    "start_s": Unit("s to start", digits=2),
}


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """One demand: on a side's figure, or on its ratio to that of another side.

    Exactly one of ``at_least`` and ``at_most`` is given.
    """

    side: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    beside: str = ""  # the other side; "": the figure itself

    @property
    def name(self) -> str:
        """What is demanded of what."""
        return f"{self.side} / {self.beside}: {UNITS[self.figure].text}" if self.beside else self.side

    @property
    def bound(self) -> str:
        """The demand as text."""
        sign, bound = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        assert bound is not None
        return f"{sign} {self._show(bound)}"

    def values(self, samples: Samples) -> list[float]:
        """The figure, or the ratio, of each round; empty when a side was not measured.

        A ratio is taken within its round, so that what slows both down falls out.
        """
        own = self._figures(samples, self.side)
        if not self.beside:
            return own
        others = self._figures(samples, self.beside)
        return [value / other if other else math.inf for value, other in zip(own, others, strict=False)]

    def _figures(self, samples: Samples, side: str) -> list[float]:
        """Of each round; empty when the run is of a time when this was not looked at."""
        return [figures[self.figure] for figures in samples.get(side, ()) if self.figure in figures]

    def is_reached(self, samples: Samples) -> bool | None:
        """By the median of the rounds; None when it was not measured."""
        values = self.values(samples)
        if not values:
            return None
        if self.at_least is not None:
            return median(values) >= self.at_least
        assert self.at_most is not None
        return median(values) <= self.at_most

    def show(self, samples: Samples) -> str:
        """What was measured: the median, with the least and the most."""
        values = self.values(samples)
        if not values:
            return "not measured"
        return f"{self._show(median(values))} [{self._bare(min(values))} .. {self._bare(max(values))}]"

    def _show(self, value: float) -> str:
        return f"{value:.2f} x" if self.beside else UNITS[self.figure].show(value)

    def _bare(self, value: float) -> str:
        if self.beside:
            return f"{value:.2f}"
        unit = UNITS[self.figure]
        return msgspec.structs.replace(unit, text="").show(value)


def summary(figures: Sequence[Figures]) -> str:
    """All figures of a side, each as its median."""
    names = figures[0] if figures else ()
    return ", ".join(UNITS[name].show(median(one[name] for one in figures)) for name in names)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def lateness(values_s: Sequence[float]) -> Figures:
    """The percentiles of how late events came."""
    return {"p50_ms": percentile(values_s, 0.5) * 1e3, "p99_ms": percentile(values_s, 0.99) * 1e3}
