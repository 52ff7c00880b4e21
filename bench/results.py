"""What a benchmark run leaves behind: one line of JSON, added to a file and never changed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "results"
TARGETS_FILE = "targets.jsonl"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One round."""

    events_per_s: float
    server_cpu_s_per_million: float
    server_cpu_share: float  # of one core, while the round ran
    load_cpu_share: float  # of one core


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cores: int
    kernel: str
    python: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one variant of a benchmark."""

    name: str
    variant: str
    commit: str
    at: str
    machine: Machine
    settings: dict[str, int | float | str]
    peak_rss_bytes: int
    loopback_bytes_per_s: float  # measured in the same run
    samples: list[Sample]

    def rates(self) -> list[float]:
        """Events per second of each round."""
        return [sample.events_per_s for sample in self.samples]


class TargetRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a row of the targets."""

    name: str  # P1
    commit: str
    at: str
    machine: Machine
    settings: dict[str, int | float | str]
    samples: dict[str, list[dict[str, float]]]  # by side, in the order of the rounds
    absent: dict[str, str]  # side -> why it was not measured

    @property
    def rounds(self) -> int:
        """How many were taken: a row of short rounds takes more than the settings say."""
        return max(map(len, self.samples.values()), default=0)


def make_target_run(
    name: str,
    settings: dict[str, int | float | str],
    samples: dict[str, list[dict[str, float]]],
    absent: dict[str, str],
) -> TargetRun:
    """A run made here and now."""
    return TargetRun(
        name=name,
        commit=_commit(),
        at=_now(),
        machine=_machine(),
        settings=settings,
        samples=samples,
        absent=absent,
    )


def make_run(
    name: str,
    variant: str,
    settings: dict[str, int | float | str],
    peak_rss_bytes: int,
    loopback_bytes_per_s: float,
    samples: Sequence[Sample],
) -> Run:
    """A run made here and now."""
    return Run(
        name=name,
        variant=variant,
        commit=_commit(),
        at=_now(),
        machine=_machine(),
        settings=settings,
        peak_rss_bytes=peak_rss_bytes,
        loopback_bytes_per_s=loopback_bytes_per_s,
        samples=list(samples),
    )


def record(run: Run, folder: Path = FOLDER) -> None:
    """Add a run to the file of its benchmark."""
    _add(run, folder / f"{run.name}.jsonl")


def record_target(run: TargetRun, folder: Path = FOLDER) -> None:
    """Add a run to the file of the targets."""
    _add(run, folder / TARGETS_FILE)


def _add(run: Run | TargetRun, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("ab") as lines:
        lines.write(msgspec.json.encode(run) + b"\n")


def load(file: Path) -> list[Run]:
    """The runs of a file, oldest first."""
    return msgspec.json.Decoder(Run).decode_lines(file.read_bytes())


def load_targets(folder: Path = FOLDER) -> list[TargetRun]:
    """The runs of all rows, oldest first; none when nothing was recorded yet."""
    file = folder / TARGETS_FILE
    return msgspec.json.Decoder(TargetRun).decode_lines(file.read_bytes()) if file.exists() else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache  # the results that a run adds are no change of what it measures
def _commit() -> str:
    """The commit that is checked out; ``+`` when files differ from it."""
    command = ["git", "-C", str(FOLDER.parent), "describe", "--always", "--dirty=+", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "none"


def _machine() -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {'.'.join(map(str, sys.version_info[:3]))}",
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
