"""The benchmarks against a real daemon: they prove what arrived, and fail when something did not."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

pytestmark = pytest.mark.slow

SOURCE_TREE = Path(__file__).parents[2]
TOPOLOGIES = ["ingest_to_websocket", "ingest_to_callback"]
RUN_S = 120.0


async def run(topology: str, *options: str) -> CompletedProcess[bytes]:
    line = [sys.executable, "-m", "bench", topology, "--events=20000", "--rounds=1", *options]
    with trio.fail_after(RUN_S):
        return await trio.run_process(
            line, cwd=SOURCE_TREE, capture_stdout=True, capture_stderr=True, check=False
        )


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_every_event_of_a_round_is_proven(topology: str) -> None:
    done = await run(topology)
    assert done.returncode == 0, done.stderr.decode()
    assert b"1 rounds of 20,000 events, each one proven" in done.stdout
    assert done.stderr.count(b"every event proven") == 4  # one round of each form and durability


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_a_daemon_that_drops_events_fails_the_run(topology: str) -> None:
    done = await run(topology, "--queue-bytes=4096", "--patience-s=1", "--form=json", "--durability=memory")
    assert done.returncode == 1
    assert b"FAILED: " in done.stderr
    assert b"lost, or out of order" in done.stderr or b"events arrived" in done.stderr
    assert done.stdout == b""
