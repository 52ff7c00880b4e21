"""The books must see what they are there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.delivery_books import DeliveryBooks
from support.kill_points import KILL_POINTS, STEPS


def event(number: int, ep: str = "d", uid: str | None = None) -> dict[str, Any]:
    return {"ep": ep, "path": f"/{number}", "uid": uid or f"{ep}-{number}"}


def deliver(books: DeliveryBooks, *numbers: int) -> None:
    books.begin_delivery()
    books.arrived([event(number) for number in numbers])


def test_what_nobody_can_know_to_be_settled_may_come_again() -> None:
    books = DeliveryBooks("a", unconfirmed_max=1)
    deliver(books, 1, 2)
    books.prove(books.proof())  # nothing: the delivery is still in flight
    books.begin_life()
    deliver(books, 1, 2, 3)
    assert books.numbers("d") == [1, 2, 3]
    assert books.duplicates == 2


def test_what_was_settled_when_a_post_was_answered_must_not_come_again() -> None:
    books = DeliveryBooks("a", unconfirmed_max=1)
    deliver(books, 1, 2)
    deliver(books, 3)
    books.prove(books.proof())
    books.begin_life()
    deliver(books, 3)
    books.begin_life()
    with pytest.raises(AssertionError, match="was settled"):
        deliver(books, 2)


def test_a_window_proves_what_is_older_than_the_window() -> None:
    books = DeliveryBooks("a", unconfirmed_max=3)
    for number in range(1, 6):
        deliver(books, number)
    assert books.proof() == {"d": 2}


def test_disorder_within_a_life_is_seen_and_over_a_life_is_not() -> None:
    books = DeliveryBooks("a", unconfirmed_max=8)
    deliver(books, 1, 2, 3)
    with pytest.raises(AssertionError, match="out of order"):
        deliver(books, 2)
    books.begin_life()
    deliver(books, 1, 2)


def test_a_uid_is_one_event_and_an_event_has_one_uid() -> None:
    books = DeliveryBooks("a", unconfirmed_max=8)
    deliver(books, 1)
    with pytest.raises(AssertionError, match="one uid for two events"):
        books.arrived([event(2, uid="d-1")])
    books.begin_life()
    books.begin_delivery()
    with pytest.raises(AssertionError, match="two uids for one event"):
        books.arrived([event(1, uid="other")])


def test_the_readme_names_every_kill_point() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    assert [step for step in STEPS if f"`{step}`" not in readme] == []
    assert len(set(KILL_POINTS)) == len(KILL_POINTS)
