"""Random fleets, subscriptions and changes of both: every router gives the plan of looking at everything.

Two routers, one over each finder, are changed alike and asked alike.  Their plans must be the
same, and reach those that ``Model`` reaches, which remembers nothing.
"""

from __future__ import annotations

import random

import pytest
from support.routing import FINDERS, Request, shown

from dispatcher import limits
from dispatcher.core.presubscriptions import matches
from dispatcher.core.routing import Router
from dispatcher.model import Kind, Presubscription, Subscription

ACCOUNT = 1
APPLICATIONS = (1, 2, 3, 4)
EPS = ["a", "ab", "b", 'q"\\', "ü€😀"]
PATHS = ["/1", "/1/2", "/2", '/"', "/ü"]
NAME_PATTERNS = [None, None, "a", "a*", "ü*", 'q"*', "*"]
TYPE_PATTERNS = [None, None, None, "light", "l*", "*"]
PATH_PATTERNS = ["/1", "1*", "/*", '/"', "*"]


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


class House:
    """The model and the routers, changed together."""

    def __init__(self, dice: random.Random, route_cache_max: int) -> None:
        self.dice = dice
        self.model = Model()
        self.routers = [
            Router(make(), route_cache_max=route_cache_max, route_channels_max=20 * route_cache_max)
            for make in FINDERS.values()
        ]

    def change(self) -> None:
        """Something random happens."""
        dice, model = self.dice, self.model
        application_id, ep, path = dice.choice(APPLICATIONS), dice.choice(EPS), dice.choice(PATHS)
        subscription = Subscription(application_id, ep, path)
        match dice.randrange(10):
            case 0:
                model.channels[application_id] = 10 + application_id
                self._all("add_channel", application_id, 10 + application_id)
            case 1:
                model.channels.pop(application_id, None)
                self._all("remove_channel", application_id)
            case 2 | 3 | 4:
                model.manual.add(subscription)
                self._all("add_subscription", subscription)
            case 5:
                for gone in [subscription] if dice.randrange(4) else sorted(model.manual):
                    model.manual.discard(gone)
                    self._all("remove_subscription", gone)
            case 6 if dice.randrange(2):
                entries = [self._entry() for _ in range(dice.randrange(3))]
                model.presubscriptions[application_id] = entries
                self._all("set_presubscriptions", application_id, entries)
            case 7:
                model.types[ep] = dice.choice(("light", "lamp", "door"))
                self._all("learn_type", ep, model.types[ep])
            case 8:
                model.types.pop(ep, None)
                self._all("forget_type", ep)
            case 9 if dice.randrange(4) == 0:
                model.manual = {found for found in model.manual if found.ep != ep}
                self._all("remove_device_subscriptions", ep)

    def _entry(self) -> Presubscription:
        dice = self.dice
        paths = tuple(dice.sample(PATH_PATTERNS, dice.randint(1, 2))) if dice.randrange(2) else None
        return Presubscription(
            endpoint_name=dice.choice(NAME_PATTERNS),
            endpoint_type=dice.choice(TYPE_PATTERNS),
            resource_paths=paths,
        )

    def _all(self, method: str, *arguments: object) -> None:
        for router in self.routers:
            getattr(router, method)(ACCOUNT, *arguments)

    def plan(self, request: Request) -> dict[int, list[int] | None]:
        """The one plan of all routers; None when a channel gets everything."""
        first, *others = (router.plan_routes(ACCOUNT, request) for router in self.routers)
        assert all(other == first for other in others)
        routes, unrouted = shown(first)
        reached = {index for indices in routes.values() for index in indices or range(len(request.meta))}
        assert unrouted == len(request.meta) - len(reached)
        return routes


def expected(model: Model, request: Request) -> dict[int, list[int] | None]:
    found: dict[int, list[int]] = {}
    for index, (ep, path) in enumerate(zip(request.eps, request.paths, strict=True)):
        assert ep is not None
        assert path is not None
        for channel in model.channels_for(ep, path):
            found.setdefault(channel, []).append(index)
    return {
        channel: None if len(indices) == len(request.meta) else indices for channel, indices in found.items()
    }


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("route_cache_max", [0, 3, 1000])
def test_every_router_plans_as_if_it_looked_at_everything(
    seed: int, route_cache_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHARED_PROFILE_PATHS_MAX", seed % 4)
    dice = random.Random(seed)
    house = House(dice, route_cache_max)
    for _ in range(250):
        for _ in range(dice.randint(1, 3)):
            house.change()
        request = Request([(dice.choice(EPS), dice.choice(PATHS)) for _ in range(dice.choice((1, 5, 70)))])
        assert house.plan(request) == expected(house.model, request)
        ep, path = dice.choice(EPS), dice.choice(PATHS)
        for router in house.routers:
            assert set(router.channels_for(ACCOUNT, ep, path)) == house.model.channels_for(ep, path)


@pytest.mark.parametrize("seed", range(6))
def test_requests_with_life_cycle_events_are_planned_alike_and_leave_all_alike(seed: int) -> None:
    dice = random.Random(seed)
    house = House(dice, 5)
    kinds = [Kind.REGISTRATION, Kind.REG_UPDATE, Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED]
    for _ in range(150):
        house.change()
        request = Request()
        for _ in range(dice.randint(1, 20)):
            if dice.randrange(4):
                request.notify(dice.choice(EPS), dice.choice(PATHS))
            else:
                request.change(dice.choice(kinds), dice.choice(EPS), dice.choice((None, "light", "lamp")))
        house.plan(request)
        for router in house.routers:
            router.learn_devices(ACCOUNT, request)
        for ep in EPS:
            known = {router.device_type(ACCOUNT, ep) for router in house.routers}
            assert len(known) == 1
            house.model.types.pop(ep, None)
            if (ept := known.pop()) is not None:
                house.model.types[ep] = ept
        plain = Request([(ep, path) for ep in EPS for path in PATHS])
        assert house.plan(plain) == expected(house.model, plain)
