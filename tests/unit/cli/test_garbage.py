"""The collector of a daemon: off while it opens, rare while it works, as before when it has ended."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dispatcher import limits
from dispatcher.cli.garbage import collect_rarely, opening


@pytest.fixture(autouse=True)
def nothing_stays_set_aside() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nothing_is_looked_for_while_a_daemon_opens() -> None:
    with opening():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_exists_when_it_is_ready_is_set_aside_and_the_rest_looked_over_rarely() -> None:
    with opening():
        collect_rarely()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000  # the modules alone
        assert gc.get_threshold() == limits.GARBAGE_THRESHOLDS


def test_cycles_that_are_made_afterwards_are_found() -> None:
    with opening():
        collect_rarely()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1


def test_a_daemon_that_fails_leaves_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    with suppress(OSError), opening():
        collect_rarely()
        raise OSError("no room")
    assert gc.isenabled()
    assert gc.get_threshold() == before
