"""Rows: their sides take turns, what is absent is skipped with a word, what fails comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bench.goals import Figures, Goal
from bench.load.fleet import NotProven
from bench.process import Absent
from bench.results import TargetRun, load_targets, make_target_run, record_target
from bench.row import FULL, QUICK, OpenSide, Row, Scale, Side, measure
from bench.table import markdown, newest, report
from bench.targets.rows import ROWS

GOAL = Goal(side="ours", figure="events_per_s", at_least=100)
BESIDE = Goal(side="ours", figure="events_per_s", at_least=0.5, beside="peer")
ONCE = Scale(name="full", rounds=2, share=1.0)


def side(name: str, log: list[str]) -> OpenSide:
    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        async def take_turn() -> Figures:
            log.append(name)
            return {"events_per_s": 100.0 + len(log)}

        log.append(f"open {name}")
        yield take_turn
        log.append(f"close {name}")

    return open_side


@asynccontextmanager
async def absent(scale: Scale) -> AsyncIterator[Side]:
    raise Absent("there is no such program")
    yield


@asynccontextmanager
async def losing(scale: Scale) -> AsyncIterator[Side]:
    async def take_turn() -> Figures:
        raise NotProven("device 3: 1 of 2 events arrived")

    yield take_turn


def row(**sides: OpenSide) -> Row:
    return Row(name="P0", title="nothing", goals=(GOAL, BESIDE), sides=sides)


def run_of(rate: float, *, scale: Scale = FULL, beside: float | None = None) -> TargetRun:
    samples = {"ours": [{"events_per_s": rate}]}
    if beside is not None:
        samples["peer"] = [{"events_per_s": beside}]
    return make_target_run("P0", {"scale": scale.name, "rounds": 1}, samples, {})


def test_sides_take_turns_between_being_opened_and_closed() -> None:
    log: list[str] = []
    outcome = measure(row(ours=side("a", log), peer=side("b", log)), ONCE, lambda line: None)
    assert log == ["open a", "open b", "a", "b", "b", "a", "close b", "close a"]
    assert outcome.samples["ours"] == [{"events_per_s": 103.0}, {"events_per_s": 106.0}]
    assert outcome.absent == {}


def test_rounds_can_be_cut_into_short_ones_that_alternate() -> None:
    log: list[str] = []
    cut = msgspec.structs.replace(row(ours=side("a", log), peer=side("b", log)), short_rounds=2)
    outcome = measure(cut, ONCE, lambda line: None)
    assert log[2:-2] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert len(outcome.samples["ours"]) == 2 * ONCE.rounds


def test_an_absent_side_is_skipped_with_a_word() -> None:
    told: list[str] = []
    outcome = measure(row(ours=side("a", []), peer=absent), ONCE, told.append)
    assert outcome.absent == {"peer": "there is no such program"}
    assert list(outcome.samples) == ["ours"]
    assert "P0 peer: skipped: there is no such program" in told


def test_what_is_not_proven_ends_the_row() -> None:
    with pytest.raises(NotProven, match="1 of 2"):
        measure(row(ours=losing, peer=side("b", [])), ONCE, lambda line: None)


def test_a_scale_keeps_sizes_in_proportion_but_above_the_least() -> None:
    assert FULL.of(300_000) == 300_000
    assert QUICK.of(300_000) == 15_000
    assert QUICK.of(300_000, least=100_000) == 100_000


def test_runs_are_added_and_read_back(tmp_path: Path) -> None:
    assert load_targets(tmp_path) == []
    record_target(run_of(1.0), tmp_path)
    record_target(run_of(2.0), tmp_path)
    assert [run.samples["ours"][0]["events_per_s"] for run in load_targets(tmp_path)] == [1.0, 2.0]


def test_a_report_says_what_is_reached_what_is_not_and_what_was_skipped() -> None:
    measured = row(ours=side("a", []), peer=absent)
    reached = report(measured, run_of(150, beside=100))
    assert reached.count("yes") == 2
    missed = report(measured, run_of(40, beside=100))
    assert missed.count("  no") == 2
    alone = report(measured, run_of(150))
    assert "not measured" in alone


def test_the_table_shows_the_newest_full_run_of_each_row() -> None:
    measured = row(ours=side("a", []))
    quick = run_of(500, scale=QUICK)
    runs = [run_of(150, beside=100), run_of(160, beside=100), quick]
    assert newest(measured, runs) is runs[1]
    assert newest(measured, [quick]) is None
    lines = markdown([measured], runs).splitlines()
    assert lines[0].startswith("- P0: ")
    assert lines[0].endswith("the median of 1 rounds [least .. most].")  # taken, whatever was set
    assert "| **P0** nothing | ours | 160 events/s [160 .. 160] | ≥ 100 events/s | yes |" in lines
    assert "|  | ours / peer: events/s | 1.60 x [1.60 .. 1.60] | ≥ 0.50 x | yes |" in lines
    assert "| P0 | peer | 100 events/s |" in lines


def test_the_table_has_a_line_for_what_was_never_measured() -> None:
    lines = markdown([row(ours=side("a", []))], []).splitlines()
    assert "| **P0** nothing | ours | not measured | ≥ 100 events/s | not measured |" in lines


def test_every_demand_of_every_row_is_about_sides_that_the_row_has() -> None:
    for one in ROWS:
        for goal in one.goals:
            assert goal.side in one.sides
            assert goal.beside in ("", *one.sides)
            assert (goal.at_least is None) != (goal.at_most is None)
            assert goal.bound
    assert len({one.name for one in ROWS}) == len(ROWS)
