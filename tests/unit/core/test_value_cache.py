"""Which values may be read again, and for how long."""

from __future__ import annotations

import pytest

from dispatcher import limits
from dispatcher.core.value_cache import ValueCache, lifetime_s

R, DAY_S = ("d", "/1"), 86_400


def cache_of(max_age_s: int | None = 60, payload: bytes = b"v") -> ValueCache:
    cache = ValueCache()
    cache.put(1, R, payload, "t", max_age_s, 0)
    return cache


@pytest.mark.parametrize(
    ("max_age_s", "kept_s"), [(None, 60), (0, 0), (1, 1), (3 * DAY_S, 3 * DAY_S), (4 * DAY_S, 3 * DAY_S)]
)
def test_a_value_is_kept_as_long_as_the_device_says_up_to_three_days(
    max_age_s: int | None, kept_s: float
) -> None:
    assert lifetime_s(max_age_s) == kept_s
    cache = cache_of(max_age_s)
    assert (cache.read(1, R, kept_s * 1000 - 1) is not None) is (kept_s > 0)
    assert cache.read(1, R, kept_s * 1000) is None


def test_a_newer_value_takes_the_place_of_an_older_one_also_when_it_may_not_be_kept() -> None:
    cache = cache_of()
    cache.put(1, R, b"w", "t", 60, 1)
    value = cache.read(1, R, 2)
    assert value is not None
    assert value.payload == b"w"
    cache.put(1, R, b"x", "t", 0, 3)
    assert cache.read(1, R, 4) is None


def test_another_account_s_resource_is_another_one() -> None:
    assert cache_of().read(2, R, 1) is None


def test_a_device_s_values_go_together() -> None:
    cache = cache_of()
    cache.put(1, ("d", "/2"), b"", "", 60, 0)
    cache.put(1, ("e", "/1"), b"", "", 60, 0)
    cache.put(2, R, b"", "", 60, 0)
    cache.remove_device(1, "d")
    cache.remove_device(3, "d")
    assert [cache.read(1, key, 1) is None for key in (R, ("d", "/2"), ("e", "/1"))] == [True, True, False]
    assert cache.read(2, R, 1) is not None


def test_an_account_has_so_many_bytes_and_what_was_written_first_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "VALUES_BYTES_PER_ACCOUNT_MAX", 3 * (limits.VALUE_OVERHEAD_BYTES + 104))
    cache = ValueCache()
    for number in [0, 1, 2, 0, 3]:
        cache.put(1, ("d", f"/{number}"), bytes(100), "t", 60, 0)
    keys = [("d", f"/{number}") for number in range(4)]
    assert [cache.read(1, key, 1) is None for key in keys] == [False, True, False, False]
    cache.put(1, R, bytes(10_000), "", 60, 0)  # larger than all: nothing is left, and nothing breaks
    assert [cache.read(1, key, 1) for key in keys] == [None] * 4


def test_an_account_that_reads_nothing_is_left_alone_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VALUES_UNREAD_EVENTS_MAX", 10)
    cache = ValueCache()
    assert not cache.wants(1, 100, has_lasting=False)  # nothing to keep, nothing kept: not looked at
    assert cache.wants(1, 10, has_lasting=True)
    cache.put(1, R, b"v", "t", 60, 0)
    assert cache.wants(2, 1, has_lasting=True)
    assert not cache.wants(1, 1, has_lasting=True)
    cache.put(1, R, b"w", "t", 60, 0)
    assert cache.read(1, R, 1) is None  # never an old one
    assert cache.wants(1, 10, has_lasting=True)
    cache.put(1, R, b"x", "t", 60, 0)
    assert cache.read(1, R, 1) is not None
    assert cache.wants(1, 10, has_lasting=False)  # there are values that newer events may replace
