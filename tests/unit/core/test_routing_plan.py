"""A request's events grouped by channel, in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.routing import Request, shown

from dispatcher.core.route_table import RouteFinder
from dispatcher.core.routing import Router
from dispatcher.model import Kind, Presubscription, Subscription

ACCOUNT = 1


@pytest.fixture
def router(finder: RouteFinder) -> Router:
    """Application 1 wants devices a*, 2 wants device b, 3 wants lights, 4 nothing; channels 11 to 14."""
    router = Router(finder)
    for application_id in (1, 2, 3, 4):
        router.add_channel(ACCOUNT, application_id, 10 + application_id)
    router.set_presubscriptions(ACCOUNT, 1, [Presubscription(endpoint_name="a*")])
    router.add_subscription(ACCOUNT, Subscription(2, "b", "/1"))
    router.set_presubscriptions(ACCOUNT, 3, [Presubscription(endpoint_type="light")])
    return router


def test_events_that_all_go_to_the_same_channels_have_no_indices(router: Router) -> None:
    events = Request().notify("a1").notify("a2").notify("a3")
    assert shown(router.plan_routes(ACCOUNT, events)) == ({11: None}, 0)


def test_events_of_different_channels_have_rising_indices(router: Router) -> None:
    events = Request().notify("b").notify("a1").notify("x").notify("b").notify("a2").notify("b", "/2")
    assert shown(router.plan_routes(ACCOUNT, events)) == ({12: [0, 3], 11: [1, 4]}, 2)


def test_a_channel_in_several_groups_gets_its_indices_in_order(router: Router) -> None:
    router.set_presubscriptions(ACCOUNT, 4, [Presubscription()])
    router.learn_type(ACCOUNT, "a2", "light")
    events = Request().notify("a1").notify("x").notify("a2").notify("a1").notify("b")
    assert shown(router.plan_routes(ACCOUNT, events)) == ({14: None, 11: [0, 2, 3], 13: [2], 12: [4]}, 0)
    router.set_presubscriptions(ACCOUNT, 4, [Presubscription(resource_paths=("/1",))])
    events.notify("a1", "/2")
    assert shown(router.plan_routes(ACCOUNT, events))[0][14] == [0, 1, 2, 3, 4]


def test_routes_stand_in_the_order_of_the_events(router: Router) -> None:
    router.learn_type(ACCOUNT, "x", "light")
    for eps, channels in (("b", "a1", "x"), [12, 11, 13]), (("x", "b", "a1"), [13, 12, 11]):
        events = Request()
        for ep in eps:
            events.notify(ep)
        assert [channel for channel, _ in router.plan_routes(ACCOUNT, events).routes] == channels


def test_events_for_nobody_are_unrouted(router: Router) -> None:
    assert shown(router.plan_routes(ACCOUNT, Request().notify("x").notify("y"))) == ({}, 2)
    assert shown(router.plan_routes(99, Request().notify("a").change(Kind.REGISTRATION, "a"))) == ({}, 2)


def test_a_request_without_events_goes_nowhere(router: Router) -> None:
    assert shown(router.plan_routes(ACCOUNT, Request())) == ({}, 0)


def test_an_application_that_lost_its_channel_leaves_its_events_unrouted(router: Router) -> None:
    router.remove_channel(ACCOUNT, 1)
    assert shown(router.plan_routes(ACCOUNT, Request().notify("a1"))) == ({}, 1)


def test_life_cycle_events_go_to_every_channel_of_the_account(router: Router) -> None:
    router.add_channel(2, 9, 19)
    events = Request().change(Kind.REGISTRATION, "x").change(Kind.DE_REGISTRATION, "x")
    assert shown(router.plan_routes(ACCOUNT, events)) == ({11: None, 12: None, 13: None, 14: None}, 0)


def test_life_cycle_events_without_any_channel_are_unrouted() -> None:
    router = Router()
    router.set_presubscriptions(ACCOUNT, 1, [Presubscription()])
    assert shown(router.plan_routes(ACCOUNT, Request().change(Kind.REGISTRATION, "x"))) == ({}, 1)


def test_an_async_response_goes_to_who_asked_and_to_nobody_else(router: Router) -> None:
    events = Request().answer("job").answer("unknown").notify("a1").answer("job")
    assert shown(router.plan_routes(ACCOUNT, events, [2, None, 2])) == ({12: [0, 3], 11: [2]}, 1)


def test_a_mixed_request_keeps_each_channels_order(router: Router) -> None:
    events = Request().notify("a1").change(Kind.REG_UPDATE, "b").notify("b").notify("a1")
    assert shown(router.plan_routes(ACCOUNT, events)) == (
        {11: [0, 1, 3], 12: [1, 2], 13: [1], 14: [1]},
        0,
    )


def test_a_registration_holds_for_what_follows_it_in_the_same_request(router: Router) -> None:
    events = Request().notify("x").change(Kind.REGISTRATION, "x", "light").notify("x")
    events.change(Kind.REG_UPDATE, "x").notify("x").change(Kind.DE_REGISTRATION, "x").notify("x")
    routes, unrouted = shown(router.plan_routes(ACCOUNT, events))
    assert routes[13] == [1, 2, 3, 4, 5]
    assert unrouted == 2


def test_planning_learns_nothing_until_the_request_is_stored(router: Router) -> None:
    events = Request().change(Kind.REGISTRATION, "x", "light").notify("x")
    router.plan_routes(ACCOUNT, events)
    assert router.device_type(ACCOUNT, "x") is None
    assert router.channels_for(ACCOUNT, "x", "/1") == ()
    router.learn_devices(ACCOUNT, events)
    assert router.channels_for(ACCOUNT, "x", "/1") == (13,)


@pytest.mark.parametrize(
    ("kind", "ept", "expected"),
    [
        (Kind.REGISTRATION, "lamp", "lamp"),
        (Kind.REGISTRATION, None, None),
        (Kind.REG_UPDATE, "lamp", "lamp"),
        (Kind.REG_UPDATE, None, "light"),
        (Kind.DE_REGISTRATION, None, None),
        (Kind.REGISTRATION_EXPIRED, None, None),
    ],
)
def test_a_device_of_known_type_changes_as_its_event_says(
    router: Router, kind: Kind, ept: str | None, expected: str | None
) -> None:
    router.learn_type(ACCOUNT, "x", "light")
    events = Request().change(kind, "x", ept).notify("x")
    routes, _ = shown(router.plan_routes(ACCOUNT, events))
    assert (1 in (routes[13] or [0, 1])) == (expected == "light")
    router.learn_devices(ACCOUNT, events)
    assert router.device_type(ACCOUNT, "x") == expected


def test_a_plan_is_the_same_whether_routes_are_remembered_or_not(router: Router, finder: RouteFinder) -> None:
    events = Request()
    for index in range(50):
        events.notify(f"a{index % 7}").notify("b").notify(f"x{index}")
    first = shown(router.plan_routes(ACCOUNT, events))
    assert shown(router.plan_routes(ACCOUNT, events)) == first
    tiny = Router(finder, route_cache_max=1)
    for application_id in (1, 2):
        tiny.add_channel(ACCOUNT, application_id, 10 + application_id)
    tiny.set_presubscriptions(ACCOUNT, 1, [Presubscription(endpoint_name="a*")])
    tiny.add_subscription(ACCOUNT, Subscription(2, "b", "/1"))
    assert shown(tiny.plan_routes(ACCOUNT, events)) == first


def test_a_full_registration_ends_manual_subscriptions_for_what_follows_it(router: Router) -> None:
    router.add_subscription(ACCOUNT, Subscription(3, "m", "/1"))
    events = Request().notify("m").change(Kind.REG_UPDATE, "m").notify("m")
    events.change(Kind.REGISTRATION, "m").notify("m")
    routes, _ = shown(router.plan_routes(ACCOUNT, events))
    assert routes[13] == [0, 1, 2, 3]
    router.remove_device_subscriptions(ACCOUNT, "m")
    assert 13 not in router.channels_for(ACCOUNT, "m", "/1")
    router.remove_device_subscriptions(ACCOUNT, "m")
    router.remove_device_subscriptions(99, "m")


def test_a_way_is_the_same_until_it_may_be_another(router: Router) -> None:
    subscription = Subscription(2, "b", "/1")

    def is_new_after(change: Callable[[], object]) -> bool:
        before = router.way(ACCOUNT)
        assert router.way(ACCOUNT) is before
        change()
        return router.way(ACCOUNT) is not before

    assert is_new_after(lambda: router.set_presubscriptions(ACCOUNT, 1, ()))
    assert is_new_after(lambda: router.plan_routes(ACCOUNT, Request().notify("b")))  # it is remembered now
    assert not is_new_after(lambda: router.plan_routes(ACCOUNT, Request().notify("b")))
    router.plan_routes(ACCOUNT, Request().notify("x"))
    assert is_new_after(
        lambda: router.plan_routes(ACCOUNT, Request().notify("y"))
    )  # of which there may be too many
    router.remove_subscription(ACCOUNT, subscription)
    router.way(ACCOUNT)
    assert is_new_after(lambda: router.add_subscription(ACCOUNT, subscription))  # the first manual one
    assert router.way(ACCOUNT).manual is not None
