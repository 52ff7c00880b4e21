"""P10's percentiles are those of a usual second."""

from __future__ import annotations

from bench.targets.dead_receivers import usual_second


def test_a_pause_in_one_second_is_not_in_the_usual_one() -> None:
    steady = [(100 + at / 100, 0.001 + at % 100 / 1e6) for at in range(500)]
    paused = [(due_s, late_s + (0.5 if 101 <= due_s < 102 else 0)) for due_s, late_s in steady]
    assert usual_second(steady) == usual_second(paused)
    assert 1.0 <= usual_second(steady)["p50_ms"] < 1.06
    assert 1.09 < usual_second(steady)["p99_ms"] < 1.1


def test_what_is_late_in_every_second_is_in_the_usual_one() -> None:
    late = [(at / 100, 0.5 if at % 50 == 0 else 0.001) for at in range(500)]
    assert usual_second(late)["p99_ms"] == 500
