"""Which channels get an event.

One ``Router`` holds what routing needs of all accounts, patched as applications
change their channels and subscriptions, and asked for every request.

An event is first matched to an *audience*: the applications that subscribed to its
device and resource.  Which of them have a channel is looked up once per request and
audience.  So channels come and go without touching what is remembered, and the
common request, whose events all have one audience, is settled with one look per
event at C speed.

Manual subscriptions are looked up as they are (``core.manual_subscriptions``).  What
pre-subscriptions choose is remembered, and exact at all times: a device's new type forgets
that device, a new set of pre-subscriptions forgets its own account.  As long as no
pre-subscription of an account looks at the device, the path alone is the key, and a
fleet of any size stays in the table.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from dispatcher import limits
from dispatcher.core.manual_subscriptions import ManualSubscriptions
from dispatcher.core.presubscriptions import Matcher
from dispatcher.core.route_cache import Audience, RouteCache
from dispatcher.model import AsyncAnswer, DeviceChange, Kind, Presubscription, Subscription


class RoutableEvents(Protocol):
    """What routing must know of a request; ``wire.ingest.Parsed`` is one.

    A notification has an ep and a path, a life-cycle event an ep alone, an async
    response neither.
    """

    @property
    def eps(self) -> Sequence[str | None]: ...
    @property
    def paths(self) -> Sequence[str | None]: ...
    @property
    def device_changes(self) -> Sequence[DeviceChange]: ...
    @property
    def async_answers(self) -> Sequence[AsyncAnswer]: ...


class RoutePlan(msgspec.Struct, frozen=True):
    """Where a request's events go: each channel once, with its indices (rising; None: all)."""

    routes: list[tuple[int, array[int] | None]]
    unrouted: int  # events that reach no channel


class Router:
    """The routing snapshot of all accounts.  Every change holds from the next event on.

    Memory: ``limits.ROUTE_CACHE_MAX`` remembered pairs per account,
    ``limits.DEVICE_TYPES_MAX`` device types in all, besides the subscriptions themselves.
    """

    def __init__(
        self,
        *,
        route_cache_max: int = limits.ROUTE_CACHE_MAX,
        device_types_max: int = limits.DEVICE_TYPES_MAX,
    ) -> None:
        self._route_cache_max = route_cache_max
        self._device_types_max = device_types_max
        self._accounts: dict[int, _Account] = {}
        self._device_types: OrderedDict[tuple[int, str], str] = OrderedDict()  # oldest first

    # --- what applications have -----------------------------------------------------------

    def add_channel(self, account_id: int, application_id: int, channel_id: int) -> None:
        """An application has a channel now."""
        self._account(account_id).set_channel(application_id, channel_id)

    def remove_channel(self, account_id: int, application_id: int) -> None:
        """An application has no channel any more; its subscriptions stay."""
        self._account(account_id).set_channel(application_id, None)

    def add_subscription(self, account_id: int, subscription: Subscription) -> None:
        """Add a manual subscription; adding it twice is once."""
        self._account(account_id).manual.add(subscription)

    def remove_subscription(self, account_id: int, subscription: Subscription) -> None:
        """Remove a manual subscription, if there is one."""
        self._account(account_id).manual.remove(subscription)

    def remove_device_subscriptions(self, account_id: int, ep: str) -> None:
        """Remove every application's manual subscriptions to a device."""
        account = self._accounts.get(account_id)
        if account is not None:
            account.manual.remove_device(ep)

    def set_presubscriptions(
        self, account_id: int, application_id: int, entries: Sequence[Presubscription]
    ) -> None:
        """Replace an application's set.  Setting the same set again costs nothing later."""
        self._account(account_id).set_presubscriptions(application_id, tuple(entries))

    def presubscriptions(self, account_id: int, application_id: int) -> tuple[Presubscription, ...]:
        """An application's set, as it was given."""
        account = self._accounts.get(account_id)
        return account.presubscriptions.get(application_id, ()) if account else ()

    def subscribed_paths(self, account_id: int, application_id: int, ep: str) -> tuple[str, ...]:
        """The paths of an application's manual subscriptions to one device."""
        account = self._accounts.get(account_id)
        by_path = account.manual.paths(ep) if account else ()
        return tuple([path for path, applications in by_path if application_id in applications])

    def subscribers_of_device(self, account_id: int, ep: str) -> tuple[int, ...]:
        """The applications with a manual subscription to one device."""
        account = self._accounts.get(account_id)
        by_path = account.manual.paths(ep) if account else ()
        return tuple(sorted({id_ for _, applications in by_path for id_ in applications}))

    def has_manual(self, account_id: int, ep: str, path: str) -> bool:
        """Whether any application has a manual subscription to a resource."""
        account = self._accounts.get(account_id)
        return account is not None and bool(account.manual.get(ep, path))

    def may_want(self, account_id: int, ep: str) -> bool:
        """Whether any subscription of an account could look at a device.  Cheap."""
        account = self._accounts.get(account_id)
        return account is not None and (bool(account.presubscriptions) or ep in account.manual)

    def is_wanted(self, account_id: int, ep: str, path: str) -> bool:
        """Whether any application is subscribed to a resource, by whatever means."""
        return bool(self.wanted_paths(account_id, ep, self.device_type(account_id, ep), (path,)))

    def wanted_paths(self, account_id: int, ep: str, ept: str | None, paths: Iterable[str]) -> list[str]:
        """Those of a device's resources that any application is subscribed to."""
        account = self._accounts.get(account_id)
        if account is None:
            return []
        return [path for path in paths if account.compute(ep, path, ept).applications]

    def presubscriptions_version(self, account_id: int) -> int:
        """A number that moves with each change of an account's pre-subscriptions."""
        account = self._accounts.get(account_id)
        return account.presubscriptions_version if account is not None else 0

    # --- what devices and requests tell ---------------------------------------------------

    def device_type(self, account_id: int, ep: str) -> str | None:
        """A device's type, as far as it is remembered."""
        return self._device_types.get((account_id, ep))

    def learn_type(self, account_id: int, ep: str, ept: str) -> None:
        """Remember a device's type; the one learnt longest ago is forgotten when there are too many."""
        key = (account_id, ep)
        known = self._device_types.get(key)
        self._device_types[key] = ept
        self._device_types.move_to_end(key)
        if known != ept:
            self._account(account_id).forget_device(ep)
        if len(self._device_types) > self._device_types_max:
            (other_account_id, other_ep), _ = self._device_types.popitem(last=False)
            self._account(other_account_id).forget_device(other_ep)

    def forget_type(self, account_id: int, ep: str) -> None:
        """A device's type is not known any more."""
        if self._device_types.pop((account_id, ep), None) is not None:
            self._account(account_id).forget_device(ep)

    def learn_devices(self, account_id: int, events: RoutableEvents) -> None:
        """Take over what a request's life-cycle events tell about types, once it is stored."""
        for change in events.device_changes:
            ept = _type_after(change, self.device_type(account_id, change.ep))
            if ept is None:
                self.forget_type(account_id, change.ep)
            else:
                self.learn_type(account_id, change.ep, ept)

    # --- routing --------------------------------------------------------------------------

    def channels_for(self, account_id: int, ep: str, path: str) -> tuple[int, ...]:
        """The channels that get a notification, each once."""
        account = self._accounts.get(account_id)
        if account is None:
            return ()
        return account.channels_of(account.audience(ep, path, self.device_type(account_id, ep)))

    def life_cycle_channels(self, account_id: int) -> tuple[int, ...]:
        """The channels that get life-cycle events: all of the account."""
        account = self._accounts.get(account_id)
        return account.channels_of(account.everyone()) if account else ()

    def plan_routes(
        self, account_id: int, events: RoutableEvents, askers: Sequence[int | None] = ()
    ) -> RoutePlan:
        """Say which channel gets which of a request's events.  Changes nothing but what is remembered.

        ``askers`` has the application of each async response, None for those nobody waits for.
        Life-cycle events hold for the notifications that follow them in the same request.
        """
        count = len(events.eps)
        account = self._accounts.get(account_id)
        if account is None:
            return RoutePlan([], count)
        if events.device_changes or events.async_answers:
            audiences = list(self._audiences_of_mixed(account_id, account, events, askers))
        else:
            audiences = self._audiences_of_notifications(account_id, account, events)
        return _plan(account, audiences, count)

    def _audiences_of_notifications(
        self, account_id: int, account: _Account, events: RoutableEvents
    ) -> list[Audience]:
        """By manual subscription, by pre-subscription, or both; each at C speed where it can be."""
        nobody = account.just(None)
        chosen = (
            self._chosen_of_notifications(account_id, account, events) if account.presubscriptions else None
        )
        if not account.manual:
            return [nobody] * len(events.eps) if chosen is None else chosen
        manual = account.manual.find(events.eps, events.paths, nobody)
        if chosen is None:
            return manual
        union = account.union
        return [
            other if one is nobody else union(one, other) for one, other in zip(manual, chosen, strict=True)
        ]

    def _chosen_of_notifications(
        self, account_id: int, account: _Account, events: RoutableEvents
    ) -> list[Audience]:
        found = account.recall(events.eps, events.paths)
        if None not in set(found):
            return found  # type: ignore[return-value]
        audiences: list[Audience] = []
        for audience, ep, path in zip(found, events.eps, events.paths, strict=True):
            assert ep is not None
            assert path is not None
            audiences.append(audience or account.chosen(ep, path, self.device_type(account_id, ep)))
        return audiences

    def _audiences_of_mixed(
        self,
        account_id: int,
        account: _Account,
        events: RoutableEvents,
        askers: Sequence[int | None],
    ) -> Iterator[Audience]:
        changes = iter(events.device_changes)
        asker = iter(askers)
        changed_types: dict[str, str | None] = {}  # not learnt before the request is stored
        registered: set[str] = set()  # a full registration ends manual subscriptions
        for ep, path in zip(events.eps, events.paths, strict=True):
            if ep is None:
                yield account.just(next(asker, None))
            elif path is None:
                known = changed_types[ep] if ep in changed_types else self.device_type(account_id, ep)
                change = next(changes)
                changed_types[ep] = _type_after(change, known)
                if change.kind is Kind.REGISTRATION:
                    registered.add(ep)
                yield account.everyone()
            elif ep in changed_types:
                yield account.compute(ep, path, changed_types[ep], is_registered=ep in registered)
            else:
                yield account.audience(ep, path, self.device_type(account_id, ep))

    def _account(self, account_id: int) -> _Account:
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account(self._route_cache_max)
        return account


def _type_after(change: DeviceChange, known: str | None) -> str | None:
    """A device's type after a life-cycle event."""
    if change.kind == Kind.REGISTRATION:
        return change.ept
    if change.kind == Kind.REG_UPDATE:
        return known if change.ept is None else change.ept
    return None


def _plan(account: _Account, audiences: Sequence[Audience], count: int) -> RoutePlan:
    distinct = dict.fromkeys(audiences)  # in the order of the events: the same request, the same plan
    if len(distinct) == 1:
        channels = account.channels_of(audiences[0])
        return RoutePlan([(channel, None) for channel in channels], 0 if channels else count)
    indices: dict[Audience, list[int]] = {audience: [] for audience in distinct}
    for index, audience in enumerate(audiences):
        indices[audience].append(index)
    parts_of: dict[int, list[list[int]]] = {}
    unrouted = 0
    for audience, part in indices.items():
        channels = account.channels_of(audience)
        unrouted += 0 if channels else len(part)
        for channel in channels:
            parts_of.setdefault(channel, []).append(part)
    routes = [(channel, _merge(parts, count)) for channel, parts in parts_of.items()]
    return RoutePlan(routes, unrouted)


def _merge(parts: Sequence[list[int]], count: int) -> array[int] | None:
    """Disjoint rising lists as one, None when that is everything."""
    if sum(map(len, parts)) == count:
        return None
    return array("I", parts[0] if len(parts) == 1 else heapq.merge(*parts))


class _Account:
    """One account's part of the snapshot."""

    def __init__(self, route_cache_max: int) -> None:
        self.manual = ManualSubscriptions(self._of)
        self.presubscriptions: dict[int, tuple[Presubscription, ...]] = {}
        self.presubscriptions_version = 0
        self._matchers: dict[int, Matcher] = {}
        self._channels: dict[int, int] = {}  # by application
        self._everyone: Audience | None = None
        self._audiences: dict[tuple[int, ...], Audience] = {}
        self._audiences_max = route_cache_max
        self._unions: dict[tuple[Audience, Audience], Audience] = {}
        self._remembered = RouteCache(route_cache_max)
        self._looks_at_devices = False

    def set_channel(self, application_id: int, channel_id: int | None) -> None:
        if channel_id is None:
            self._channels.pop(application_id, None)
        else:
            self._channels[application_id] = channel_id
        self._everyone = None

    def set_presubscriptions(self, application_id: int, entries: tuple[Presubscription, ...]) -> None:
        if entries == self.presubscriptions.get(application_id, ()):
            return
        if entries:
            self.presubscriptions[application_id] = entries
            self._matchers[application_id] = Matcher(entries)
        else:
            del self.presubscriptions[application_id]
            del self._matchers[application_id]
        self.presubscriptions_version += 1
        self._looks_at_devices = any(matcher.looks_at_devices for matcher in self._matchers.values())
        self._remembered.clear()

    def forget_device(self, ep: str) -> None:
        """A device's type changed."""
        self._remembered.forget_device(ep)

    def recall(self, eps: Sequence[str | None], paths: Sequence[str | None]) -> list[Audience | None]:
        """What is remembered of each pair."""
        keys: Iterable[object] = zip(eps, paths, strict=True) if self._looks_at_devices else paths
        return list(map(self._remembered.recent.get, keys))

    def audience(self, ep: str, path: str, ept: str | None) -> Audience:
        """Who gets a notification."""
        chosen = self.chosen(ep, path, ept)
        manual = self.manual.get(ep, path)
        return self.union(self._of(manual), chosen) if manual else chosen

    def chosen(self, ep: str, path: str, ept: str | None) -> Audience:
        """Whose pre-subscriptions choose a resource."""
        key = (ep, path) if self._looks_at_devices else path
        audience = self._remembered.find(key)
        if audience is None:
            audience = self.compute(ep, path, ept, is_registered=True)
            self._remembered.add(key, audience)
        return audience

    def compute(self, ep: str, path: str, ept: str | None, *, is_registered: bool = False) -> Audience:
        """Who gets a notification, from the subscriptions themselves.

        ``is_registered``: the device registered just now, and has no manual ones any more.
        """
        applications = set() if is_registered else set(self.manual.get(ep, path))
        for application_id, matcher in self._matchers.items():
            if matcher.matches(ep, ept, path):
                applications.add(application_id)
        return self._of(tuple(sorted(applications)))

    def union(self, one: Audience, other: Audience) -> Audience:
        """Those in either, the same object each time."""
        union = self._unions.get((one, other))
        if union is None:
            if len(self._unions) >= self._audiences_max:
                self._unions.clear()
            union = self._of(tuple(sorted({*one.applications, *other.applications})))
            self._unions[one, other] = union
        return union

    def everyone(self) -> Audience:
        """Who gets life-cycle events."""
        if self._everyone is None:
            self._everyone = Audience(tuple(self._channels))
        return self._everyone

    def just(self, application_id: int | None) -> Audience:
        """One application, or nobody."""
        return self._of(() if application_id is None else (application_id,))

    def channels_of(self, audience: Audience) -> tuple[int, ...]:
        """The channels of those in an audience who have one."""
        channels = self._channels
        return tuple([channels[id_] for id_ in audience.applications if id_ in channels])

    def _of(self, applications: tuple[int, ...]) -> Audience:
        """The audience of these applications, the same object each time.

        Forgetting it is harmless: two audiences of the same applications are two groups.
        """
        audience = self._audiences.get(applications)
        if audience is None:
            if len(self._audiences) >= self._audiences_max:
                self._audiences.clear()
            audience = self._audiences[applications] = Audience(applications)
        return audience
