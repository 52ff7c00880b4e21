"""The table of manual subscriptions: exact, and shared between devices that are alike."""

from __future__ import annotations

import random

import pytest

from dispatcher import limits
from dispatcher.core.manual_subscriptions import ManualSubscriptions
from dispatcher.core.route_cache import Audience
from dispatcher.model import Subscription

NOBODY = Audience(())


def table() -> ManualSubscriptions:
    return ManualSubscriptions(Audience)


def test_devices_that_are_alike_share_one_profile() -> None:
    found = table()
    for index in range(100):
        for path in ("/1", "/2"):
            found.add(Subscription(7, f"d{index}", path))
    assert len(found._shared) == 1
    assert len({id(profile) for profile in found._profiles.values()}) == 1
    found.add(Subscription(8, "d5", "/1"))
    assert found.get("d5", "/1") == (7, 8)
    assert found.get("d6", "/1") == (7,)
    found.remove(Subscription(8, "d5", "/1"))
    assert len(found._shared) == 1


def test_nothing_is_kept_for_devices_without_subscriptions() -> None:
    found = table()
    for index in range(10):
        found.add(Subscription(7, f"d{index}", "/1"))
    for index in range(5):
        found.remove(Subscription(7, f"d{index}", "/1"))
        found.remove_device(f"d{5 + index}")
        found.remove_device("unknown")
    assert not found
    assert (found._profiles, found._shared) == ({}, {})


def test_a_device_with_many_paths_is_changed_in_place() -> None:
    found = table()
    count = limits.SHARED_PROFILE_PATHS_MAX + 50
    for index in range(count):
        found.add(Subscription(7, "d", f"/{index}"))
    profile = found._profiles["d"]
    found.add(Subscription(7, "d", "/more"))
    assert found._profiles["d"] is profile
    assert found._shared == {}
    for index in range(count):
        found.remove(Subscription(7, "d", f"/{index}"))
    assert dict(found.paths("d")) == {"/more": (7,)}


def test_many_pairs_are_found_at_once() -> None:
    found = table()
    found.add(Subscription(7, "d", "/1"))
    audiences = found.find(["d", "d", "e"], ["/1", "/2", "/1"], NOBODY)
    assert [audience.applications for audience in audiences] == [(7,), (), ()]
    assert audiences[1] is NOBODY


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shared_max", [0, 1, 2, 16])
def test_it_agrees_with_a_set(seed: int, shared_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHARED_PROFILE_PATHS_MAX", shared_max)
    dice = random.Random(seed)
    found, model = table(), set[Subscription]()
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
        assert sum(profile.devices for profile in found._shared.values()) == sum(
            profile.key is not None for profile in found._profiles.values()
        )
