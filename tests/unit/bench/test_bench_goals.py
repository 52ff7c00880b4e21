"""Demands: what they are judged by, and what they say when nothing was measured."""

from __future__ import annotations

import math

import pytest

from bench.goals import Goal, percentile, summary

RATE = Goal(side="ours", figure="events_per_s", at_least=3_000_000)
RATIO = Goal(side="ours", figure="events_per_s", at_least=1.6, beside="Node")
LATE = Goal(side="ours", figure="p99_ms", at_most=0.6)


def rates(*values: float) -> list[dict[str, float]]:
    return [{"events_per_s": value} for value in values]


def test_the_median_decides() -> None:
    assert RATE.is_reached({"ours": rates(1e6, 3e6, 9e6)}) is True
    assert RATE.is_reached({"ours": rates(1e6, 2.9e6, 9e6)}) is False


def test_what_must_not_be_exceeded_may_be_met_exactly() -> None:
    assert LATE.is_reached({"ours": [{"p99_ms": 0.6}]}) is True
    assert LATE.is_reached({"ours": [{"p99_ms": 0.61}]}) is False


def test_a_ratio_is_taken_within_its_round() -> None:
    slowed_down_together = {"ours": rates(200, 20, 2), "Node": rates(100, 10, 1)}
    assert RATIO.values(slowed_down_together) == [2.0, 2.0, 2.0]
    assert RATIO.is_reached(slowed_down_together) is True
    assert RATIO.is_reached({"ours": rates(150), "Node": rates(100)}) is False


@pytest.mark.parametrize("samples", [{}, {"ours": rates(5e6)}, {"Node": rates(1e6)}])
def test_a_ratio_to_what_was_not_measured_is_neither_reached_nor_missed(
    samples: dict[str, list[dict[str, float]]],
) -> None:
    assert RATIO.is_reached(samples) is None
    assert RATIO.show(samples) == "not measured"


def test_a_ratio_to_nothing_is_beyond_any_bound() -> None:
    assert RATIO.values({"ours": rates(1), "Node": rates(0)}) == [math.inf]


def test_demands_and_figures_are_shown_with_their_units() -> None:
    assert (RATE.name, RATE.bound) == ("ours", "≥ 3,000,000 events/s")
    assert (RATIO.name, RATIO.bound) == ("ours / Node: events/s", "≥ 1.60 x")
    assert (LATE.name, LATE.bound) == ("ours", "≤ 0.600 ms p99")
    assert RATE.show({"ours": rates(1e6, 2e6, 3e6)}) == "2,000,000 events/s [1,000,000 .. 3,000,000]"
    assert RATIO.show({"ours": rates(3), "Node": rates(2)}) == "1.50 x [1.50 .. 1.50]"


def test_a_summary_has_the_median_of_every_figure() -> None:
    figures = [{"events_per_s": rate, "server_core": 0.5} for rate in (1e6, 3e6, 2e6)]
    assert summary(figures) == "2,000,000 events/s, 50 % of the server's core"
    assert summary([]) == ""


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.99) == 7
