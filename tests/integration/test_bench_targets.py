"""Rows of the targets, small: real servers, real peers, every event proven."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

sys.path.append(str(Path(__file__).parents[2]))

from bench.goals import Figures
from bench.process import Absent
from bench.row import OpenSide, Scale
from bench.targets.rows import ROWS

pytestmark = pytest.mark.slow

SOURCE_TREE = Path(__file__).parents[2]
RUN_S = 180.0
IN_TREE, INSTALLED = ("bench",), ("dispatcher", "bench")
TINY = Scale(name="tiny", rounds=1, share=0.005)
PEERS = ["Node", "Node, JSON.parse", "NATS, one per message", "Nchan, 5,000 per message"]


async def run(*arguments: str, program: Sequence[str] = IN_TREE) -> CompletedProcess[bytes]:
    with trio.fail_after(RUN_S):
        return await trio.run_process(
            [sys.executable, "-m", *program, *arguments],
            cwd=SOURCE_TREE if program is IN_TREE else SOURCE_TREE.anchor,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


@pytest.mark.parametrize(
    ("row", "program"), [("p3", INSTALLED), ("p6", INSTALLED), ("p10", IN_TREE)], ids=["p3", "p6", "p10"]
)
async def test_a_row_is_measured_and_its_demands_are_judged(row: str, program: Sequence[str]) -> None:
    done = await run(row, "--quick", "--rounds=1", program=program)
    assert done.returncode == 0, done.stderr.decode()
    report = done.stdout.decode()
    assert report.startswith(f"{row.upper()} ")
    assert "≥" in report
    assert report.count(" yes\n") + report.count(" no\n") >= 2


def sides_of(name: str) -> list[tuple[str, OpenSide]]:
    (row,) = (row for row in ROWS if row.name == name)
    return list(row.sides.items())


@pytest.mark.parametrize(
    ("row", "side"),
    [("P1", peer) for peer in PEERS] + [("P2", "Node"), ("P5", "NATS"), ("P5", "Nchan"), ("P9", "Nchan")],
)
async def test_a_peer_delivers_every_event_or_is_absent(row: str, side: str) -> None:
    found = await one_round(dict(sides_of(row))[side])
    assert all(value >= 0 for value in found.values())


async def one_round(open_side: OpenSide) -> Figures:
    with trio.fail_after(RUN_S):
        try:
            async with open_side(TINY) as take_turn:
                return await take_turn()
        except Absent as absent:
            pytest.skip(str(absent))


async def test_the_table_is_printed_for_all_targets() -> None:
    done = await run("table")
    assert done.returncode == 0
    assert [line.count("**") for line in done.stdout.decode().splitlines()].count(2) == len(ROWS)
