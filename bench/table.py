"""The targets beside what was measured: as text for a run, as Markdown for the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .compare import align
from .goals import summary
from .results import TargetRun
from .row import FULL, Row

_REACHED = {True: "yes", False: "no", None: "not measured"}


def report(row: Row, run: TargetRun) -> str:
    """One run of one row: its demands, then all figures of each side."""
    lines = [
        (f"  {goal.name}", goal.show(run.samples), goal.bound, _REACHED[goal.is_reached(run.samples)])
        for goal in row.goals
    ]
    sides = [(f"  {name}:", summary(figures)) for name, figures in run.samples.items()]
    skipped = [(f"  {name}:", f"skipped: {why}") for name, why in run.absent.items()]
    title = f"{row.name} {row.title}: medians of {run.rounds} rounds, each one proven"
    return "\n".join([title, *align(lines), *align(sides + skipped)])


def markdown(rows: Sequence[Row], runs: Sequence[TargetRun]) -> str:
    """The newest full run of each row, as two tables: the demands, and what stood beside."""
    found = {row.name: newest(row, runs) for row in rows}
    demands = [_line("", "what", "measured", "target", "reached"), _line(*["---"] * 5)]
    beside = [_line("", "side", "medians"), _line(*["---"] * 3)]
    for row in rows:
        run = found[row.name]
        demands += _demands(row, run)
        if run is not None:
            beside += [_line(row.name, name, summary(figures)) for name, figures in run.samples.items()]
            beside += [_line(row.name, name, f"skipped: {why}") for name, why in run.absent.items()]
    return "\n".join([*_origins(found.values()), "", *demands, "", *beside])


def newest(row: Row, runs: Sequence[TargetRun]) -> TargetRun | None:
    """The last run of a row at full scale; None when there is none."""
    full = [run for run in runs if run.name == row.name and run.settings["scale"] == FULL.name]
    return full[-1] if full else None


def _demands(row: Row, run: TargetRun | None) -> Iterator[str]:
    for number, goal in enumerate(row.goals):
        samples = {} if run is None else run.samples
        title = f"**{row.name}** {row.title}" if number == 0 else ""
        reached = _REACHED[goal.is_reached(samples)]
        yield _line(title, goal.name, goal.show(samples), goal.bound, reached)


def _origins(runs: Iterator[TargetRun | None] | Sequence[TargetRun | None]) -> list[str]:
    """Where, at which commit and in how many rounds runs were made: a line for each different answer."""
    names: dict[str, list[str]] = {}
    for run in runs:
        if run is not None:
            origin = (
                f"{run.machine.cpu}, {run.machine.cores} cores, Linux {run.machine.kernel}, "
                f"{run.machine.python}, commit {run.commit}, {run.at[:10]}; each figure is the median of "
                f"{run.rounds} rounds [least .. most]."
            )
            names.setdefault(origin, []).append(run.name)
    return [f"- {', '.join(rows)}: {origin}" for origin, rows in names.items()]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
