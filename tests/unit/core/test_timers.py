"""Numbers come back at their moment or a little before, never after."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.timers import Timers

MINUTE_S = 60.0


def taken(timers: Timers, now_s: float) -> list[int]:
    found = []
    while (number := timers.take(now_s)) is not None:
        found.append(number)
    return found


def test_what_is_due_comes_back_at_once_in_the_order_it_was_put() -> None:
    timers = Timers()
    for number in (3, 1, 2):
        timers.put(number, 100.0, now_s=100.0)
    assert timers.next_s == -math.inf
    assert taken(timers, 100.0) == [3, 1, 2]
    assert (timers.next_s, len(timers)) == (math.inf, 0)


def test_moments_of_the_running_minute_are_exact() -> None:
    timers = Timers()
    timers.put(1, 119.5, now_s=100.0)
    timers.put(2, 110.0, now_s=100.0)
    assert timers.next_s == 110.0
    assert taken(timers, 109.9) == []
    assert taken(timers, 119.4) == [2]
    assert taken(timers, 119.5) == [1]


def test_a_later_moment_comes_back_when_its_minute_begins_and_not_before() -> None:
    timers = Timers()
    timers.put(1, 86_430.0, now_s=100.0)
    assert timers.next_s == 86_400.0
    assert taken(timers, 86_399.9) == []
    assert taken(timers, 86_400.0) == [1]


def test_others_than_those_wanted_are_forgotten_wherever_they_stand() -> None:
    timers = Timers()
    for at_s in (0.0, 130.0, 500.0):  # due, near, far
        timers.put(int(at_s) + 1, at_s, now_s=125.0)
        timers.put(int(at_s) + 2, at_s, now_s=125.0)
    timers.put(1_000, 1_000.0, now_s=125.0)
    timers.keep(lambda number: number % 2 == 1)
    assert len(timers) == 3
    assert timers.next_s == -math.inf
    assert taken(timers, 2_000.0) == [1, 501, 131]


@given(
    st.lists(st.floats(-1e3, 1e3), max_size=20),
    st.floats(-1e3, 1e3),
    st.lists(st.floats(0.0, 200.0), max_size=30),
)
def test_nobody_who_looks_when_told_looks_late(
    moments: list[float], began_s: float, pauses: list[float]
) -> None:
    """Whoever comes back early is put back; in the end each has been seen at its moment, to the instant."""
    timers, now_s, seen = Timers(), began_s, dict[int, float]()
    for number, at_s in enumerate(moments):
        timers.put(number, at_s, now_s)
    for pause_s in (*pauses, *[math.inf] * 3 * len(moments)):
        now_s = max(now_s, min(now_s + pause_s, timers.next_s))
        for number in taken(timers, now_s):
            assert number not in seen
            assert now_s >= moments[number] or moments[number] - now_s <= MINUTE_S
            if now_s < moments[number]:
                timers.put(number, moments[number], now_s)
            else:
                seen[number] = now_s
        assert len(timers) == len(moments) - len(seen)
    assert seen == {number: max(at_s, began_s) for number, at_s in enumerate(moments)}
