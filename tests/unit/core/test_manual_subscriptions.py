"""The table of manual subscriptions: exact, and shared between devices that are alike."""

from __future__ import annotations

import random

import pytest

from dispatcher import limits
from dispatcher.core.manual_subscriptions import ManualSubscriptions
from dispatcher.core.route_table import ROOT, RouteFinder, text_of
from dispatcher.model import Subscription


@pytest.fixture
def found(finder: RouteFinder) -> ManualSubscriptions:
    return ManualSubscriptions(finder.new_table())


def walked(found: ManualSubscriptions, ep: str, path: str) -> tuple[int, ...]:
    """What the edges of the table lead to."""
    device = found.table.get(ROOT, text_of(ep))
    return found.audience(found.table.get(device, text_of(path)) if device else 0)


def test_devices_that_are_alike_share_one_profile(found: ManualSubscriptions) -> None:
    for index in range(100):
        for path in ("/1", "/2"):
            found.add(Subscription(7, f"d{index}", path))
    assert len(found.table) == 100 + 2
    found.add(Subscription(8, "d5", "/1"))
    assert found.get("d5", "/1") == (7, 8)
    assert found.get("d6", "/1") == (7,)
    assert len(found.table) == 100 + 2 + 2
    found.remove(Subscription(8, "d5", "/1"))
    assert len(found.table) == 100 + 2


def test_nothing_is_kept_for_devices_without_subscriptions(found: ManualSubscriptions) -> None:
    for index in range(10):
        found.add(Subscription(7, f"d{index}", f"/{index}"))
    for index in range(5):
        found.remove(Subscription(7, f"d{index}", f"/{index}"))
        found.remove_device(f"d{5 + index}")
        found.remove_device("unknown")
    assert not found
    assert len(found.table) == 0
    assert (found._shared, found._audience_numbers) == ({}, {})


def test_numbers_are_given_again(found: ManualSubscriptions) -> None:
    for index in range(1000):
        found.add(Subscription(index, "d", f"/{index}"))
        found.remove(Subscription(index, "d", f"/{index}"))
    assert len(found._profiles._values) <= 3
    assert len(found._audiences._values) <= 3


def test_a_device_with_many_paths_is_changed_in_place(found: ManualSubscriptions) -> None:
    count = limits.SHARED_PROFILE_PATHS_MAX + 50
    for index in range(count):
        found.add(Subscription(7, "d", f"/{index}"))
    device = found.table.get(ROOT, b"d")
    found.add(Subscription(7, "d", "/more"))
    assert found.table.get(ROOT, b"d") == device
    assert found._shared == {}
    assert len(found.table) == 1 + count + 1
    for index in range(count):
        found.remove(Subscription(7, "d", f"/{index}"))
    assert dict(found.paths("d")) == {"/more": (7,)}
    found.remove(Subscription(7, "d", "/more"))
    assert len(found.table) == 0


def test_a_name_that_no_device_can_have_is_refused_and_changes_nothing(found: ManualSubscriptions) -> None:
    with pytest.raises(UnicodeEncodeError):
        found.add(Subscription(7, "\ud800", "/1"))
    assert not found
    assert len(found.table) == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shared_max", [0, 1, 2, 16])
def test_it_agrees_with_a_set(
    found: ManualSubscriptions, seed: int, shared_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHARED_PROFILE_PATHS_MAX", shared_max)
    dice = random.Random(seed)
    model = set[Subscription]()
    for _ in range(1_000):
        subscription = Subscription(dice.randint(1, 3), dice.choice("abcd"), f"/{dice.randint(1, 4)}")
        match dice.randrange(5):
            case 0 | 1:
                found.add(subscription)
                model.add(subscription)
            case 2 | 3:
                found.remove(subscription)
                model.discard(subscription)
            case _ if dice.randrange(5) == 0:
                found.remove_device(subscription.ep)
                model = {s for s in model if s.ep != subscription.ep}
        every = {Subscription(id_, ep, path) for ep in "abcd" for path, ids in found.paths(ep) for id_ in ids}
        assert every == model
        assert bool(found) is bool(model)
        for path in ("/1", "/2", "/3", "/4"):
            expected = sorted(s.application_id for s in model if (s.ep, s.path) == (subscription.ep, path))
            assert list(walked(found, subscription.ep, path)) == expected
    for ep in "abcd":
        found.remove_device(ep)
    assert len(found.table) == len(found._profiles) == len(found._audiences) == 0
