"""``python -m bench p1`` measures one target, ``python -m bench all`` every one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from .recovery import recovery
from .results import FOLDER, TargetRun, load_targets, make_target_run, record_target
from .row import FULL, QUICK, Row, Scale, measure
from .table import markdown, report
from .targets.rows import ROWS
from .topology import ingest_to_callback, ingest_to_deflated_websocket, ingest_to_websocket
from .topology.measure import command as topology_command
from .topology.measure import first_of


@click.group()
def bench() -> None:
    """Measure the dispatcher: real processes, real sockets, every event proven."""


def _run(row: Row, scale: Scale) -> TargetRun | None:
    """Measure a row; None when something was not proven, which is then told."""
    outcome = None
    try:
        outcome = measure(row, scale, lambda line: click.echo(f"  {line}", err=True))
    except* Exception as failures:
        failure = first_of(failures)
        click.echo(f"{row.name}: FAILED: {type(failure).__name__}: {failure}", err=True)
    if outcome is None:
        return None
    settings: dict[str, int | float | str] = {"scale": scale.name, "rounds": scale.rounds}
    return make_target_run(row.name, settings, outcome.samples, outcome.absent)


def _command(name: str, rows: Sequence[Row]) -> click.Command:
    described = " ".join(row.title for row in rows) if len(rows) == 1 else "every target"

    @click.command(name, help=f"Measure {described}.", short_help=described)
    @click.option("--quick", is_flag=True, help="Small rounds: to see that it works, not for quoting.")
    @click.option(
        "--rounds", type=click.IntRange(min=1), help=f"{FULL.rounds}, or {QUICK.rounds} with --quick."
    )
    @click.option("--record", "is_recorded", is_flag=True, help="Add a line per target to bench/results.")
    def run(quick: bool, rounds: int | None, is_recorded: bool) -> None:
        if is_recorded and not FOLDER.is_dir():
            raise click.UsageError("results are recorded in the source tree: python -m bench, from its top")
        chosen = QUICK if quick else FULL
        scale = Scale(name=chosen.name, rounds=rounds or chosen.rounds, share=chosen.share)
        is_whole = True
        for row in rows:
            measured = _run(row, scale)
            if measured is None:
                is_whole = False
                continue
            click.echo(report(row, measured))
            if is_recorded:
                record_target(measured)
        if not is_whole:
            sys.exit(1)

    return run


@click.command()
def table() -> None:
    """Print the newest recorded run of each target as Markdown."""
    click.echo(markdown(ROWS, load_targets()))


for row in ROWS:
    bench.add_command(_command(row.command, [row]))
bench.add_command(_command("all", ROWS))
bench.add_command(table)
for topology in (
    ingest_to_websocket.TOPOLOGY,
    ingest_to_deflated_websocket.TOPOLOGY,
    ingest_to_callback.TOPOLOGY,
):
    bench.add_command(topology_command([topology]), topology.name)
bench.add_command(recovery)

if __name__ == "__main__":
    bench(prog_name="python -m bench")
