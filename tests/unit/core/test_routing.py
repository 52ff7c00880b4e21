"""Which channels get an event: what routes, what must not, and what is remembered."""

from __future__ import annotations

import random

import pytest

from dispatcher import limits
from dispatcher.core.presubscriptions import matches
from dispatcher.core.routing import Router
from dispatcher.model import Presubscription, Subscription

ACCOUNT, OTHER_ACCOUNT = 1, 2


def presubscription(name: str | None = None, type_: str | None = None, *paths: str) -> Presubscription:
    return Presubscription(endpoint_name=name, endpoint_type=type_, resource_paths=paths or None)


@pytest.fixture
def router() -> Router:
    """Applications 1 to 3 of one account with channels 11 to 13; application 4 of another with 14."""
    router = Router()
    for application_id in (1, 2, 3):
        router.add_channel(ACCOUNT, application_id, 10 + application_id)
    router.add_channel(OTHER_ACCOUNT, 4, 14)
    return router


def test_without_a_subscription_nothing_is_routed(router: Router) -> None:
    assert router.channels_for(ACCOUNT, "a", "/1") == ()
    assert router.channels_for(99, "a", "/1") == ()


def test_a_manual_subscription_routes_its_resource_and_no_other(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(1, "a", "/1"))
    assert router.channels_for(ACCOUNT, "a", "/1") == (11,)
    assert router.channels_for(ACCOUNT, "a", "/1/0") == ()
    assert router.channels_for(ACCOUNT, "a", "/") == ()
    assert router.channels_for(ACCOUNT, "b", "/1") == ()
    assert router.channels_for(OTHER_ACCOUNT, "a", "/1") == ()


def test_a_star_in_a_manual_subscription_is_a_character(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(1, "a", "/*"))
    assert router.channels_for(ACCOUNT, "a", "/1") == ()


def test_two_matching_subscriptions_of_one_application_are_one_channel(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(1, "a", "/1"))
    router.add_subscription(ACCOUNT, Subscription(1, "a", "/1"))
    entries = [presubscription(), presubscription("a*"), presubscription(None, None, "/1")]
    router.set_presubscriptions(ACCOUNT, 1, entries)
    assert router.channels_for(ACCOUNT, "a", "/1") == (11,)


def test_every_change_holds_from_the_next_event_on(router: Router) -> None:
    first, second = Subscription(1, "a", "/1"), Subscription(2, "a", "/1")
    router.add_subscription(ACCOUNT, first)
    assert router.channels_for(ACCOUNT, "a", "/1") == (11,)
    router.add_subscription(ACCOUNT, second)
    assert router.channels_for(ACCOUNT, "a", "/1") == (11, 12)
    router.set_presubscriptions(ACCOUNT, 3, [presubscription("a")])
    assert router.channels_for(ACCOUNT, "a", "/1") == (11, 12, 13)
    router.remove_subscription(ACCOUNT, first)
    assert router.channels_for(ACCOUNT, "a", "/1") == (12, 13)
    router.remove_channel(ACCOUNT, 2)
    assert router.channels_for(ACCOUNT, "a", "/1") == (13,)
    router.add_channel(ACCOUNT, 2, 22)
    assert router.channels_for(ACCOUNT, "a", "/1") == (22, 13)
    router.set_presubscriptions(ACCOUNT, 3, [])
    router.remove_subscription(ACCOUNT, second)
    assert router.channels_for(ACCOUNT, "a", "/1") == ()


def test_removing_what_is_not_there_changes_nothing(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(1, "a", "/1"))
    for gone in (Subscription(2, "a", "/1"), Subscription(1, "a", "/2"), Subscription(1, "b", "/1")):
        router.remove_subscription(ACCOUNT, gone)
    router.remove_channel(ACCOUNT, 99)
    router.set_presubscriptions(ACCOUNT, 99, [])
    assert router.channels_for(ACCOUNT, "a", "/1") == (11,)


def test_an_application_without_a_channel_gets_nothing_and_misses_nothing_later(router: Router) -> None:
    router.set_presubscriptions(ACCOUNT, 5, [presubscription()])
    assert router.channels_for(ACCOUNT, "a", "/1") == ()
    router.add_channel(ACCOUNT, 5, 15)
    assert router.channels_for(ACCOUNT, "a", "/1") == (15,)


def test_accounts_do_not_see_each_other(router: Router) -> None:
    router.set_presubscriptions(OTHER_ACCOUNT, 4, [presubscription()])
    router.learn_type(OTHER_ACCOUNT, "a", "light")
    assert router.channels_for(ACCOUNT, "a", "/1") == ()
    assert router.device_type(ACCOUNT, "a") is None
    assert router.life_cycle_channels(ACCOUNT) == (11, 12, 13)
    assert router.life_cycle_channels(OTHER_ACCOUNT) == (14,)
    assert router.life_cycle_channels(99) == ()


def test_life_cycle_events_follow_channels_as_they_come_and_go(router: Router) -> None:
    assert router.life_cycle_channels(ACCOUNT) == (11, 12, 13)
    router.remove_channel(ACCOUNT, 2)
    assert router.life_cycle_channels(ACCOUNT) == (11, 13)
    router.add_channel(ACCOUNT, 5, 15)
    assert router.life_cycle_channels(ACCOUNT) == (11, 13, 15)


def test_a_device_type_routes_from_when_it_is_learnt_to_when_it_is_forgotten(router: Router) -> None:
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, "light")])
    assert router.channels_for(ACCOUNT, "a", "/1") == ()
    router.learn_type(ACCOUNT, "a", "light")
    assert router.channels_for(ACCOUNT, "a", "/1") == (11,)
    assert router.channels_for(ACCOUNT, "b", "/1") == ()
    router.learn_type(ACCOUNT, "a", "lamp")
    assert router.channels_for(ACCOUNT, "a", "/1") == ()
    router.learn_type(ACCOUNT, "a", "light")
    router.forget_type(ACCOUNT, "a")
    assert router.channels_for(ACCOUNT, "a", "/1") == ()


def test_only_the_types_learnt_last_are_remembered() -> None:
    router = Router(device_types_max=2)
    router.add_channel(ACCOUNT, 1, 11)
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, "t")])
    router.learn_type(ACCOUNT, "a", "t")
    router.learn_type(ACCOUNT, "b", "t")
    assert router.channels_for(ACCOUNT, "b", "/1") == (11,)
    router.learn_type(ACCOUNT, "a", "t")
    router.learn_type(ACCOUNT, "c", "t")
    assert [router.device_type(ACCOUNT, ep) for ep in "abc"] == ["t", None, "t"]
    assert router.channels_for(ACCOUNT, "b", "/1") == ()


def test_subscriptions_can_be_read_back(router: Router) -> None:
    entries = (presubscription("a*"), presubscription(None, None, "3/*"))
    router.set_presubscriptions(ACCOUNT, 1, list(entries))
    assert router.presubscriptions(ACCOUNT, 1) == entries
    assert router.presubscriptions(ACCOUNT, 2) == router.presubscriptions(99, 1) == ()
    for path in ("/2", "/1"):
        router.add_subscription(ACCOUNT, Subscription(1, "a", path))
    router.add_subscription(ACCOUNT, Subscription(2, "a", "/3"))
    assert sorted(router.subscribed_paths(ACCOUNT, 1, "a")) == ["/1", "/2"]
    assert router.subscribed_paths(ACCOUNT, 1, "b") == router.subscribed_paths(99, 1, "a") == ()
    assert router.subscribers_of_device(ACCOUNT, "a") == (1, 2)
    assert router.subscribers_of_device(ACCOUNT, "b") == ()


class Model:
    """Routing by looking at everything, every time."""

    def __init__(self) -> None:
        self.channels: dict[int, int] = {}
        self.manual: set[Subscription] = set()
        self.presubscriptions: dict[int, list[Presubscription]] = {}
        self.types: dict[str, str] = {}

    def channels_for(self, ep: str, path: str) -> set[int]:
        wanted = {found.application_id for found in self.manual if (found.ep, found.path) == (ep, path)}
        wanted |= {
            application_id
            for application_id, entries in self.presubscriptions.items()
            if any(matches(entry, ep, self.types.get(ep), path) for entry in entries)
        }
        return {self.channels[application_id] for application_id in wanted if application_id in self.channels}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("route_cache_max", [1, 7, 1000])
def test_the_router_agrees_with_looking_at_everything(
    seed: int, route_cache_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHARED_PROFILE_PATHS_MAX", seed % 4)
    dice = random.Random(seed)
    router, model = Router(route_cache_max=route_cache_max), Model()
    patterns = [None, None, "a", "a*", "b", "*"]
    for _ in range(1500):
        application_id, ep, path = dice.randint(1, 4), dice.choice("abc"), f"/{dice.randint(1, 4)}"
        subscription = Subscription(application_id, ep, path)
        match dice.randrange(10):
            case 0:
                router.add_channel(ACCOUNT, application_id, 10 + application_id)
                model.channels[application_id] = 10 + application_id
            case 1:
                router.remove_channel(ACCOUNT, application_id)
                model.channels.pop(application_id, None)
            case 2:
                router.add_subscription(ACCOUNT, subscription)
                model.manual.add(subscription)
            case 3:
                for gone in [subscription] if dice.randrange(4) else list(model.manual):
                    router.remove_subscription(ACCOUNT, gone)
                    model.manual.discard(gone)
            case 4 if dice.randrange(3) == 0:
                paths = ["/1", "/2*", "*"]
                entries = [
                    presubscription(dice.choice(patterns), dice.choice(patterns), dice.choice(paths))
                    for _ in range(dice.randrange(3))
                ]
                router.set_presubscriptions(ACCOUNT, application_id, entries)
                model.presubscriptions[application_id] = entries
            case 5:
                model.types[ep] = dice.choice("ab")
                router.learn_type(ACCOUNT, ep, model.types[ep])
            case 6:
                router.forget_type(ACCOUNT, ep)
                model.types.pop(ep, None)
            case 7 if dice.randrange(4) == 0:
                router.remove_device_subscriptions(ACCOUNT, ep)
                model.manual = {s for s in model.manual if s.ep != ep}
        found = router.channels_for(ACCOUNT, ep, path)
        assert len(found) == len(set(found))
        assert set(found) == model.channels_for(ep, path)


def remembered(router: Router) -> int:
    cache = router._accounts[ACCOUNT]._remembered
    return len(cache.recent) + len(cache._older)


@pytest.mark.parametrize("by_device", [True, False])
def test_what_is_remembered_is_bounded(by_device: bool) -> None:
    router = Router(route_cache_max=10)
    router.set_presubscriptions(ACCOUNT, 1, [presubscription("a*" if by_device else None, None, "/1*")])
    for index in range(100):
        router.channels_for(ACCOUNT, f"a{index}", f"/1/{index}")
        assert remembered(router) <= 10
    assert remembered(router) >= 5


def test_as_long_as_no_subscription_looks_at_devices_the_path_alone_is_remembered() -> None:
    router = Router()
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, None, "/1*")])
    for index in range(100):
        router.channels_for(ACCOUNT, f"a{index}", "/1")
    assert remembered(router) == 1


def test_what_is_asked_for_again_and_again_stays_remembered() -> None:
    router = Router(route_cache_max=10)
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, None, "/1*")])
    cache = router._accounts[1]._remembered
    router.channels_for(ACCOUNT, "a", "/often")
    for index in range(100):
        router.channels_for(ACCOUNT, "a", f"/{index}")
        assert "/often" in {*cache.recent, *cache._older}
        router.channels_for(ACCOUNT, "a", "/often")
    assert "/3" not in {*cache.recent, *cache._older}


def test_manual_subscriptions_take_no_place_among_what_is_remembered() -> None:
    router = Router(route_cache_max=10)
    router.add_channel(ACCOUNT, 1, 11)
    router.set_presubscriptions(ACCOUNT, 2, [presubscription(None, None, "/1*")])
    for index in range(100):
        router.add_subscription(ACCOUNT, Subscription(1, f"a{index}", "/1"))
        assert router.channels_for(ACCOUNT, f"a{index}", "/1") == (11,)
    assert remembered(router) == 1


def test_setting_the_same_presubscriptions_again_forgets_nothing() -> None:
    router = Router()
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, None, "/1*")])
    router.channels_for(ACCOUNT, "a", "/1")
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, None, "/1*")])
    assert remembered(router) == 1
    router.set_presubscriptions(ACCOUNT, 1, [presubscription(None, None, "/2*")])
    assert remembered(router) == 0
