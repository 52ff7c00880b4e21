"""``python -m bench all`` runs every topology; ``python -m bench NAME`` one of them."""

from __future__ import annotations

import click

from bench.recovery import recovery
from bench.topology import ingest_to_callback, ingest_to_websocket
from bench.topology.measure import command

TOPOLOGIES = (ingest_to_websocket.TOPOLOGY, ingest_to_callback.TOPOLOGY)


@click.group()
def bench() -> None:
    """Measure the dispatcher: whole paths, real processes, every event proven."""


for topology in TOPOLOGIES:
    bench.add_command(command([topology]), topology.name)
bench.add_command(command(TOPOLOGIES), "all")
bench.add_command(recovery)

if __name__ == "__main__":
    bench(prog_name="python -m bench")
