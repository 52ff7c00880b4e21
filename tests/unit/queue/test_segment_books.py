"""What is known of segments without reading them."""

from __future__ import annotations

from dispatcher.queue.segment_books import Contents, SegmentBooks


def test_a_segment_speaks_of_the_channels_of_its_groups_up_to_their_highest_seq() -> None:
    books = SegmentBooks()
    books.wrote(3, {1: 10, 2: 5})
    books.wrote(3, {1: 12})
    assert books.contents(3) == Contents({1: 12, 2: 5})


def test_of_a_segment_that_an_earlier_run_wrote_nothing_is_known() -> None:
    assert SegmentBooks().contents(3) is None


def test_records_that_were_moved_are_known_where_they_went() -> None:
    books = SegmentBooks()
    books.wrote(3, {1: 12, 2: 5})
    books.wrote(4, {})  # a group of moved records alone
    books.moved(3, 4)
    books.forget_segment(3)
    assert books.contents(4) == Contents({1: 12, 2: 5})


def test_a_segment_speaks_of_the_accounts_whose_answers_it_has_up_to_their_newest() -> None:
    books = SegmentBooks()
    books.wrote_answers(3, {7: 1_000, 8: 900})
    books.wrote_answers(3, {7: 1_100})
    books.wrote_answers(4, {7: 1_200})
    assert books.contents(3) == Contents({}, {7: 1_100, 8: 900})
    books.moved(3, 4)
    assert books.contents(4) == Contents({}, {7: 1_200, 8: 900})


def test_moved_records_add_to_what_a_segment_speaks_of() -> None:
    books = SegmentBooks()
    books.wrote(3, {1: 12, 2: 5})
    books.wrote(4, {1: 20, 3: 1})
    books.moved(3, 4)
    assert books.contents(4) == Contents({1: 20, 2: 5, 3: 1})


def test_nothing_is_known_of_a_segment_with_records_moved_out_of_an_unknown_one() -> None:
    books = SegmentBooks()
    books.moved(3, 4)
    books.wrote(4, {1: 20})
    assert books.contents(4) is None
    books.moved(4, 5)
    assert books.contents(5) is None
    books.forget_segment(4)
    books.wrote(4, {1: 20})
    assert books.contents(4) == Contents({1: 20})


def test_a_channels_state_is_sought_where_it_was_written_last_whatever_records_came_later() -> None:
    books = SegmentBooks()
    books.wrote(3, {3: 9})
    books.wrote_states(3, {1: 12, 2: 5})
    assert books.contents(3) == Contents({1: 12, 2: 5, 3: 9})
    books.moved(3, 4)
    books.wrote(4, {1: 13, 2: 6})
    assert sorted(books.stated_last_in(3)) == [1, 2]
    assert books.stated_last_in(4) == []
    books.wrote_states(4, {2: 6})
    assert books.stated_last_in(3) == [1]
    books.forget_channel(1)
    assert books.stated_last_in(3) == []
