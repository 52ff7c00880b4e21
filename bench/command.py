"""``dispatcher bench``: the targets, from an installed package.  ``python -m bench`` has more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from .results import TargetRun, make_target_run
from .row import FULL, QUICK, Row, Scale, measure
from .table import report
from .targets.rows import ROWS
from .topology.measure import first_of

QUICK_OPTION = click.option(
    "--quick", is_flag=True, help="Small rounds: to see that it works, not for quoting."
)
ROUNDS_OPTION = click.option(
    "--rounds", type=click.IntRange(min=1), help=f"{FULL.rounds}, or {QUICK.rounds} with --quick."
)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice([row.command for row in ROWS]))
@QUICK_OPTION
@ROUNDS_OPTION
def bench(names: Sequence[str], quick: bool, rounds: int | None) -> None:
    """Measure the dispatcher on this machine.

    \b
    dispatcher bench p1 p4 --quick

    NAMEs are p1 to p12; without one all are measured, which takes a quarter of an hour.  What is
    measured stands beside the machine's own limit and beside other programs, where there are
    any.  Every event is proven: exit 1 when one was not.
    """
    rows = [row for row in ROWS if not names or row.command in names]
    run_rows(rows, scale_of(quick, rounds))


def scale_of(quick: bool, rounds: int | None) -> Scale:
    """What the options ask for."""
    chosen = QUICK if quick else FULL
    return Scale(name=chosen.name, rounds=rounds or chosen.rounds, share=chosen.share)


def run_rows(
    rows: Sequence[Row], scale: Scale, on_measured: Callable[[TargetRun], None] | None = None
) -> None:
    """Measure rows and print them; exits with 1 at the end when something was not proven."""
    runs = [_run(row, scale, on_measured) for row in rows]
    if None in runs:
        sys.exit(1)


def _run(row: Row, scale: Scale, on_measured: Callable[[TargetRun], None] | None) -> TargetRun | None:
    """Measure and print a row; None when something was not proven, which is then told."""
    outcome = None
    try:
        outcome = measure(row, scale, lambda line: click.echo(f"  {line}", err=True))
    except* Exception as failures:
        failure = first_of(failures)
        click.echo(f"{row.name}: FAILED: {type(failure).__name__}: {failure}", err=True)
    if outcome is None:
        return None
    settings: dict[str, int | float | str] = {"scale": scale.name, "rounds": scale.rounds}
    run = make_target_run(row.name, settings, outcome.samples, outcome.absent)
    click.echo(report(row, run))
    if on_measured is not None:
        on_measured(run)
    return run
