"""The registry in dictionaries: for embedding without a data folder, and for tests.

Every change happens between two awaits, so it is whole; nothing outlives the process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

import trio
from msgspec.structs import replace

from dispatcher.core import access
from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    Channel,
    Device,
    DeviceReport,
    DeviceRequest,
    Kind,
    ParkedCount,
    ParkedEvent,
    Presubscription,
    Subscription,
)
from dispatcher.registry import refusals
from dispatcher.registry.interface import Contents, DueDevices, Identities, LifeTimes
from dispatcher.registry.memory_devices import MemoryDevices


class MemoryRegistry:
    """``Registry`` over dictionaries, all by id."""

    def __init__(self, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._random_bytes = random_bytes
        self._accounts: dict[int, Account] = {}
        self._applications: dict[int, Application] = {}
        self._keys: dict[str, AccessKey] = {}
        self._digests: set[bytes] = set()
        self._revoked_ids: set[str] = set()  # their keys stay: ids and digests are never taken again
        self._channels: dict[int, Channel] = {}
        self._channel_ids: dict[int, int] = {}  # by application
        self._channels_added = 0
        self._paths: dict[int, dict[str, set[str]]] = {}  # subscribed, by application and ep
        self._subscription_counts: dict[int, int] = {}  # by account
        self._presubscriptions: dict[int, tuple[Presubscription, ...]] = {}
        self._life_times = LifeTimes()
        self._devices = MemoryDevices()
        self._requests: dict[int, DeviceRequest] = {}
        self._requests_added = 0
        self._parked: dict[int, ParkedEvent] = {}
        self._parked_added = 0
        self._epoch = 0
        self._has_new_identities = True

    def __repr__(self) -> str:
        return f"<MemoryRegistry applications={len(self._applications)} channels={len(self._channels)}>"

    async def load(self) -> Contents:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        return Contents(
            identities=self._identities(),
            channels=tuple(self._channels.values()),
            subscriptions=tuple(sorted(s for id in self._paths for s in self._matching(id, None, None))),
            presubscriptions=dict(sorted(self._presubscriptions.items())),
            life_times=replace(self._life_times, clocks=dict(self._life_times.clocks)),
            device_requests=tuple(
                (request, self._devices.find(request.account_id, request.ep))
                for request in self._requests.values()
            ),
            parked_counts=self._parked_counts(),
            device_types=self._devices.types(),
        )

    async def identities_if_changed(self) -> Identities | None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        return self._identities() if self._has_new_identities else None

    async def next_epoch(self) -> int:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        self._epoch += 1
        return self._epoch

    async def ensure_account(self, name: str, tier: str) -> Account:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        access.check_name("account", name)
        for account in self._accounts.values():
            if account.name == name:
                return account
        account = Account(id=len(self._accounts) + 1, name=name, tier=tier)
        self._accounts[account.id] = account
        self._has_new_identities = True
        return account

    async def set_tier(self, account_id: int, tier: str) -> Account:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        account = replace(self._account(account_id), tier=tier)
        self._accounts[account_id] = account
        self._has_new_identities = True
        return account

    async def create_application(
        self, account_id: int, name: str | None, applications_max: int
    ) -> Application:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        if name is None:
            name = access.make_application_name(self._random_bytes(access.APPLICATION_NAME_RANDOM_BYTES))
        access.check_name("application", name)
        account = self._account(account_id)
        names = [a.name for a in self._applications.values() if a.account_id == account_id]
        if name in names:
            raise refusals.application_exists(account, name)
        if 0 < applications_max <= len(names):
            raise refusals.too_many_applications(account, applications_max)
        application = Application(id=len(self._applications) + 1, account_id=account_id, name=name)
        self._applications[application.id] = application
        self._has_new_identities = True
        return application

    async def add_key(self, key: AccessKey) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        if key.account_id is not None:
            self._account(key.account_id)
        if key.application_id is not None:
            application = self._application(key.application_id)
            if application.account_id != key.account_id:
                raise refusals.no_application(key.application_id)
        if key.id in self._keys or key.digest in self._digests:
            raise refusals.key_exists(key.id)
        self._digests.add(key.digest)
        self._keys[key.id] = key
        self._has_new_identities = True

    async def revoke_key(self, key_id: str) -> bool:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        if key_id not in self._keys or key_id in self._revoked_ids:
            return False
        self._revoked_ids.add(key_id)
        self._has_new_identities = True
        return True

    async def add_channel(self, channel: Channel) -> Channel:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        application = self._application(channel.application_id)
        if application.id in self._channel_ids:
            raise refusals.channel_exists()
        self._channels_added += 1
        added = replace(channel, id=self._channels_added, account_id=application.account_id)
        self._channels[added.id] = added
        self._channel_ids[application.id] = added.id
        return added

    async def update_channel(self, channel: Channel) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        stored = self._channels.get(channel.id)
        if stored is None:
            raise refusals.no_channel(channel.id)
        self._channels[channel.id] = replace(
            stored,
            url=channel.url,
            headers=channel.headers,
            signing=channel.signing,
            is_gzipped=channel.is_gzipped,
            serialization=channel.serialization,
            learned_batch_bytes=channel.learned_batch_bytes,
            is_paused=channel.is_paused,
        )

    async def remove_channel(self, channel_id: int) -> bool:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        removed = self._channels.pop(channel_id, None)
        if removed is None:
            return False
        del self._channel_ids[removed.application_id]
        self._life_times.clocks.pop(channel_id, None)
        self._parked = {id_: event for id_, event in self._parked.items() if event.channel_id != channel_id}
        return True

    async def add_subscription(self, subscription: Subscription, account_max: int) -> bool:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        account = self._account(self._application(subscription.application_id).account_id)
        paths_by_ep = self._paths.setdefault(subscription.application_id, {})
        if subscription.path in paths_by_ep.get(subscription.ep, ()):
            return False
        count = self._subscription_counts.get(account.id, 0)
        if count >= account_max:
            raise refusals.too_many_subscriptions(account, account_max)
        paths_by_ep.setdefault(subscription.ep, set()).add(subscription.path)
        self._subscription_counts[account.id] = count + 1
        return True

    async def remove_subscriptions(
        self, application_id: int, ep: str | None = None, path: str | None = None
    ) -> Sequence[Subscription]:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        return self._remove_subscriptions(application_id, ep, path)

    async def set_presubscriptions(
        self, application_id: int, presubscriptions: Sequence[Presubscription]
    ) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        self._application(application_id)
        self._presubscriptions.pop(application_id, None)
        if presubscriptions:
            self._presubscriptions[application_id] = tuple(presubscriptions)

    async def keep_devices(self, reports: Sequence[DeviceReport], account_max: int) -> Sequence[Subscription]:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        removed: list[Subscription] = []
        for report in reports:
            self._devices.keep(report, account_max)
            if report.change.kind is Kind.REGISTRATION:
                for application in self._applications.values():
                    if application.account_id == report.account_id:
                        removed += self._remove_subscriptions(application.id, report.change.ep, None)
        return tuple(removed)

    async def device(self, account_id: int, ep: str) -> Device | None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        return self._devices.find(account_id, ep)

    async def due_devices(self, now_unix_ms: int, count_max: int) -> DueDevices:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        return self._devices.due(now_unix_ms, count_max)

    async def add_device_request(self, request: DeviceRequest) -> DeviceRequest:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        if self._application(request.application_id).account_id != request.account_id:
            raise refusals.no_application(request.application_id)
        self._requests_added += 1
        wire_id = request.wire_id or f"{request.async_id}.{self._requests_added}"
        added = replace(request, id=self._requests_added, wire_id=wire_id)
        self._requests[added.id] = added
        return added

    async def remove_device_requests(self, ids: Sequence[int]) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        for id_ in ids:
            self._requests.pop(id_, None)

    async def park_event(self, event: ParkedEvent) -> bool:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        if event.channel_id not in self._channels:
            raise refusals.no_channel(event.channel_id)
        place = (event.channel_id, event.position)
        if any((one.channel_id, one.position) == place for one in self._parked.values()):
            return False
        self._parked_added += 1
        self._parked[self._parked_added] = replace(event, id=self._parked_added)
        return True

    async def parked_events(self, channel_id: int, after_id: int, count_max: int) -> tuple[ParkedEvent, ...]:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        found = [one for one in self._parked.values() if one.channel_id == channel_id and one.id > after_id]
        return tuple(found[:count_max])

    async def remove_parked_events(self, ids: Sequence[int]) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        for id_ in ids:
            self._parked.pop(id_, None)

    async def save_life_times(self, life_times: LifeTimes) -> None:
        """See ``Registry``."""
        await trio.lowlevel.checkpoint()
        clocks = self._life_times.clocks | life_times.clocks
        kept = {number: clocks[number] for number in sorted(clocks) if number in self._channels}
        self._life_times = replace(life_times, clocks=kept)

    async def close(self) -> None:
        """See ``Registry``.  Nothing to do."""

    def _remove_subscriptions(
        self, application_id: int, ep: str | None, path: str | None
    ) -> tuple[Subscription, ...]:
        account_id = self._application(application_id).account_id
        removed = tuple(sorted(self._matching(application_id, ep, path)))
        for subscription in removed:
            paths = self._paths[application_id][subscription.ep]
            paths.remove(subscription.path)
            if not paths:
                del self._paths[application_id][subscription.ep]
        self._subscription_counts[account_id] = self._subscription_counts.get(account_id, 0) - len(removed)
        return removed

    def _parked_counts(self) -> dict[int, ParkedCount]:
        counts: dict[int, ParkedCount] = {}
        for event in self._parked.values():
            so_far = counts.get(event.channel_id, ParkedCount())
            counts[event.channel_id] = ParkedCount(
                so_far.events + 1, so_far.message_bytes + len(event.message)
            )
        return counts

    def _identities(self) -> Identities:
        self._has_new_identities = False
        return Identities(
            accounts=tuple(self._accounts.values()),
            applications=tuple(self._applications.values()),
            keys=tuple(key for key in self._keys.values() if key.id not in self._revoked_ids),
        )

    def _matching(self, application_id: int, ep: str | None, path: str | None) -> Iterator[Subscription]:
        paths_by_ep = self._paths.get(application_id, {})
        for each in paths_by_ep if ep is None else [ep]:
            for found in paths_by_ep.get(each, ()):
                if path in (None, found):
                    yield Subscription(application_id, each, found)

    def _account(self, account_id: int) -> Account:
        if account_id not in self._accounts:
            raise refusals.no_account(account_id)
        return self._accounts[account_id]

    def _application(self, application_id: int) -> Application:
        if application_id not in self._applications:
            raise refusals.no_application(application_id)
        return self._applications[application_id]
