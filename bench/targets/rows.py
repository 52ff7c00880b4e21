"""All rows, in the order of the table."""

from __future__ import annotations

from ..row import Row
from .channels import P8
from .dead_receivers import P10
from .depth import P7
from .drain import P4
from .embedded import P3
from .idle_sockets import P9
from .ingest import P1, P2
from .latency import P5
from .recovery import P11
from .routing import P12
from .small_posts import P6

ROWS: tuple[Row, ...] = (P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12)
