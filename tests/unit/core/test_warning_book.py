"""What an operator is still to be told, in bounded memory."""

from __future__ import annotations

from dispatcher.core.warning_book import WarningBook


def test_what_happens_again_to_the_same_subject_is_one_entry_with_sums_and_the_newest_fields() -> None:
    book = WarningBook(10)
    assert book.note("filling", "7", {"channel": 7, "percent": 50}, 100)
    assert book.note("filling", "7", {"channel": 7, "percent": 90}, 200)
    assert book.note("lost", "7 overflow", {"count": 3, "last_seq": 9}, 300)
    assert book.note("lost", "7 overflow", {"count": 4, "last_seq": 19}, 400)
    assert book.note("lost", "8 overflow", {"count": 1, "last_seq": 2}, 500)
    (filling, lost, other), untold = book.take()
    assert (filling.times, filling.first_unix_ms, filling.last_unix_ms) == (2, 100, 200)
    assert filling.fields == {"channel": 7, "percent": 90}
    assert (lost.times, lost.fields) == (2, {"count": 7, "last_seq": 19})
    assert other.fields == {"count": 1, "last_seq": 2}
    assert untold == {}


def test_a_storm_is_a_bounded_part_and_a_number() -> None:
    book = WarningBook(3)
    kept = [book.note("filling", str(channel), {"channel": channel}, 0) for channel in range(10_000)]
    assert sum(kept) == len(book) == 3
    assert book.note("filling", "2", {"channel": 2}, 1)  # it has its place already
    assert not book.note("ending", "1", {}, 1)
    entries, untold = book.take()
    assert [entry.fields["channel"] for entry in entries] == [0, 1, 2]
    assert untold == {"filling": 9_997, "ending": 1}
    assert book.take() == ([], {})


def test_what_was_noted_is_not_changed_by_who_noted_it() -> None:
    book, fields = WarningBook(1), {"percent": 50}
    book.note("filling", "1", fields, 0)
    fields["percent"] = 0
    book.note("filling", "1", fields, 0)
    fields["percent"] = 1
    assert book.take()[0][0].fields == {"percent": 0}
