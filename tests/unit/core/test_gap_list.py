"""The gaps of one channel, asked about every moment of their lives."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from dispatcher import limits
from dispatcher.core.gap_list import GapList, KnownGap, mark_of
from dispatcher.model import Gap, Position


def gap(first: int, last: int, count: int | None = None, reason: str = "overflow", **times: int) -> Gap:
    return Gap(
        behind_seq=first - 1,
        last_seq=last,
        count=last - first + 1 if count is None else count,
        reason=reason,
        **times,
    )


def rejected(behind: int, count: int = 1) -> Gap:
    return Gap(behind_seq=behind, last_seq=0, count=count, reason="rejected")


def mark(seq: int, is_behind_gap: bool = False) -> int:
    return mark_of(seq, Position(1, seq, is_behind_gap))


def spans(gaps: GapList) -> list[tuple[int, int, int]]:
    return [(one.gap.first_seq, one.gap.last_seq, one.gap.count) for one in gaps]


def test_what_is_dropped_on_and_on_is_one_gap() -> None:
    gaps = GapList()
    gaps.add(gap(1, 3, from_unix_ms=10, to_unix_ms=30))
    gaps.add(gap(4, 4, from_unix_ms=40, to_unix_ms=40))
    gaps.add(gap(5, 9, from_unix_ms=50, to_unix_ms=90))
    assert [one.gap for one in gaps] == [gap(1, 9, from_unix_ms=10, to_unix_ms=90)]


def test_gaps_of_other_reasons_or_with_records_between_stay_apart() -> None:
    gaps = GapList()
    gaps.add(gap(1, 3))
    gaps.add(gap(4, 5, reason="corrupt"))
    gaps.add(gap(6, 7))
    gaps.add(gap(9, 9))
    assert spans(gaps) == [(1, 3, 3), (4, 5, 2), (6, 7, 2), (9, 9, 1)]


def test_a_gap_between_two_others_joins_them() -> None:
    gaps = GapList()
    gaps.add(gap(7, 9))
    gaps.add(gap(1, 3))
    gaps.add(gap(4, 6))
    assert spans(gaps) == [(1, 9, 9)]


def test_gaps_that_overlap_add_their_counts() -> None:
    gaps = GapList()
    gaps.add(gap(3, 90, 2))
    gaps.add(gap(5, 91, 4))
    assert spans(gaps) == [(3, 91, 6)]


def test_refused_records_at_one_place_are_one_gap_between_two_seqs() -> None:
    gaps = GapList()
    gaps.add(rejected(5, 2))
    gaps.add(rejected(5, 3))
    gaps.add(rejected(6))
    assert [one.gap for one in gaps] == [rejected(5, 5), rejected(6)]
    assert [(one.gap.first_seq, one.gap.end_seq) for one in gaps] == [(6, 5), (7, 6)]


def test_a_gap_is_told_in_front_of_the_record_behind_it() -> None:
    gaps = GapList()
    gaps.add(gap(4, 6))
    gaps.add(gap(9, 9))
    first = gaps.telling(0, 1)
    assert (first.gaps, first.upto_seq) == ((), 3)
    gaps.told(first.gaps, mark(3))
    second = gaps.telling(mark(3), 7)
    assert (second.gaps, second.upto_seq) == ((gap(4, 6),), 8)
    gaps.told(second.gaps, mark(8))
    alone = gaps.telling(mark(8), 0)
    assert (alone.gaps, alone.upto_seq) == ((gap(9, 9),), None)
    gaps.told(alone.gaps, mark(9, is_behind_gap=True))
    assert gaps.telling(mark(9, is_behind_gap=True), 0).gaps == ()


def test_what_was_told_never_changes_and_is_told_again_until_it_is_settled() -> None:
    gaps = GapList()
    gaps.add(gap(1, 3))
    told = gaps.telling(0, 4).gaps
    gaps.told(told, mark(9))
    gaps.add(gap(10, 12))
    gaps.release(0)
    gaps.add(gap(4, 4))  # the record behind it goes too, and it stays as it was
    again = gaps.telling(0, 5).gaps
    assert again == (gap(1, 3), gap(4, 4))
    assert again[0] is told[0]
    assert not gaps.settle(mark(3))
    gaps.told(again, mark(9))
    assert not gaps.settle(mark(8))
    assert gaps.settle(mark(9))
    assert spans(gaps) == [(10, 12, 3)]


def test_a_receiver_that_comes_and_goes_and_never_confirms_costs_no_more_memory() -> None:
    gaps = GapList()
    for number in range(1, 1_000):
        gaps.add(gap(number, number))
        gaps.told(gaps.telling(0, number + 1).gaps, mark(number + 1))
        gaps.release(0)
    assert len(gaps) == limits.GAPS_PER_CHANNEL_MAX
    assert sum(one.gap.count for one in gaps) == 999


def test_a_gap_alone_behind_refused_records_is_not_settled_by_what_came_before_them() -> None:
    gaps = GapList()
    gaps.add(rejected(5))
    alone = gaps.telling(mark(5), 0)
    assert alone.gaps == (rejected(5),)
    gaps.told(alone.gaps, mark(5, is_behind_gap=True))
    assert not gaps.settle(mark(5))
    assert gaps.settle(mark(5, is_behind_gap=True))


def test_records_that_expired_in_flight_and_turn_out_to_have_arrived_are_no_gap() -> None:
    gaps = GapList()
    gaps.told((), mark(10))
    gaps.add(gap(1, 10, reason="expired"))
    gaps.add(gap(11, 12, reason="expired"))
    assert spans(gaps) == [(1, 10, 10), (11, 12, 2)]
    assert gaps.telling(mark(10), 13).gaps == (gap(11, 12, reason="expired"),)
    gaps.settle(mark(10))
    assert spans(gaps) == [(11, 12, 2)]


def test_records_that_expired_in_flight_and_never_arrived_are_told() -> None:
    gaps = GapList()
    gaps.told((), mark(10))
    gaps.add(gap(1, 10, reason="expired"))
    gaps.release(0)
    assert gaps.telling(0, 11).gaps == (gap(1, 10, reason="expired"),)


def test_what_an_earlier_run_told_is_told_again_as_it_was() -> None:
    gaps = GapList([KnownGap(gap(1, 3), is_told=True), KnownGap(gap(9, 9), is_told=False)])
    gaps.add(gap(4, 5))
    assert spans(gaps) == [(1, 3, 3), (4, 5, 2), (9, 9, 1)]
    assert not gaps.settle(mark(3))
    assert gaps.told_in_front_of(6) == (gap(1, 3),)
    assert [(one.gap.first_seq, one.is_told) for one in gaps] == [(1, True), (4, False), (9, False)]


def test_over_the_bound_the_closest_of_one_reason_become_one() -> None:
    gaps = GapList()
    for number in range(limits.GAPS_PER_CHANNEL_MAX - 1):
        gaps.add(gap(10 * number + 1, 10 * number + 1))
    gaps.add(gap(10_001, 10_001))
    gaps.add(gap(10_003, 10_003))
    assert len(gaps) == limits.GAPS_PER_CHANNEL_MAX
    assert spans(gaps)[-1] == (10_001, 10_003, 2)


steps = st.lists(
    st.tuples(
        st.sampled_from(("lose", "lose", "refuse", "slice", "slice", "settle", "release")),
        st.integers(0, 30),
        st.sampled_from(("overflow", "expired", "corrupt")),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=300, deadline=None)
def test_every_loss_is_told_exactly_once_to_a_receiver_that_confirms(
    steps: list[tuple[str, int, str]],
) -> None:
    """Against a receiver that keeps what it was told, and forgets what it is told twice."""
    gaps = GapList()
    last_seq = 0
    lost = 0
    told: dict[tuple[int, int, str], int] = {}  # by place, so that telling again changes nothing
    sent: list[int] = []  # marks, not confirmed
    after = 0
    for what, number, reason in steps:
        match what:
            case "lose":
                gaps.add(gap(last_seq + 1, last_seq + 1 + number, reason=reason))
                last_seq += 1 + number
                lost += number + 1
            case "refuse":
                gaps.add(rejected(last_seq, number + 1))
                lost += number + 1
            case "slice":
                last_seq += 1  # a record comes, and is sliced with all that stands before it
                telling = gaps.telling(after, last_seq)
                for one in telling.gaps:
                    key = (one.behind_seq, one.last_seq, one.reason)
                    assert told.setdefault(key, one.count) == one.count
                after = 2 * last_seq
                gaps.told(telling.gaps, after)
                sent.append(after)
            case "settle" if sent:
                gaps.settle(sent.pop(0))
            case "release":
                sent.clear()
                after = 0
                gaps.release(0)
        assert len(gaps) <= limits.GAPS_PER_CHANNEL_MAX
    last = gaps.telling(after, 0)
    for one in last.gaps:
        told[one.behind_seq, one.last_seq, one.reason] = one.count
    assert sum(told.values()) == lost
    gaps.told(last.gaps, 2 * last_seq + 1)
    gaps.settle(2 * last_seq + 1)
    assert len(gaps) == 0
