"""What is known of segments without reading them."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.queue.segment_books import Contents, SegmentBooks


class Channel:
    stated_in: int | None = None


class House:
    """Books, and the channels that they are about."""

    def __init__(self, earlier: Contents | None = None, recovered: Iterable[int] = ()) -> None:
        self.channels = {number: Channel() for number in recovered}
        self.books = SegmentBooks(earlier or Contents(), self.channels)

    def wrote_states(self, segment: int, last_seqs: dict[int, int]) -> None:
        """How channels stand, some of which may be new."""
        for number in last_seqs:
            self.channels.setdefault(number, Channel())
        self.books.wrote_states(segment, last_seqs)

    def delete(self, number: int) -> None:
        self.books.forget_channel(self.channels.pop(number))

    def stated_last_in(self, segment: int) -> list[int]:
        return sorted(self.books.stated_last_in(segment))


def test_a_segment_speaks_of_the_channels_of_its_groups_up_to_their_highest_seq() -> None:
    books = House().books
    books.wrote(3, {1: 10, 2: 5})
    books.wrote(3, {1: 12})
    assert books.contents(3) == Contents({1: 12, 2: 5})


def test_a_segment_of_an_earlier_run_may_hold_all_that_was_there_when_this_one_began() -> None:
    earlier = Contents({1: 7}, {9: 1_000})
    books = House(earlier).books
    books.wrote(4, {1: 9})
    assert books.contents(3) == earlier
    assert books.contents(4) == Contents({1: 9})


def test_records_that_were_moved_are_known_where_they_went() -> None:
    books = House().books
    books.wrote(3, {1: 12, 2: 5})
    books.wrote(4, {})  # a group of moved records alone
    books.moved(3, 4)
    books.forget_segment(3)
    assert books.contents(4) == Contents({1: 12, 2: 5})


def test_a_segment_speaks_of_the_accounts_whose_answers_it_has_up_to_their_newest() -> None:
    books = House().books
    books.wrote_answers(3, {7: 1_000, 8: 900})
    books.wrote_answers(3, {7: 1_100})
    books.wrote_answers(4, {7: 1_200})
    assert books.contents(3) == Contents({}, {7: 1_100, 8: 900})
    books.moved(3, 4)
    assert books.contents(4) == Contents({}, {7: 1_200, 8: 900})


def test_moved_records_add_to_what_a_segment_speaks_of() -> None:
    books = House().books
    books.wrote(3, {1: 12, 2: 5})
    books.wrote(4, {1: 20, 3: 1})
    books.moved(3, 4)
    assert books.contents(4) == Contents({1: 20, 2: 5, 3: 1})


def test_what_was_moved_out_of_an_earlier_runs_segment_may_be_any_that_was_there() -> None:
    books = House(Contents({1: 7, 2: 3}, {9: 1_000})).books
    books.moved(3, 4)
    books.wrote(4, {1: 20})
    assert books.contents(4) == Contents({1: 20, 2: 3}, {9: 1_000})


def test_a_channels_state_is_sought_where_it_was_written_last_whatever_records_came_later() -> None:
    house = House()
    house.books.wrote(3, {3: 9})
    house.wrote_states(3, {1: 12, 2: 5})
    assert house.books.contents(3) == Contents({1: 12, 2: 5, 3: 9})
    house.books.moved(3, 4)
    house.books.wrote(4, {1: 13, 2: 6})
    assert house.stated_last_in(3) == [1, 2]
    assert house.stated_last_in(4) == []
    house.wrote_states(4, {2: 6})
    assert house.stated_last_in(3) == [1]
    house.delete(1)
    assert house.stated_last_in(3) == []


def test_a_segment_that_was_emptied_still_keeps_the_states_that_stand_nowhere_else() -> None:
    house = House()
    house.wrote_states(3, {1: 12, 2: 5})
    house.wrote_states(4, {1: 12})
    house.books.emptied(3)
    assert house.books.contents(3) == Contents()
    assert house.stated_last_in(3) == [2]


def test_a_channel_of_an_earlier_run_stands_in_its_segments_until_this_one_says_how() -> None:
    house = House(Contents({1: 7}), recovered=[1, 2])
    house.wrote_states(4, {1: 7})
    assert house.stated_last_in(3) == [2]
    house.books.emptied(3)
    assert house.stated_last_in(3) == [2]
    house.wrote_states(4, {2: 0})
    assert house.stated_last_in(3) == []
    house.books.forget_segment(3)
    assert house.stated_last_in(4) == [1, 2]


def test_a_channel_that_holds_nothing_needs_its_state_and_no_record() -> None:
    house = House()
    house.wrote_states(3, {1: 0, 2: 5})
    assert house.books.contents(3) == Contents({2: 5})
    assert house.stated_last_in(3) == [1, 2]


def test_a_channel_that_was_deleted_before_its_state_was_durable_is_stated_nowhere() -> None:
    house = House(recovered=[1, 2])
    house.delete(1)
    house.books.wrote_states(3, {1: 4, 2: 0})
    assert house.stated_last_in(2) == []
    assert house.stated_last_in(3) == [2]


@given(
    st.lists(st.tuples(st.sampled_from(["state", "delete"]), st.integers(1, 4), st.sets(st.integers(1, 6)))),
    st.sets(st.integers(1, 6)),
)
def test_states_are_sought_exactly_where_they_were_written_last(
    steps: list[tuple[str, int, set[int]]], earlier: set[int]
) -> None:
    house, newest = House(recovered=earlier), dict.fromkeys(earlier, 0)
    for what, segment, channels in steps:
        if what == "state":
            house.wrote_states(segment, dict.fromkeys(channels, 1))
            newest.update(dict.fromkeys(channels, segment))
        else:
            for channel in channels & house.channels.keys():
                house.delete(channel)
                del newest[channel]
    for segment in range(1, 5):
        expected = sorted(channel for channel, place in newest.items() if place in (0, segment))
        assert house.stated_last_in(segment) == expected
