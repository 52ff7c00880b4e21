"""All rows, in the order of the table."""

from __future__ import annotations

from bench.row import Row
from bench.targets.channels import P8
from bench.targets.dead_receivers import P10
from bench.targets.depth import P7
from bench.targets.drain import P4
from bench.targets.embedded import P3
from bench.targets.idle_sockets import P9
from bench.targets.ingest import P1, P2
from bench.targets.latency import P5
from bench.targets.recovery import P11
from bench.targets.routing import P12
from bench.targets.small_posts import P6

ROWS: tuple[Row, ...] = (P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12)
