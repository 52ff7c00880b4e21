"""Pages of a list that changes meanwhile."""

from __future__ import annotations

import pytest

from dispatcher.core.paging import page, parse_cursor


def placed(*ranks: int) -> list[tuple[tuple[int, int], str]]:
    return [((rank, id_), f"{rank}/{id_}") for id_, rank in enumerate(ranks, 1)]


def test_pages_show_everything_once_in_order() -> None:
    items = placed(5, -3, 5, 0, 5, -3, 9)
    shown: list[str] = []
    after = None
    for _ in range(4):
        found, cursor = page(items, after, 2)
        shown += found
        if cursor is None:
            break
        after = parse_cursor(cursor)
        assert after is not None
    assert shown == ["-3/2", "-3/6", "0/4", "5/1", "5/3", "5/5", "9/7"]
    assert cursor is None


def test_a_page_that_holds_all_has_no_successor() -> None:
    assert page(placed(1, 2), None, 2) == (["1/1", "2/2"], None)
    assert page(placed(), None, 2) == ([], None)


def test_what_was_deleted_meanwhile_does_not_stop_the_next_page() -> None:
    _, cursor = page(placed(1, 2, 3), None, 2)
    assert cursor is not None
    assert page(placed(1, 2, 3)[2:], parse_cursor(cursor), 2) == (["3/3"], None)


@pytest.mark.parametrize(
    "text", ["", ".", "1", "1.", "a.1", "1.-1", "1.1.1", "9" * 19 + ".1", "1.\u0661", " 1.1"]
)
def test_what_is_no_cursor_of_ours_is_none(text: str) -> None:
    assert parse_cursor(text) is None
