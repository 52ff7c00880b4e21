"""P11: a journal with 1 GB queued is opened again, beside a plain read of it with its checksums."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..goals import Figures, Goal
from ..load.fleet import NotProven
from ..recovery import EVENTS_PER_REQUEST, MEGABYTE, Plan, fill, opened, prove, read_plainly
from ..row import Row, Scale, Side

_BYTES = 1_000 * MEGABYTE  # queued
_RECOVERY = "dispatcher"


@asynccontextmanager
async def open_again(scale: Scale) -> AsyncIterator[Side]:
    """A folder that is filled once; each round opens it and proves every event."""
    requests = scale.of(_BYTES) // (150 * EVENTS_PER_REQUEST)
    plan = Plan(channels=100, requests=requests, memory_bytes=4 * _BYTES)
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as name:
        folder = Path(name)
        await fill(folder, plan)
        segment_bytes = sum(path.stat().st_size for path in folder.glob("*.seg"))  # noqa: ASYNC240

        async def take_turn() -> Figures:
            plain = read_plainly(folder)
            async with opened(folder, plan) as (_, report, took):
                if report.records != requests * EVENTS_PER_REQUEST:
                    raise NotProven(f"{report.records} events came back")
                bytes_count = report.journal.group_bytes
            return {
                "bytes_per_s": bytes_count / took.wall_s,
                "plain_bytes_per_s": segment_bytes / plain.wall_s,
                "start_s": took.wall_s,
            }

        yield take_turn
        async with opened(folder, plan) as (queue, _, _):
            await prove(queue, plan)


P11 = Row(
    name="P11",
    title="recovery of 1 GB",
    goals=(
        Goal(side=_RECOVERY, figure="bytes_per_s", at_least=500e6),
        Goal(side=_RECOVERY, figure="start_s", at_most=3.0),
    ),
    sides={_RECOVERY: open_again},
)
