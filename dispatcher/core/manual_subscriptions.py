"""An account's manual subscriptions, found at C speed whether there are a thousand or a million.

Fleets are alike: most devices have the same resources, subscribed by the same applications.
What is subscribed of a device is its *profile*, and devices with equal ones share it:

    "dev-1" ──┐
    "dev-2" ──┼──▶ { "/3303/0/5700": audience, "/3303/0/5701": audience }
    "dev-3" ──┘

So a device costs one entry of one dictionary, and a look-up fetches one thing from far memory,
not a dictionary per device. Only small profiles are shared, because changing a shared
one makes a new one; a larger one is its device's own, and is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat

from dispatcher import limits
from dispatcher.core.route_cache import Audience
from dispatcher.model import Subscription

_Key = tuple[tuple[str, tuple[int, ...]], ...]


class _Profile(dict[str, Audience]):
    """What is subscribed of a device: an audience for each path."""

    __slots__ = ("devices", "key")

    key: _Key | None  # under which it is shared; None: it is one device's own
    devices: int


_NOTHING: Mapping[str, Audience] = {}


class ManualSubscriptions:
    """Exact at all times; every step costs by the paths of one device, at most."""

    def __init__(self, audience_of: Callable[[tuple[int, ...]], Audience]) -> None:
        """``audience_of`` gives the audience of these applications, often the same object."""
        self._audience_of = audience_of
        self._profiles: dict[str, _Profile] = {}  # by ep
        self._shared: dict[_Key, _Profile] = {}

    def __bool__(self) -> bool:
        return bool(self._profiles)

    def __contains__(self, ep: str) -> bool:
        return ep in self._profiles

    def get(self, ep: str, path: str) -> tuple[int, ...]:
        """The applications that are subscribed to a resource."""
        audience = self._profiles.get(ep, _NOTHING).get(path)
        return () if audience is None else audience.applications

    def paths(self, ep: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What is subscribed of a device, and by whom."""
        for path, audience in self._profiles.get(ep, _NOTHING).items():
            yield path, audience.applications

    def find(
        self, eps: Sequence[str | None], paths: Sequence[str | None], nobody: Audience
    ) -> list[Audience]:
        """The audience of each pair, ``nobody`` where there is none.  No Python per pair."""
        profiles = map(self._profiles.get, eps, repeat(_NOTHING))  # type: ignore[arg-type]
        return list(map(dict.get, profiles, paths, repeat(nobody)))  # type: ignore[arg-type]

    def add(self, subscription: Subscription) -> None:
        """Add one; adding it twice is once."""
        applications = self.get(subscription.ep, subscription.path)
        if subscription.application_id not in applications:
            self._set(subscription, (*applications, subscription.application_id))

    def remove(self, subscription: Subscription) -> None:
        """Remove one, if it is there."""
        applications = self.get(subscription.ep, subscription.path)
        if subscription.application_id in applications:
            self._set(subscription, tuple(id_ for id_ in applications if id_ != subscription.application_id))

    def remove_device(self, ep: str) -> None:
        """Remove all of a device's."""
        profile = self._profiles.pop(ep, None)
        if profile is not None:
            self._leave(profile)

    def _set(self, subscription: Subscription, applications: tuple[int, ...]) -> None:
        profile = self._profiles.get(subscription.ep)
        if profile is None:
            changed = _Profile()
        elif profile.key is None:
            changed = profile  # its own
        else:
            changed = _Profile(profile)
            self._leave(profile)
        if applications:
            changed[subscription.path] = self._audience_of(applications)
        else:
            del changed[subscription.path]
        if changed:
            self._profiles[subscription.ep] = self._share(changed)
        else:
            self._profiles.pop(subscription.ep, None)

    def _share(self, profile: _Profile) -> _Profile:
        """The profile that devices like this one have, or this one."""
        profile.key = None
        if len(profile) > limits.SHARED_PROFILE_PATHS_MAX:
            return profile
        key = tuple(sorted((path, audience.applications) for path, audience in profile.items()))
        shared = self._shared.get(key)
        if shared is None:
            profile.key, profile.devices = key, 0
            shared = self._shared[key] = profile
        shared.devices += 1
        return shared

    def _leave(self, profile: _Profile) -> None:
        if profile.key is None:
            return
        profile.devices -= 1
        if not profile.devices:
            del self._shared[profile.key]
