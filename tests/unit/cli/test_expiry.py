from __future__ import annotations

import pytest

from dispatcher.cli.expiry import UNIX_MS_MAX, expiry_text, parse_expiry

NOW_UNIX_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ("1s", 1),
        ("90m", 5_400),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2023-11-14T22:13:21Z", 1),
        ("2023-11-14t22:13:21z", 1),
        ("2023-11-14T23:13:21+01:00", 1),
        ("2023-11-14T22:13:20.500Z", 0.5),
    ],
)
def test_a_duration_or_a_time_is_a_moment(text: str, after_s: float) -> None:
    assert parse_expiry(text, NOW_UNIX_MS) == NOW_UNIX_MS + after_s * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "90 d",
        "-1d",
        "1.5d",
        "1w",
        "1D",
        "never",
        "999999999999d",  # after the year 9999
        "2030-01-31",
        "2030-01-31T00:00:00",  # whose midnight?
        "2030-02-30T00:00:00Z",
        "2030-01-31T00:00:00Z\n",
        "1700000001",
    ],
)
def test_what_is_neither_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="want a duration such as 90d or 12h, or a time such as"):
        parse_expiry(text, NOW_UNIX_MS)


@pytest.mark.parametrize("text", ["0s", "2023-11-14T22:13:20Z", "1969-12-31T23:59:59Z"])
def test_what_is_not_in_the_future_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not in the future"):
        parse_expiry(text, NOW_UNIX_MS)


def test_a_moment_is_shown_as_it_may_be_written() -> None:
    assert expiry_text(NOW_UNIX_MS + 999) == "2023-11-14T22:13:20Z"
    assert parse_expiry(expiry_text(UNIX_MS_MAX), NOW_UNIX_MS) == UNIX_MS_MAX
