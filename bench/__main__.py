"""``python -m bench p1`` measures one target, ``python -m bench all`` every one."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .command import QUICK_OPTION, ROUNDS_OPTION, run_rows, scale_of
from .recovery import recovery
from .results import load_targets, record_target
from .row import Row
from .table import markdown
from .targets.rows import ROWS
from .topology import ingest_to_callback, ingest_to_websocket
from .topology.measure import command as topology_command


@click.group()
def bench() -> None:
    """Measure the dispatcher: real processes, real sockets, every event proven."""


def _command(name: str, rows: Sequence[Row]) -> click.Command:
    described = " ".join(row.title for row in rows) if len(rows) == 1 else "every target"

    @click.command(name, help=f"Measure {described}.", short_help=described)
    @QUICK_OPTION
    @ROUNDS_OPTION
    @click.option("--record", "is_recorded", is_flag=True, help="Add a line per target to bench/results.")
    def run(quick: bool, rounds: int | None, is_recorded: bool) -> None:
        run_rows(rows, scale_of(quick, rounds), record_target if is_recorded else None)

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
    ingest_to_websocket.DEFLATED,
    ingest_to_callback.TOPOLOGY,
):
    bench.add_command(topology_command([topology]), topology.name)
bench.add_command(recovery)

if __name__ == "__main__":
    bench(prog_name="python -m bench")
