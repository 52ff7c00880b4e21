from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.rate import Rate, RateWindow, admit, is_idle

TEN_A_MINUTE = Rate(count_max=10, period_s=60.0)


def test_ten_pass_at_once_and_the_eleventh_waits_for_the_first_to_age() -> None:
    window = RateWindow()
    for _ in range(10):
        window, wait_s = admit(window, TEN_A_MINUTE, 100.0)
        assert wait_s == 0.0
    window, wait_s = admit(window, TEN_A_MINUTE, 115.0)
    assert wait_s == 45.0


def test_a_refusal_does_not_lengthen_the_wait() -> None:
    window = RateWindow(tuple(float(second) for second in range(10)))
    for _ in range(50):
        window, wait_s = admit(window, TEN_A_MINUTE, 30.0)
        assert wait_s == 30.0
    assert admit(window, TEN_A_MINUTE, 60.0)[1] == 0.0


def test_a_window_is_idle_when_all_in_it_has_aged() -> None:
    window, _ = admit(RateWindow(), TEN_A_MINUTE, 5.0)
    assert not is_idle(window, TEN_A_MINUTE, 64.9)
    assert is_idle(window, TEN_A_MINUTE, 65.0)
    assert is_idle(RateWindow(), TEN_A_MINUTE, 0.0)


@given(st.lists(st.floats(0, 20), max_size=80))
def test_no_period_holds_more_than_the_bound(gaps_s: list[float]) -> None:
    window, now_s, done_s = RateWindow(), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        window, wait_s = admit(window, TEN_A_MINUTE, now_s)
        if wait_s == 0.0:
            done_s.append(now_s)
        assert 0.0 <= wait_s <= 60.0
        assert len(window.times_s) <= 10
    for start_s in done_s:
        assert sum(start_s <= time_s < start_s + 60.0 for time_s in done_s) <= 10
