from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher import limits
from dispatcher.core.retry import (
    BatchSize,
    RetryPolicy,
    RetryState,
    after_failure,
    after_refused_size,
    after_success,
    parse_retry_after,
)

POLICY = RetryPolicy(initial_s=1.0, max_s=120.0)
MIB = limits.MIB
FLOOR = limits.LEARNED_BATCH_BYTES_MIN


def pauses(count: int, retry_after_s: float | None = None) -> list[float]:
    state, now_s, found = RetryState(), 1000.0, []
    for _ in range(count):
        state = after_failure(state, POLICY, now_s, retry_after_s)
        found.append(state.next_attempt_s - now_s)
        now_s = state.next_attempt_s + 20.0  # the attempt's own time does not shorten the next pause
    return found


def test_pauses_double_from_one_second_to_two_minutes() -> None:
    assert pauses(10) == [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]


def test_retry_after_lengthens_a_pause_and_never_shortens_it() -> None:
    assert pauses(6, retry_after_s=10.0) == [10, 10, 10, 10, 16, 32]


def test_retry_after_is_honoured_up_to_its_bound() -> None:
    assert pauses(2, retry_after_s=86_400.0) == [limits.RETRY_AFTER_S_MAX] * 2
    assert pauses(1, retry_after_s=float("inf")) == [limits.RETRY_AFTER_S_MAX]


def test_the_first_failure_is_when_failing_began() -> None:
    state = after_failure(RetryState(), POLICY, 5.0, None)
    state = after_failure(state, POLICY, 9.0, None)
    assert (state.failing_since_s, state.failures) == (5.0, 2)
    assert RetryState().failing_since_s is None


def test_a_failure_at_time_zero_counts_as_the_beginning() -> None:
    state = after_failure(after_failure(RetryState(), POLICY, 0.0, None), POLICY, 7.0, None)
    assert state.failing_since_s == 0.0


@given(st.integers(0, 10**9), st.floats(0, 1e6), st.none() | st.floats(0, 1e9))
def test_a_pause_lies_between_the_first_and_the_longest(
    failures: int, now_s: float, retry_after_s: float | None
) -> None:
    state = after_failure(RetryState(failures=failures), POLICY, now_s, retry_after_s)
    assert now_s + 1.0 <= state.next_attempt_s <= now_s + 120.0


DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # 1_700_000_000


def test_retry_after_in_seconds() -> None:
    assert parse_retry_after("120", None, 0.0) == 120.0
    assert parse_retry_after(" 0 ", None, 0.0) == 0.0
    assert (parse_retry_after("9" * 5000, None, 0.0) or 0) > limits.RETRY_AFTER_S_MAX


def test_retry_after_as_a_date_is_relative_to_the_answers_own_date() -> None:
    assert parse_retry_after("Tue, 14 Nov 2023 22:14:00 GMT", DATE, 0.0) == 40.0


def test_retry_after_as_a_date_is_relative_to_our_clock_without_a_usable_date() -> None:
    until = "Tue, 14 Nov 2023 22:14:00 GMT"
    assert parse_retry_after(until, None, 1_700_000_030.0) == 10.0
    assert parse_retry_after(until, "yesterday", 1_700_000_030.0) == 10.0


def test_a_date_in_the_past_is_zero() -> None:
    assert parse_retry_after(DATE, None, 1_800_000_000.0) == 0.0


def test_the_obsolete_date_forms_are_read() -> None:
    assert parse_retry_after("Tuesday, 14-Nov-23 22:13:50 GMT", DATE, 0.0) == 30.0
    assert parse_retry_after("Tue Nov 14 22:13:50 2023", DATE, 0.0) == 30.0


def test_what_is_neither_says_nothing() -> None:
    for text in ("", "soon", "-5", "1.5", "1e3", "\u0661\u0662", "Tue, 99 Nov 2023 99:99:99 GMT", "0x10"):
        assert parse_retry_after(text, None, 0.0) is None, text


@given(st.text(max_size=60), st.none() | st.text(max_size=60))
def test_any_text_is_read_without_an_exception(value: str, date: str | None) -> None:
    found = parse_retry_after(value, date, 1_700_000_000.0)
    assert found is None or found >= 0.0


def test_a_refused_size_is_halved() -> None:
    assert after_refused_size(BatchSize(limit_bytes=8 * MIB), 8 * MIB).limit_bytes == 4 * MIB


def test_half_of_what_was_sent_counts_where_that_is_less_than_the_limit() -> None:
    assert after_refused_size(BatchSize(limit_bytes=8 * MIB), 300_000).limit_bytes == 150_000


def test_a_size_never_falls_below_its_floor() -> None:
    size = BatchSize(limit_bytes=8 * MIB)
    for _ in range(20):
        size = after_refused_size(size, size.limit_bytes)
    assert size.limit_bytes == size.ceiling_bytes == FLOOR


def test_a_limit_below_the_floor_stays_what_it_is() -> None:
    size = after_refused_size(BatchSize(limit_bytes=10_000), 10_000)
    assert size == BatchSize(limit_bytes=10_000, ceiling_bytes=10_000)


def test_a_large_record_sent_alone_does_not_raise_the_limit() -> None:
    size = after_refused_size(BatchSize(limit_bytes=100_000), 900_000)
    assert size.limit_bytes <= 100_000
    assert size.ceiling_bytes == 100_000


def test_success_changes_nothing_for_a_receiver_that_never_refused() -> None:
    size = BatchSize(limit_bytes=8 * MIB)
    assert after_success(size) is size


def test_success_grows_back_slowly_and_stays_below_the_size_refused() -> None:
    size = after_refused_size(BatchSize(limit_bytes=8 * MIB), 8 * MIB)
    grown = after_success(size)
    assert grown.limit_bytes == 4 * MIB + 4 * MIB // 16
    for _ in range(100):
        grown = after_success(grown)
    assert grown.limit_bytes == grown.ceiling_bytes == 8 * MIB - 8 * MIB // 16


@given(st.integers(FLOOR + 1, 8 * MIB))
def test_a_receiver_with_a_fixed_bound_refuses_few_batches_and_then_none(bound_bytes: int) -> None:
    size, refusals, refused_late = BatchSize(limit_bytes=8 * MIB), 0, 0
    for turn in range(400):
        if size.limit_bytes > bound_bytes:
            size = after_refused_size(size, size.limit_bytes)
            refusals += 1
            refused_late += turn > 200
        else:
            size = after_success(size)
    assert refused_late == 0
    assert refusals <= 20
    assert size.limit_bytes > bound_bytes * 3 // 4


@given(
    st.integers(1, 16 * MIB),
    st.lists(st.none() | st.integers(1, 16 * MIB), max_size=50),
)
def test_the_limit_never_exceeds_where_it_began_nor_the_ceiling(
    start_bytes: int, steps: list[int | None]
) -> None:
    size = BatchSize(limit_bytes=start_bytes)
    for sent_bytes in steps:
        size = after_success(size) if sent_bytes is None else after_refused_size(size, sent_bytes)
        assert min(FLOOR, start_bytes) <= size.limit_bytes <= start_bytes
        assert size.ceiling_bytes is None or size.limit_bytes <= size.ceiling_bytes
