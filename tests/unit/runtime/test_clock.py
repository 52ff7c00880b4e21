"""A wall clock that somebody sets."""

from __future__ import annotations

from dispatcher.runtime.clock import WallClock


class Clocks:
    def __init__(self, floor_unix_ms: int = 0) -> None:
        self.wall_s, self.steady_s = 1_000.0, 5.0
        self.clock = WallClock(lambda: self.wall_s, lambda: self.steady_s, floor_unix_ms)

    def after(self, seconds: float, step_s: float = 0.0) -> int:
        """The reading after some time, during which the wall clock was set by a step."""
        self.steady_s += seconds
        self.wall_s += seconds + step_s
        return self.clock.unix_ms()


def test_time_passes() -> None:
    clocks = Clocks()
    assert [clocks.after(0), clocks.after(1.5), clocks.after(86_400)] == [1_000_000, 1_001_500, 87_401_500]


def test_a_reading_holds_for_half_a_millisecond() -> None:
    clocks = Clocks()
    assert clocks.after(0.0104) == 1_000_010
    assert clocks.after(0.0004, step_s=7) == 1_000_010
    assert clocks.after(0.0006) == 1_000_011


def test_a_step_forward_is_left_out() -> None:
    clocks = Clocks()
    assert clocks.after(1, step_s=86_400) == 1_001_000
    assert clocks.after(1) == 1_002_000


def test_a_step_back_stands_still_until_it_has_caught_up() -> None:
    clocks = Clocks()
    assert clocks.after(10) == 1_010_000
    assert clocks.after(1, step_s=-5) == 1_010_000
    assert clocks.after(3) == 1_010_000
    assert clocks.after(3) == 1_012_000


def test_a_step_forward_that_is_undone_costs_nothing() -> None:
    clocks = Clocks()
    clocks.after(1, step_s=3600)
    assert clocks.after(1, step_s=-3600) == 1_002_000
    assert clocks.after(1) == 1_003_000


def test_a_clock_that_drifts_or_is_slewed_is_followed() -> None:
    clocks = Clocks()
    for _ in range(100):
        reading = clocks.after(10, step_s=0.5)
    assert reading == 1_000_000 + 100 * 10_500


def test_it_never_falls_below_what_an_earlier_run_stored() -> None:
    clocks = Clocks()
    clocks.clock.raise_floor(1_060_000)
    assert clocks.after(1) == 1_060_000
    assert clocks.after(60) == 1_061_000
