"""Two runs side by side: medians, spread, and whether there is a difference at all.

    python -m bench.compare bench/results/ingest_to_websocket.jsonl [OLD NEW]

OLD and NEW are line numbers, from 1, or from -1 backwards; without them the last two
lines of the same variant are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median

from .results import Run, load

DOUBT_MAX = 0.05
"""A difference that noise alone would show more often than this is none."""

_ROUNDS_MAX = 8  # per run; there are 12,870 ways to shuffle two eights


def doubt(old: Sequence[float], new: Sequence[float]) -> float:
    """How often the rounds, shuffled, would fall apart as clearly as they did: 0 to 1.

    The exact two-sided rank test of Mann and Whitney; it asks for no distribution, and
    with fewer than four rounds on each side it can never be sure.
    """
    old, new = old[:_ROUNDS_MAX], new[:_ROUNDS_MAX]
    values = [*old, *new]
    middle = len(old) * len(new) / 2
    observed = abs(_wins(old, new) - middle)
    shuffles = clearer = 0
    for chosen in map(frozenset, combinations(range(len(values)), len(old))):
        one = [value for index, value in enumerate(values) if index in chosen]
        other = [value for index, value in enumerate(values) if index not in chosen]
        shuffles += 1
        clearer += abs(_wins(one, other) - middle) >= observed
    return clearer / shuffles


def _wins(one: Sequence[float], other: Sequence[float]) -> float:
    return sum((a > b) + 0.5 * (a == b) for a in one for b in other)


def verdict(old: Sequence[float], new: Sequence[float]) -> str:
    """In words: by how much the new is more or less, or that there is no difference."""
    if doubt(old, new) > DOUBT_MAX:
        return "no difference"
    return f"{median(new) / median(old) - 1:+.1%}"


def spread(values: Sequence[float]) -> float:
    """From the least to the most, as a share of the median."""
    return (max(values) - min(values)) / median(values)


def table(old: Run, new: Run) -> str:
    """The comparison as text."""
    rows: list[Sequence[str]] = [("", _title(old), _title(new), "difference")]
    for name, digits in (("events_per_s", 0), ("server_cpu_s_per_million", 3)):
        before = [getattr(sample, name) for sample in old.samples]
        after = [getattr(sample, name) for sample in new.samples]
        cells = [f"{median(v):,.{digits}f} ({spread(v):.0%} spread)" for v in (before, after)]
        rows.append((name, *cells, verdict(before, after)))
    rows.append(("peak_rss_bytes", f"{old.peak_rss_bytes:,}", f"{new.peak_rss_bytes:,}", ""))
    return "\n".join([*align(rows), *_warnings(old, new)])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _title(run: Run) -> str:
    return f"{run.commit} {run.at[:16]}"


def _warnings(old: Run, new: Run) -> list[str]:
    warnings = [
        f"not the same {what}: {getattr(old, what)} and {getattr(new, what)}"
        for what in ("name", "variant", "machine", "settings")
        if getattr(old, what) != getattr(new, what)
    ]
    if abs(new.loopback_bytes_per_s / old.loopback_bytes_per_s - 1) > 0.1:
        warnings.append("the machine itself was faster in one of them: loopback differs by over 10 %")
    return warnings


def choose(runs: Sequence[Run], arguments: Sequence[str]) -> tuple[Run, Run]:
    """The two runs that are meant."""
    if arguments:
        old, new = (int(text) for text in arguments)
        return runs[old - (old > 0)], runs[new - (new > 0)]
    same = [run for run in runs if run.variant == runs[-1].variant]
    return same[-2], same[-1]


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; 2 when it was not asked rightly."""
    try:
        file, *numbers = arguments
        old, new = choose(load(Path(file)), numbers)
    except (ValueError, IndexError, OSError):
        print(__doc__, file=sys.stderr)
        return 2
    print(table(old, new))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
