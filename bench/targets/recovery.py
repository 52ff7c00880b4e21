"""P11: a journal with 1 GB queued is opened again, beside a plain read of it with its checksums.

From the page cache, which the goals are for; and from the disk, where it is after a reboot and where
large groups are that were synced.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ..goals import Figures, Goal
from ..load.fleet import NotProven
from ..recovery import EVENTS_PER_REQUEST, MEGABYTE, Plan, drop_cached, fill, opened, prove, read_plainly
from ..row import OpenSide, Row, Scale, Side

_BYTES = 1_000 * MEGABYTE  # queued
_RECOVERY, _FROM_DISK = "dispatcher", "dispatcher, from the disk"


def _opening(prepare: Callable[[Path], None]) -> OpenSide:
    """A folder that is filled once; each round opens it, made ready before, and proves every event."""

    @asynccontextmanager
    async def open_again(scale: Scale) -> AsyncIterator[Side]:
        requests = scale.of(_BYTES) // (150 * EVENTS_PER_REQUEST)
        plan = Plan(channels=100, requests=requests, memory_bytes=4 * _BYTES)
        with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as name:
            folder = Path(name)
            await fill(folder, plan)
            segment_bytes = sum(path.stat().st_size for path in folder.glob("*.seg"))  # noqa: ASYNC240

            async def take_turn() -> Figures:
                prepare(folder)
                plain = read_plainly(folder)
                prepare(folder)
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

    return open_again


def _leave(folder: Path) -> None:
    """The plain read fills the cache."""


P11 = Row(
    name="P11",
    title="recovery of 1 GB",
    goals=(
        Goal(side=_RECOVERY, figure="bytes_per_s", at_least=500e6),
        Goal(side=_RECOVERY, figure="start_s", at_most=3.0),
    ),
    sides={_RECOVERY: _opening(_leave), _FROM_DISK: _opening(drop_cached)},
)
