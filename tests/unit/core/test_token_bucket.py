from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.token_bucket import Allowance, Buckets, allowance, whole_seconds

S = 1_000_000_000


def of(per_s: float, burst: int) -> Allowance:
    found = allowance(per_s, burst)
    assert found is not None
    return found


def test_a_rate_of_nothing_is_no_limit() -> None:
    assert allowance(0, 0) is None
    assert allowance(0.0, 100) is None


@pytest.mark.parametrize(("per_s", "burst", "at_once"), [(3, 0, 3), (0.25, 0, 1), (2.5, 7, 7), (7, 1, 1)])
def test_a_full_bucket_gives_its_burst_and_then_says_when_to_come_back(
    per_s: float, burst: int, at_once: int
) -> None:
    buckets, rate = Buckets(), of(per_s, burst)
    for _ in range(at_once):
        assert buckets.wait_ns(1, rate, 5 * S) == 0
        buckets.take(1, rate, 1, 5 * S)
    wait_ns = buckets.wait_ns(1, rate, 5 * S)
    assert wait_ns == round(S / per_s)
    assert buckets.wait_ns(1, rate, 5 * S + wait_ns - 1) == 1
    assert buckets.wait_ns(1, rate, 5 * S + wait_ns) == 0
    assert buckets.wait_ns(2, rate, 5 * S) == 0


def test_what_is_larger_than_the_burst_is_done_and_paid_back() -> None:
    buckets, rate = Buckets(), of(10, 10)
    buckets.take(1, rate, 100, 0)
    assert buckets.wait_ns(1, rate, 0) == 9 * S + S // 10
    assert buckets.wait_ns(1, rate, 9 * S + S // 10) == 0


def test_a_wait_is_told_in_whole_seconds_that_are_enough() -> None:
    assert [whole_seconds(ns) for ns in (1, S - 1, S, S + 1, 3 * S)] == [1, 1, 1, 2, 3]


def test_another_allowance_begins_with_a_full_bucket() -> None:
    buckets, slow, fast = Buckets(), of(1, 1), of(100, 100)
    buckets.take(1, slow, 1_000, 0)
    assert buckets.wait_ns(1, slow, 0) == 1_000 * S
    assert buckets.wait_ns(1, fast, 0) == 0
    buckets.take(1, fast, 100, 0)
    assert buckets.wait_ns(1, fast, 0) == S // 100


def test_those_that_have_rested_are_forgotten() -> None:
    buckets, rate = Buckets(), of(10, 10)
    buckets.take(0, rate, 1_000_000, 0)
    for number in range(1, 100_000):
        buckets.take(number, rate, 1, number * S)
        assert len(buckets) <= 65
    assert buckets.wait_ns(0, rate, 99_000 * S) > 0  # what is overdrawn is not forgotten


def test_many_that_are_active_are_all_kept() -> None:
    buckets, rate = Buckets(), of(10, 10)
    for number in range(10_000):
        buckets.take(number, rate, 10, 0)
    assert len(buckets) == 10_000
    assert all(buckets.wait_ns(number, rate, 0) for number in range(10_000))


@given(
    st.floats(0.01, 1e6), st.integers(0, 50), st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 40)))
)
def test_no_time_sees_more_than_the_rate_and_a_burst(
    per_s: float, burst: int, asked: list[tuple[int, int]]
) -> None:
    buckets, rate, now_ns, taken = Buckets(), of(per_s, burst), 0, 0
    for pause_ns, count in asked:
        now_ns += pause_ns
        wait_ns = buckets.wait_ns(1, rate, now_ns)
        if not wait_ns:
            assert taken * rate.token_ns < now_ns + rate.full_ns
            buckets.take(1, rate, count, now_ns)
            taken += count
        else:
            assert buckets.wait_ns(1, rate, now_ns + whole_seconds(wait_ns) * S) == 0
