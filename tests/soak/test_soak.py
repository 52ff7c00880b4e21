"""The soak in short: seconds, not half an hour; and that its verdict sees what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from soak.books import Books
from soak.gauges import Sample, troubles
from soak.stage import CALLBACKS, soak

FLAT = [
    Sample(at_s=float(at), memory_bytes=60 << 20, queue_bytes=0, files=40, threads=5, disk_bytes=0, balance=0)
    for at in range(30)
]


@pytest.mark.slow
async def test_some_seconds_of_mixed_load_leave_nothing_behind(tmp_path: Path) -> None:
    report = await soak(tmp_path, seconds=6, rate=1_000, samples=4, calm_s=1, tell=lambda _: None)
    assert report.troubles == ["4 samples say nothing about growth; let it run longer"]
    assert report.files_left <= CALLBACKS, "more than the connections that callbacks keep alive for a minute"
    assert report.posted > 2_000
    assert set(report.arrived.values()) == {report.posted}
    assert report.again["socket"] == report.again["callback"] == 0


def test_what_is_flat_is_no_trouble() -> None:
    assert troubles(FLAT) == []


def test_a_leak_of_memory_is_seen() -> None:
    leaking = [replace(one, memory_bytes=one.memory_bytes + (at << 19)) for at, one in enumerate(FLAT)]
    assert ["own_bytes grew" in one for one in troubles(leaking)] == [True]


def test_queues_that_do_not_give_memory_back_are_seen() -> None:
    keeping = [
        replace(one, memory_bytes=one.memory_bytes + (at << 20), queue_bytes=at << 20)
        for at, one in enumerate(FLAT)
    ]
    assert ["queue_bytes grew" in one for one in troubles(keeping)] == [True]


def test_a_slab_more_for_the_queues_is_none() -> None:
    fuller = [
        replace(one, memory_bytes=one.memory_bytes + more, queue_bytes=more)
        for at, one in enumerate(FLAT)
        for more in ((2 << 20) * (1 + at // 10),)
    ]
    assert troubles(fuller) == []


def test_growth_while_warming_up_is_none() -> None:
    warming = [
        replace(one, memory_bytes=one.memory_bytes - (max(0, 9 - at) << 20)) for at, one in enumerate(FLAT)
    ]
    assert troubles(warming) == []


def test_descriptors_and_threads_that_pile_up_are_seen() -> None:
    piling = [replace(one, files=one.files + at, threads=one.threads + at) for at, one in enumerate(FLAT)]
    assert [one.split()[0] for one in troubles(piling)] == ["files", "threads"]


def test_books_that_do_not_balance_are_seen() -> None:
    assert troubles([*FLAT[:-1], replace(FLAT[-1], balance=3)]) == [
        "after 29 s the books are off by 3 records"
    ]


def test_an_event_that_is_missing_or_comes_too_early_is_seen() -> None:
    books = Books("app")
    books.arrived({"notifications": [{"ep": "a", "max-age": 1}, {"ep": "a", "max-age": 2}]})
    books.arrived({"notifications": [{"ep": "a", "max-age": 2}]})
    assert (books.events, books.again) == (2, 1)
    with pytest.raises(AssertionError, match="a 4 came after 2"):
        books.arrived({"notifications": [{"ep": "a", "max-age": 4}]})
