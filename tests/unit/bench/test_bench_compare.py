"""Comparing two runs: a difference is named only when noise would hardly show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.compare import choose, doubt, main, spread, table, verdict
from bench.results import Run, Sample, load, make_run, record


def run(rates: list[float], variant: str = "ndjson") -> Run:
    samples = [
        Sample(
            events_per_s=rate,
            server_cpu_s_per_million=1e6 / rate,
            server_cpu_share=1.0,
            load_cpu_share=0.3,
        )
        for rate in rates
    ]
    return make_run("ingest_to_nowhere", variant, {"rounds": len(rates)}, 1_000_000, 4e9, samples)


SLOW, FAST = [100.0, 103.0, 98.0, 101.0, 99.0], [110.0, 113.0, 108.0, 111.0, 109.0]


def test_rounds_that_fall_apart_are_a_difference() -> None:
    assert verdict(SLOW, FAST) == "+10.0%"
    assert verdict(FAST, SLOW) == "-9.1%"


def test_rounds_that_overlap_are_no_difference() -> None:
    assert verdict(SLOW, [101.0, 97.0, 102.0, 104.0, 100.0]) == "no difference"


def test_the_same_rounds_are_no_difference() -> None:
    assert verdict(SLOW, SLOW) == "no difference"
    assert verdict([5.0] * 5, [5.0] * 5) == "no difference"


def test_three_rounds_are_too_few_to_be_sure() -> None:
    assert verdict(SLOW[:3], FAST[:3]) == "no difference"


def test_the_doubt_is_that_of_the_rank_test() -> None:
    assert doubt([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert doubt([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert doubt([1, 3], [2, 4]) == pytest.approx(4 / 6)


def test_spread_is_a_share_of_the_median() -> None:
    assert spread([90, 100, 120]) == pytest.approx(0.3)


def test_the_table_says_what_differs_and_what_does_not() -> None:
    text = table(run(SLOW), run(SLOW))
    assert "events_per_s" in text
    assert "no difference" in text
    assert "5% spread" in text
    assert "+10.0%" in table(run(SLOW), run(FAST))


def test_the_table_warns_when_the_runs_are_not_alike() -> None:
    assert "not the same variant: ndjson and json" in table(run(SLOW), run(SLOW, "json"))


def test_the_last_two_runs_of_a_variant_are_compared_unless_others_are_named() -> None:
    one, other, two = run([1.0]), run([2.0], "json"), run([3.0])
    assert choose([one, other, two], []) == (one, two)
    assert choose([one, other, two], ["2", "-1"]) == (other, two)


def test_results_are_added_and_read_back(tmp_path: Path) -> None:
    record(run(SLOW), tmp_path)
    record(run(FAST), tmp_path)
    (file,) = tmp_path.iterdir()
    assert [found.rates() for found in load(file)] == [SLOW, FAST]
    assert main([str(file)]) == 0


def test_a_question_that_cannot_be_answered_shows_how_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.jsonl")]) == 2
    assert "bench.compare" in capsys.readouterr().err
