"""The checker of ``demo`` must be able to fail: every fault it knows is planted here once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dispatcher import limits
from dispatcher.cli.demo_ledger import Arrival, Fault, Ledger, Verdict

RESTART = (-1, -1)
Events = Iterable[tuple[int, int]]


def uid_of(device: int, counter: int) -> str:
    return f"uid-{device}-{counter}"


def books(events: Events, *, devices: int = 2) -> Ledger:
    """A ledger that took these (device, counter) in this order."""
    ledger = Ledger(devices)
    for device, counter in events:
        if (device, counter) == RESTART:
            ledger.restarted()
        else:
            ledger.take(device, counter, uid_of(device, counter))
    return ledger


def verdict(events: Events, *expected: int) -> Verdict:
    return books(events, devices=len(expected)).verdict(expected.__getitem__)


def test_everything_once_and_in_order_is_proven() -> None:
    found = verdict([(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)], 3, 2)
    assert found.is_proven
    assert (found.expected, found.received, found.missing) == (5, 5, 0)


def test_devices_may_come_in_any_order_among_each_other() -> None:
    assert verdict([(1, 0), (1, 1), (0, 0)], 1, 2).is_proven


def test_a_lost_event_at_the_end_is_missing_and_named() -> None:
    found = verdict([(0, 0), (0, 1), (1, 0)], 3, 1)
    assert found.missing == 1
    assert found.first_fault == Fault("missing", 0, 2)


def test_a_lost_event_in_the_middle_is_missing_and_named() -> None:
    found = verdict([(0, 0), (0, 2), (0, 3)], 4)
    assert (found.missing, found.received, found.out_of_order) == (1, 3, 1)
    assert found.first_fault == Fault("missing", 0, 1)


def test_a_device_of_which_nothing_came_is_missing_whole() -> None:
    found = verdict([(0, 0)], 1, 2)
    assert found.missing == 2
    assert found.first_fault == Fault("missing", 1, 0)


def test_two_events_that_changed_places_are_out_of_order() -> None:
    found = verdict([(0, 0), (0, 2), (0, 1), (0, 3)], 4)
    assert found.missing == 0
    assert found.out_of_order > 0
    assert found.first_fault == Fault("out of order", 0, 2)


def test_redelivery_after_a_restart_goes_back_once_and_is_counted() -> None:
    found = verdict([(0, 0), (0, 1), (0, 2), RESTART, (0, 1), (0, 2), (0, 3)], 4)
    assert found.is_proven
    assert (found.received, found.redelivered) == (4, 2)


def test_each_restart_allows_another_redelivery() -> None:
    again = [RESTART, (0, 0), (0, 1)]
    found = verdict([(0, 0), (0, 1), *again, *again, *again], 2)
    assert found.is_proven
    assert found.redelivered == 6


def test_a_restart_without_redelivery_is_fine_too() -> None:
    assert verdict([(0, 0), RESTART, (0, 1), RESTART, (0, 2)], 3).is_proven


def test_an_event_that_comes_twice_without_a_restart_is_a_fault() -> None:
    found = verdict([(0, 0), (0, 1), (0, 1)], 2)
    assert found.repeated == 1
    assert found.first_fault == Fault("repeated", 0, 1)


def test_going_back_twice_after_one_restart_is_a_fault() -> None:
    found = verdict([(0, 0), (0, 1), RESTART, (0, 0), (0, 0), (0, 1)], 2)
    assert found.first_fault == Fault("repeated", 0, 0)


def test_a_redelivery_that_skips_is_out_of_order() -> None:
    found = verdict([(0, 0), (0, 1), (0, 2), RESTART, (0, 0), (0, 2)], 3)
    assert found.first_fault == Fault("out of order", 0, 2)


def test_a_redelivery_backwards_is_a_fault() -> None:
    found = verdict([(0, 0), (0, 1), (0, 2), RESTART, (0, 2), (0, 1), (0, 0)], 3)
    assert not found.is_proven


def test_a_redelivery_under_another_uid_is_a_fault() -> None:
    ledger = books([(0, 0), (0, 1), RESTART], devices=1)
    assert ledger.take(0, 1, "another") is Arrival.UID_CHANGED
    found = ledger.verdict(lambda device: 2)
    assert found.uid_faults == 1
    assert found.first_fault == Fault("came again with another uid", 0, 1)


def test_two_events_with_one_uid_are_a_fault_because_one_would_be_taken_for_the_other() -> None:
    ledger = Ledger(2)
    ledger.take(0, 0, "same")
    ledger.take(1, 0, "same")
    found = ledger.verdict(lambda device: 1)
    assert (found.missing, found.uid_faults) == (0, 1)
    assert found.first_fault == Fault("has the uid of another event", 1, 0)


@pytest.mark.parametrize(("device", "counter"), [(-1, 0), (2, 0), (0, -1), (0, limits.DEMO_EVENTS_MAX + 1)])
def test_an_event_of_nobody_is_unknown(device: int, counter: int) -> None:
    ledger = books([(0, 0), (1, 0)])
    assert ledger.take(device, counter, "uid") is Arrival.UNKNOWN
    found = ledger.verdict(lambda device: 1)
    assert found.unknown == 1
    assert not found.is_proven


def test_an_event_that_was_never_posted_is_unknown() -> None:
    found = verdict([(0, 0), (0, 1)], 1)
    assert found.unknown == 1
    assert not found.is_proven


def test_nothing_at_all_is_not_proof() -> None:
    assert not verdict([], 1).is_proven
