"""Which channels get an event: what routes, what must not, and what is remembered."""

from __future__ import annotations

import pytest
from support.routing import Request, shown

from dispatcher.core.route_table import RouteFinder
from dispatcher.core.routing import Router
from dispatcher.model import Presubscription, Subscription

ACCOUNT, OTHER_ACCOUNT = 1, 2


def presubscription(name: str | None = None, type_: str | None = None, *paths: str) -> Presubscription:
    return Presubscription(endpoint_name=name, endpoint_type=type_, resource_paths=paths or None)


@pytest.fixture
def router(finder: RouteFinder) -> Router:
    """Applications 1 to 3 of one account with channels 11 to 13; application 4 of another with 14."""
    router = Router(finder)
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


def test_asking_of_one_resource_is_asking_what_a_request_would(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(1, 'a"\\é', "/1"))
    router.set_presubscriptions(ACCOUNT, 2, [presubscription("a*", None, "/1*")])
    for pair in (('a"\\é', "/1"), ("a", "/12"), ("b", "/1")):
        planned = shown(router.plan_routes(ACCOUNT, Request([pair])))[0]
        assert tuple(planned) == router.channels_for(ACCOUNT, *pair)
