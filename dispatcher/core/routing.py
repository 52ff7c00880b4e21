"""Which channels get an event.

One ``Router`` holds what routing needs of all accounts, patched as applications
change their channels and subscriptions, and asked for every request.

An event is first matched to an *audience*: the applications that subscribed to its
device and resource.  Which of them have a channel is looked up once per request and
audience.  So channels come and go without touching what is remembered.

Notifications, which are nearly all, are matched by their bytes, all of a request in one go
(``core.route_table``): to who subscribed by hand (``core.manual_subscriptions``), and to whom
pre-subscriptions choose (``core.chosen_audiences``).  A request that holds anything else is
matched event by event, for what devices tell in it holds for what follows.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from dispatcher import limits
from dispatcher.core.chosen_audiences import ChosenAudiences
from dispatcher.core.manual_subscriptions import ManualSubscriptions
from dispatcher.core.route_table import ROOT, PlainFinder, RouteFinder, Way, pair_of, text_of
from dispatcher.core.routes import RoutePlan as RoutePlan
from dispatcher.core.routes import Routes
from dispatcher.errors import MemoryFull
from dispatcher.model import (
    AsyncAnswer,
    DeviceChange,
    Kind,
    Presubscription,
    RecordBlock,
    RecordMetas,
    Subscription,
)

_PAIR_COST = 24  # of what is remembered of a pair, in channels

Audience = tuple[int, ...]
"""Applications that get the same events, rising."""


class RoutableEvents(Protocol):
    """What routing must know of a request; ``wire.ingest.Parsed`` is one.

    ``block`` and ``meta`` are those of ``queue.interface.Records``.  ``eps`` and ``paths`` are
    asked for only when not all are notifications.  Of these, each has an ep and a path, a
    life-cycle event has an ep alone, an async response neither.
    """

    @property
    def block(self) -> RecordBlock: ...
    @property
    def meta(self) -> RecordMetas: ...
    @property
    def eps(self) -> Sequence[str | None]: ...
    @property
    def paths(self) -> Sequence[str | None]: ...
    @property
    def device_changes(self) -> Sequence[DeviceChange]: ...
    @property
    def async_answers(self) -> Sequence[AsyncAnswer]: ...


class Router:
    """The routing snapshot of all accounts.  Every change holds from the next event on.

    Memory: ``limits.ROUTE_CACHE_MAX`` remembered devices and paths per account, and the channels of
    their audiences, ``limits.ROUTE_CHANNELS_MAX``;
    ``limits.DEVICE_TYPES_MAX`` device types in all, besides the subscriptions themselves.
    """

    def __init__(
        self,
        finder: RouteFinder | None = None,
        *,
        route_cache_max: int = limits.ROUTE_CACHE_MAX,
        route_channels_max: int = limits.ROUTE_CHANNELS_MAX,
        device_types_max: int = limits.DEVICE_TYPES_MAX,
    ) -> None:
        """``finder`` None: the plain one, in Python."""
        self._finder = PlainFinder() if finder is None else finder
        self._route_cache_max = route_cache_max
        self._route_channels_max = route_channels_max
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
        self._account(account_id).chosen.set(application_id, tuple(entries))

    def presubscriptions(self, account_id: int, application_id: int) -> tuple[Presubscription, ...]:
        """An application's set, as it was given."""
        account = self._accounts.get(account_id)
        return account.chosen.presubscriptions.get(application_id, ()) if account else ()

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
        return account is not None and (bool(account.chosen) or ep in account.manual)

    def is_wanted(self, account_id: int, ep: str, path: str) -> bool:
        """Whether any application is subscribed to a resource, by whatever means."""
        return bool(self.wanted_paths(account_id, ep, self.device_type(account_id, ep), (path,)))

    def wanted_paths(self, account_id: int, ep: str, ept: str | None, paths: Iterable[str]) -> list[str]:
        """Those of a device's resources that any application is subscribed to."""
        account = self._accounts.get(account_id)
        if account is None:
            return []
        return [path for path in paths if account.compute(ep, path, ept)]

    def presubscriptions_version(self, account_id: int) -> int:
        """A number that moves with each change of an account's pre-subscriptions."""
        account = self._accounts.get(account_id)
        return account.chosen.version if account is not None else 0

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
            self._account(account_id).chosen.forget_device(ep)
        if len(self._device_types) > self._device_types_max:
            (other_account_id, other_ep), _ = self._device_types.popitem(last=False)
            self._account(other_account_id).chosen.forget_device(other_ep)

    def forget_type(self, account_id: int, ep: str) -> None:
        """A device's type is not known any more."""
        if self._device_types.pop((account_id, ep), None) is not None:
            self._account(account_id).chosen.forget_device(ep)

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
        return tuple(account.channels_of(account.compute(ep, path, self.device_type(account_id, ep))))

    def life_cycle_channels(self, account_id: int) -> tuple[int, ...]:
        """The channels that get life-cycle events: all of the account."""
        account = self._accounts.get(account_id)
        return tuple(account.channels_of(account.everyone())) if account else ()

    def way(self, account_id: int) -> Way | None:
        """Where an account's notifications go, as far as that is remembered; None: nobody is there."""
        account = self._accounts.get(account_id)
        return None if account is None else account.way()

    def plan_routes(
        self, account_id: int, events: RoutableEvents, askers: Sequence[int | None] = ()
    ) -> RoutePlan:
        """Say which channel gets which of a request's events.  Changes nothing but what is remembered.

        ``askers`` has the application of each async response, None for those nobody waits for.
        Life-cycle events hold for the notifications that follow them in the same request.
        """
        count = len(events.meta)
        account = self._accounts.get(account_id)
        if account is None or not count:
            return RoutePlan(Routes(count, array("Q")), count)
        way = account.way()
        if events.device_changes or events.async_answers:
            audiences, of = _grouped(self._audiences_of_mixed(account_id, account, events, askers))
            channels_of = [account.channels_of(audience) for audience in audiences]
        else:
            channels_of, of = self._channels_of_notifications(account_id, account, way, events)
        if of:
            return self._finder.fan_out(of, channels_of)
        return RoutePlan(Routes(count, channels_of[0]), 0 if channels_of[0] else count)

    def _channels_of_notifications(
        self, account_id: int, account: _Account, way: Way, events: RoutableEvents
    ) -> tuple[list[array[int]], array[int]]:
        """The channels of each group of events, and which group each event has; empty: all have the first."""
        ept = partial(self.device_type, account_id)
        groups = self._finder.find(
            way.manual,
            way.chosen,
            way.chosen_from,
            events.block,
            events.meta,
            lambda ep, path: account.chosen.number(ep, path, ept),
        )
        return account.channels_of_pairs(groups.keys), groups.of

    def _audiences_of_mixed(
        self,
        account_id: int,
        account: _Account,
        events: RoutableEvents,
        askers: Sequence[int | None],
    ) -> Iterator[Audience]:
        changes = iter(events.device_changes)
        asker = iter(askers)
        ept = partial(self.device_type, account_id)
        changed_types: dict[str, str | None] = {}  # not learnt before the request is stored
        registered: set[str] = set()  # a full registration ends manual subscriptions
        for ep, path in zip(events.eps, events.paths, strict=True):
            if ep is None:
                application_id = next(asker, None)
                yield () if application_id is None else (application_id,)
            elif path is None:
                known = changed_types[ep] if ep in changed_types else ept(ep)
                change = next(changes)
                changed_types[ep] = _type_after(change, known)
                if change.kind is Kind.REGISTRATION:
                    registered.add(ep)
                yield account.everyone()
            elif ep in changed_types:
                yield account.compute(ep, path, changed_types[ep], is_registered=ep in registered)
            else:
                number = account.chosen.number(text_of(ep), text_of(path), ept)
                yield _union(account.manual.get(ep, path), account.chosen.audience(number))

    def _account(self, account_id: int) -> _Account:
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account(
                self._finder, self._route_cache_max, self._route_channels_max
            )
        return account


def _type_after(change: DeviceChange, known: str | None) -> str | None:
    """A device's type after a life-cycle event."""
    if change.kind == Kind.REGISTRATION:
        return change.ept
    if change.kind == Kind.REG_UPDATE:
        return known if change.ept is None else change.ept
    return None


def _union(one: Audience, other: Audience) -> Audience:
    return tuple(sorted({*one, *other})) if one and other else one or other


def _grouped(audiences: Iterable[Audience]) -> tuple[list[Audience], array[int]]:
    """The different audiences, in the order in which they come up, and which of them each was."""
    places: dict[Audience, int] = {}
    of = array("I", [places.setdefault(audience, len(places)) for audience in audiences])
    return list(places), of if len(places) > 1 else array("I")


class _Account:
    """One account's part of the snapshot."""

    def __init__(self, finder: RouteFinder, route_cache_max: int, route_channels_max: int) -> None:
        self.manual = ManualSubscriptions(finder.new_table())
        self.chosen = ChosenAudiences(finder.new_table, route_cache_max)
        self._channels: dict[int, int] = {}  # by application
        self._everyone: Audience | None = None
        self._channels_max = route_channels_max
        self._found = finder.new_audiences()  # the channels of pairs of audiences
        self._found_channels = 0
        self._found_with = (0, 0)  # the versions of numbers that pairs are made of
        self._way: Way | None = None
        self._way_marks = (0, 0, 0, 0)  # as they were when it was made

    def set_channel(self, application_id: int, channel_id: int | None) -> None:
        if channel_id is None:
            self._channels.pop(application_id, None)
        else:
            self._channels[application_id] = channel_id
        self._everyone = None
        self._forget_found()

    def compute(self, ep: str, path: str, ept: str | None, *, is_registered: bool = False) -> Audience:
        """Who gets a notification, from the subscriptions themselves.

        ``is_registered``: the device registered just now, and has no manual ones any more.
        """
        manual = () if is_registered else self.manual.get(ep, path)
        return _union(manual, self.chosen.choose(ep, ept, path))

    def everyone(self) -> Audience:
        """Who gets life-cycle events."""
        if self._everyone is None:
            self._everyone = tuple(sorted(self._channels))
        return self._everyone

    def channels_of(self, audience: Audience) -> array[int]:
        """The channels of those in an audience who have one."""
        channels = self._channels
        return array("Q", [channels[id_] for id_ in audience if id_ in channels])

    def way(self) -> Way:
        """Where notifications go, as far as that is remembered; the same object as long as it is the same."""
        way = self._way
        if way is None or self._way_marks != self._marks():
            self._way = way = self._new_way()
            self._way_marks = self._marks()
        return way

    def _marks(self) -> tuple[int, int, int, int]:
        """What moves whenever a new way may be another, or has to make room."""
        chosen = self.chosen
        return self.manual.version, chosen.beginnings, chosen.remembered, self._found_channels

    def _new_way(self) -> Way:
        manual, chosen = self.manual, self.chosen
        if chosen:
            chosen.make_room()
        versions = (manual.version, chosen.beginnings)
        if versions != self._found_with or self._found_channels >= self._channels_max:
            self._forget_found()
            self._found_with = versions
        return Way(
            manual.table if manual else None,
            chosen.table if chosen else None,
            chosen.start() if chosen else ROOT,
            self._found,
        )

    def channels_of_pairs(self, keys: Sequence[int]) -> list[array[int]]:
        """The same for pairs of audiences, found on the ``way`` just made, by their keys.

        Not to be changed by the caller.
        """
        get = self._found.get
        return [self._find(key) if (channels := get(key)) is None else channels for key in keys]

    def _find(self, key: int) -> array[int]:
        one, other = pair_of(key)
        channels = self.channels_of(_union(self.manual.audience(one), self.chosen.audience(other)))
        if self._found_channels < self._channels_max:
            with suppress(MemoryFull):  # then it is found again when it is asked for
                self._found.put(key, channels)
            self._found_channels += len(channels) + _PAIR_COST
        return channels

    def _forget_found(self) -> None:
        self._found.clear()
        self._found_channels = 0
