"""The command line of the soak: a daemon under mixed load for a long time, and whether it stays as it was."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import trio
from soak.gauges import Sample
from soak.stage import Report, soak

SAMPLES = 60


def main() -> int:
    """Run it; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="tests/soak/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="how long (30)")
    parser.add_argument("--rate", type=float, default=2_000, metavar="N", help="events a second (2000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of who does what when (1)")
    chosen = parser.parse_args()

    async def run() -> Report:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            return await soak(
                Path(folder),
                seconds=60 * chosen.minutes,
                rate=chosen.rate,
                samples=SAMPLES,
                tell=_tell,
                seed=chosen.seed,
            )

    report = trio.run(run)
    for name, events in report.arrived.items():
        print(f"{name:10} {events:12,} events, {report.again[name]:,} of them again")
    print(f"{report.posted:,} posted, {report.refusals} requests refused and posted again")
    troubles = list(report.troubles)
    if report.files_left > 0:
        troubles.append(f"{report.files_left} descriptors were left open")
    for trouble in troubles:
        print(f"TROUBLE: {trouble}")
    if not troubles:
        print("memory, descriptors and threads are flat; the books balanced at every look")
    return 1 if troubles else 0


def _tell(sample: Sample) -> None:
    print(
        f"{sample.at_s:7.0f} s  "
        f"memory {sample.memory_bytes / 1e6:7.1f} MB, of queues {sample.queue_bytes / 1e6:5.1f} MB  "
        f"descriptors {sample.files:4}  "
        f"threads {sample.threads:3}  disk {sample.disk_bytes / 1e6:7.1f} MB  books {sample.balance:+}",
        flush=True,
    )
