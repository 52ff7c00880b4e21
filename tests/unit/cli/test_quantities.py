"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import pytest

from dispatcher.cli.quantities import bytes_text, moment_text, seconds_text, share_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (9_949, "9.9 kB"), (9_960, "10 kB"),
        (999_600, "1.0 MB"), (50_000_000, "50 MB"), (4 * 10**9, "4.0 GB"), (2 * 10**15, "2000 TB"),
    ],
)  # fmt: skip
def test_a_size_has_three_digits_and_a_unit(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0, "0s"), (0.0304, "30ms"), (1.55, "1.6s"), (9.94, "9.9s"), (10.4, "10s"), (59.4, "59s"),
        (59.6, "1m"), (61, "1m 1s"), (3_600, "1h"), (3_661, "1h 1m"), (90_000, "1d 1h"), (172_800, "2d"),
    ],
)  # fmt: skip
def test_a_time_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_moment_is_in_utc_to_the_millisecond() -> None:
    assert moment_text(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"


def test_a_share_of_nothing_is_not_said() -> None:
    assert (share_text(1, 8), share_text(0, 0)) == ("12%", "")
