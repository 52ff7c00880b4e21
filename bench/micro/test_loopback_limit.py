"""What the machine itself can do: the limits beside which the topologies' rates are put.

Both push 150 MB, a million events, through loopback TCP to a process on another core.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.loopback import PUSH_BYTES, Loopback, open_loopback
from bench.process import SERVER_CORE, pinned

assert PUSH_BYTES == 150_000_000


@pytest.fixture(scope="module")
def loopback() -> Iterator[Loopback]:
    with open_loopback() as loopback, pinned(SERVER_CORE):
        yield loopback


def test_a_million_events_through_loopback(benchmark: BenchmarkFixture, loopback: Loopback) -> None:
    benchmark(loopback.push)


def test_a_million_events_through_loopback_by_trio(benchmark: BenchmarkFixture, loopback: Loopback) -> None:
    benchmark(loopback.push_with_trio)
