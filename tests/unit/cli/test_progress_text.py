"""What the line on long work says, and what it leaves out where there is little room."""

from __future__ import annotations

import pytest

from dispatcher.cli.progress_text import progress_text

MB = 1_000_000


def test_it_says_how_far_it_is_how_fast_and_how_long_it_will_take() -> None:
    text = progress_text("copying", 10.0, 250 * MB, 1000 * MB, 100)
    assert text == f"copying  [{'#' * 10}{'.' * 30}]   25%  250 MB of 1.0 GB  25 MB/s  30s left"


def test_without_a_whole_it_promises_nothing() -> None:
    text = progress_text("publishing", 4.2, 12 * MB, None, 100)
    assert text == "publishing  12 MB  5s  2.9 MB/s"
    assert progress_text("looking", 61.0, 0, None, 100) == "looking  1m 1s"


def test_more_than_the_whole_is_not_over_a_hundred_percent() -> None:
    assert progress_text("checking", 10.0, 30 * MB, 20 * MB, 100) == "checking  30 MB  10s  3.0 MB/s"


@pytest.mark.parametrize(("done", "whole"), [(0, 0), (0, 10), (10, 10)])
def test_the_ends_are_told_too(done: int, whole: int) -> None:
    assert f"{100 if done == whole else 0}%" in progress_text("copying", 0.0, done, whole, 80)


@pytest.mark.parametrize(
    ("width", "kept", "left_out"),
    [
        (60, ["left", "250 MB of 1.0 GB"], ["MB/s"]),
        (45, ["left", "["], ["250 MB"]),
        (35, ["25%", "["], ["left"]),
        (20, ["copying  25%"], ["["]),
        (8, ["copying"], ["%"]),
        (4, ["copy"], ["copyi"]),
    ],
)
def test_what_finds_no_room_is_left_out(width: int, kept: list[str], left_out: list[str]) -> None:
    text = progress_text("copying", 10.0, 250 * MB, 1000 * MB, width)
    assert [part for part in kept if part not in text] == []
    assert [part for part in left_out if part in text] == []


@pytest.mark.parametrize("whole", [None, 3 * 10**12, 5])
def test_it_is_never_wider_than_the_terminal(whole: int | None) -> None:
    for width in range(-1, 200):
        text = progress_text("checking the journal", 3.0, 10**12, whole, width)
        assert len(text) <= max(0, width)
        assert text.isascii()
