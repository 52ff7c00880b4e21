"""How an event that its receiver refuses is found, and when it may be set aside."""

from __future__ import annotations

import pytest

from dispatcher import limits
from dispatcher.core.refusals import Search, after_refusal, after_taken, is_refusal
from dispatcher.model import Position


@pytest.mark.parametrize("status", [400, 422])
def test_these_answers_refuse_the_events(status: int) -> None:
    assert is_refusal(status)


@pytest.mark.parametrize("status", [None, 200, 401, 403, 404, 408, 409, 410, 413, 429, 500, 503])
def test_no_other_answer_does(status: int | None) -> None:
    assert not is_refusal(status)


@pytest.mark.parametrize("events", [1, 2, 3, 7, 100, 10_000])
def test_each_event_is_found_in_few_batches(events: int) -> None:
    for refused in {0, 1, events // 2, events - 1} & set(range(events)):
        search, sent, batches = Search(), 0, 0
        while not search.may_park:
            size = min(search.bound(events), events - sent)
            batches += 1
            if sent <= refused < sent + size:
                search = after_refusal(search, Position(1, sent + size), size)
            else:
                sent += size
                search = after_taken(search, events)
        assert sent == refused, "everything before it was taken, and it is alone"
        assert batches <= events.bit_length() ** 2 + limits.REFUSALS_BEFORE_PARKING


def test_an_event_is_parked_only_when_it_is_refused_again() -> None:
    search = after_refusal(Search(), Position(1, 1), 1)
    assert not search.may_park
    assert after_refusal(search, Position(1, 1), 1).may_park


def test_refusals_of_different_events_do_not_add_up() -> None:
    search = after_refusal(Search(), Position(1, 1), 1)
    assert not after_refusal(search, Position(1, 2), 1).may_park
    assert not after_refusal(after_taken(search, 8), Position(1, 1), 1).may_park


def test_what_is_taken_lets_batches_grow_until_nothing_bounds_them() -> None:
    search = Search(events_max=1)
    sizes = []
    for _ in range(4):
        sizes.append(search.bound(8))
        search = after_taken(search, 8)
    assert sizes == [1, 2, 4, 8]
    assert search == Search()
