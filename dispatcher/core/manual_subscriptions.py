"""An account's manual subscriptions, found at the same cost whether there are a thousand or a million.

Fleets are alike: most devices have the same resources, subscribed by the same applications.
What is subscribed of a device is its *profile*, and devices with equal ones share it:

    "dev-1" ──┐
    "dev-2" ──┼──▶ profile ──┬── "/3303/0/5700" ──▶ an audience
    "dev-3" ──┘              └── "/3303/0/5701" ──▶ an audience

So a device costs one edge of a table (``core.route_table``), and no Python object. Only small
profiles are shared, because changing a shared one makes a new one; a device that once had more
keeps a profile of its own, which is changed in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from dispatcher import limits
from dispatcher.core.route_table import ROOT, RouteTable, text_of
from dispatcher.model import Subscription

_T = TypeVar("_T")
_Key = tuple[tuple[str, tuple[int, ...]], ...]


class _Profile:
    """What is subscribed of a device: the applications of each path."""

    __slots__ = ("devices", "key", "number", "paths")

    def __init__(self, paths: dict[str, tuple[int, ...]], key: _Key | None) -> None:
        self.paths = paths
        self.key = key  # under which it is shared; None: it is one device's own
        self.devices = 0
        self.number = 0


class ManualSubscriptions:
    """Exact at all times; every step costs by the paths of one device, at most."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.version = 0  # moves when an audience's number may come to stand for another, and with the first
        self._profiles: _Numbered[_Profile] = _Numbered()
        self._shared: dict[_Key, _Profile] = {}
        self._audiences: _Numbered[tuple[int, ...]] = _Numbered()
        self._audience_numbers: dict[tuple[int, ...], list[int]] = {}  # its number, and how many have it

    def __bool__(self) -> bool:
        return bool(self._profiles)

    def __contains__(self, ep: str) -> bool:
        return self.table.get(ROOT, text_of(ep)) != 0

    def audience(self, number: int) -> tuple[int, ...]:
        """The applications that an edge of the table leads to, over a path; of 0 nobody."""
        return self._audiences[number] if number else ()

    def get(self, ep: str, path: str) -> tuple[int, ...]:
        """The applications that are subscribed to a resource."""
        profile = self._find(text_of(ep))
        return () if profile is None else profile.paths.get(path, ())

    def paths(self, ep: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What is subscribed of a device, and by whom."""
        profile = self._find(text_of(ep))
        return iter(()) if profile is None else iter(tuple(profile.paths.items()))

    def add(self, subscription: Subscription) -> None:
        """Add one; adding it twice is once."""
        ep, path = text_of(subscription.ep), subscription.path
        profile = self._find(ep)
        applications = () if profile is None else profile.paths.get(path, ())
        if subscription.application_id not in applications:
            self._set(ep, profile, path, tuple(sorted((*applications, subscription.application_id))))

    def remove(self, subscription: Subscription) -> None:
        """Remove one, if it is there."""
        ep, path = text_of(subscription.ep), subscription.path
        profile = self._find(ep)
        applications = () if profile is None else profile.paths.get(path, ())
        if subscription.application_id in applications:
            remaining = tuple(id_ for id_ in applications if id_ != subscription.application_id)
            self._set(ep, profile, path, remaining)

    def remove_device(self, ep: str) -> None:
        """Remove all of a device's."""
        text = text_of(ep)
        self._move(text, self._find(text), None)

    def _find(self, ep: bytes) -> _Profile | None:
        number = self.table.get(ROOT, ep)
        return self._profiles[number] if number else None

    def _set(self, ep: bytes, profile: _Profile | None, path: str, applications: tuple[int, ...]) -> None:
        """Give a path of a device, which has this profile, other applications."""
        if profile is not None and profile.key is None:
            self._change_own(ep, profile, path, applications)
            return
        paths = {} if profile is None else profile.paths.copy()
        if applications:
            paths[path] = applications
        else:
            del paths[path]
        self._move(ep, profile, self._with(paths) if paths else None)

    def _change_own(self, ep: bytes, profile: _Profile, path: str, applications: tuple[int, ...]) -> None:
        if path in profile.paths:
            self._cut(profile, path)
            del profile.paths[path]
        if applications:
            profile.paths[path] = applications
            self._lead(profile, path)
        elif not profile.paths:
            self._move(ep, profile, None)

    def _with(self, paths: dict[str, tuple[int, ...]]) -> _Profile:
        """The profile that devices like this one have, or a new one."""
        key = tuple(sorted(paths.items())) if len(paths) <= limits.SHARED_PROFILE_PATHS_MAX else None
        profile = None if key is None else self._shared.get(key)
        if profile is None:
            self.version += not self._profiles
            profile = _Profile(paths, key)
            profile.number = self._profiles.add(profile)
            for path in paths:
                self._lead(profile, path)
            if key is not None:
                self._shared[key] = profile
        return profile

    def _move(self, ep: bytes, before: _Profile | None, after: _Profile | None) -> None:
        """Give a device another profile, and forget the one before if nobody has it."""
        if after is not None:
            self.table.put(ROOT, ep, after.number)
            after.devices += 1
        elif before is not None:
            self.table.remove(ROOT, ep)
        if before is None:
            return
        before.devices -= 1
        if not before.devices:
            for path in before.paths:
                self._cut(before, path)
            self._profiles.remove(before.number)
            if before.key is not None:
                del self._shared[before.key]

    def _lead(self, profile: _Profile, path: str) -> None:
        """Lead a path of a profile to its audience."""
        applications = profile.paths[path]
        held = self._audience_numbers.get(applications)
        if held is None:
            held = self._audience_numbers[applications] = [self._audiences.add(applications), 0]
        held[1] += 1
        self.table.put(profile.number, text_of(path), held[0])

    def _cut(self, profile: _Profile, path: str) -> None:
        """Take back what ``_lead`` did."""
        applications = profile.paths[path]
        held = self._audience_numbers[applications]
        held[1] -= 1
        if not held[1]:
            self._audiences.remove(held[0])
            self.version += 1
            del self._audience_numbers[applications]
        self.table.remove(profile.number, text_of(path))


class _Numbered(Generic[_T]):
    """Values by a number from 1, which is given again when its value has gone."""

    def __init__(self) -> None:
        self._values: list[_T | None] = [None]
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._values) - 1 - len(self._free)

    def __getitem__(self, number: int) -> _T:
        value = self._values[number]
        assert value is not None
        return value

    def add(self, value: _T) -> int:
        """Give a value a number."""
        if self._free:
            number = self._free.pop()
            self._values[number] = value
        else:
            number = len(self._values)
            self._values.append(value)
        return number

    def remove(self, number: int) -> None:
        """Forget a value."""
        self._values[number] = None
        self._free.append(number)
