"""What a daemon takes from the machine over a long time, and whether that grows.  The verdict is pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

MEMORY_GROWTH_MAX = 0.02  # of the middle third, in the last one
MEMORY_SLACK_BYTES = 2 << 20  # an allocator's own steps
QUEUE_SLACK_BYTES = (
    8 << 20
)  # four slabs: a slow moment of the machine leaves records of slow receivers in more of them
WARM_UP_SHARE = 1 / 3  # caches fill, arenas grow: not judged
_SAMPLES_MIN = 9


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon at a moment."""

    at_s: float  # since the load began
    memory_bytes: int  # resident, without files that are mapped
    queue_bytes: int  # of it, the memory of the queues
    files: int  # open descriptors
    threads: int
    disk_bytes: int  # of the data folder
    balance: int  # records that came, less those that went or are there

    @property
    def own_bytes(self) -> int:
        """What it takes beside the queues."""
        return self.memory_bytes - self.queue_bytes


def look(pid: int, data: Path, at_s: float, balance: int, queue_bytes: int) -> Sample:
    """Read a process's figures; ``balance`` and ``queue_bytes`` are what it says itself."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return Sample(
        at_s=at_s,
        memory_bytes=int(status["RssAnon"].split()[0]) * 1024,
        queue_bytes=queue_bytes,
        files=open_files(pid),
        threads=int(status["Threads"]),
        disk_bytes=sum(_allocated(path) for path in data.rglob("*")),
        balance=balance,
    )


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def troubles(samples: Sequence[Sample]) -> list[str]:
    """What is not as it should be, in words; nothing when all is well.

    What the daemon takes in the last third is held against the middle third.
    """
    found = [
        f"after {one.at_s:.0f} s the books are off by {one.balance} records" for one in samples if one.balance
    ]
    if len(samples) < _SAMPLES_MIN:
        return [*found, f"{len(samples)} samples say nothing about growth; let it run longer"]
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    middle, last = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    for name, allowed, slack in (
        ("own_bytes", MEMORY_GROWTH_MAX, MEMORY_SLACK_BYTES),
        ("queue_bytes", 0.0, QUEUE_SLACK_BYTES),
        ("files", 0.1, 2),
        ("threads", 0.1, 2),
    ):
        was, now = (median(getattr(one, name) for one in part) for part in (middle, last))
        if now > was * (1 + allowed) + slack:
            found.append(f"{name} grew from {was:,.0f} to {now:,.0f}")
    return found


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:  # a segment went meanwhile
        return 0
