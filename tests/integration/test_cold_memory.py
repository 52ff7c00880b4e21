"""The bound of memory, measured from outside: what a process takes while its queues hold much more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MEMORY_BYTES = 64 << 20  # the probe's bound
ALLOWANCE_BYTES = 24 << 20  # requests and batches on their way, threads, what the allocator keeps
CHANNEL_BYTES = 1 << 10  # a channel's books: its ring, and 80 bytes for each chunk
STEP_CPU_S = 0.25  # ten to twenty times what the largest step takes: an append of 10 MB to 1,000 channels
DELIVERY_STEP_CPU_S = 0.05  # likewise: to frame a piece and send it takes less than a millisecond
TIMEOUT_S = 300


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "events"), [(1_000, 400), (30_000, 3)], ids=["deep", "many"])
def test_memory_keeps_to_its_bound_and_everything_arrives(tmp_path: Path, channels: int, events: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.memory_probe", str(tmp_path), str(channels), str(events)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["record_bytes"] + seen["scratch_bytes"] > 2 * MEMORY_BYTES
    assert seen["resident_bytes_max"] <= MEMORY_BYTES + ALLOWANCE_BYTES + channels * CHANNEL_BYTES
    assert seen["wrong_channels"] == 0
    assert seen["longest_step_cpu_s"] < STEP_CPU_S


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how"), [("callback", []), ("websocket", ["waiting"])])
def test_delivering_a_cold_queue_holds_nobody_up(tmp_path: Path, kind: str, how: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.cold_delivery_probe", str(tmp_path), kind, "300000", "900", *how],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["cold_bytes"] > 2 * MEMORY_BYTES
    assert seen["received_bytes"] > seen["cold_bytes"]
    assert seen["longest_step_cpu_s"] < DELIVERY_STEP_CPU_S
