"""The registry seam: the truth about what exists.

Never on the event path: the dispatcher loads everything once, keeps a snapshot,
and patches it after each change.  A change is committed durably before its method
returns, so that an HTTP answer never runs ahead of the disk.

``sqlite`` keeps it in a data folder, ``memory`` in dictionaries; one conformance
suite runs over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    Channel,
    ChannelClocks,
    Device,
    DeviceReport,
    DeviceRequest,
    ParkedCount,
    ParkedEvent,
    Presubscription,
    Subscription,
)


class Identities(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts, applications and keys; what the command line may change beside a running daemon."""

    accounts: tuple[Account, ...]
    applications: tuple[Application, ...]
    keys: tuple[AccessKey, ...]  # revoked ones are not in here, expired ones are


class LifeTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How far the clocks were when they were last saved."""

    up_s: float = 0.0  # seconds that a dispatcher was up on this registry, over all its runs
    unix_ms: int = 0  # the wall clock then
    clocks: dict[int, ChannelClocks] = {}  # by channel


class DueDevices(msgspec.Struct, frozen=True, kw_only=True):
    """Devices whose registration has run out, the earliest first, and when the next one does."""

    devices: tuple[Device, ...]
    next_unix_ms: int | None  # None: none does


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the directory of devices, which is read device by device."""

    identities: Identities
    channels: tuple[Channel, ...]
    subscriptions: tuple[Subscription, ...]
    presubscriptions: dict[int, tuple[Presubscription, ...]]  # by application id
    life_times: LifeTimes
    device_requests: tuple[tuple[DeviceRequest, Device | None], ...]  # first come first, with their device
    parked_counts: dict[int, ParkedCount]  # by channel; of those of which anything is parked
    device_types: list[tuple[int, str, str]]  # account id, ep and ept; the one heard of last at the end


class Registry(Protocol):
    """What exists.

    Every method is safe to cancel: the change is then either made or not, never
    half.  Methods that name an application that does not exist raise ``NotFound``.
    """

    async def load(self) -> Contents:
        """Everything there is."""
        ...

    async def next_epoch(self) -> int:
        """A number larger than any given before, from 1; one is drawn at each start."""
        ...

    async def identities_if_changed(self) -> Identities | None:
        """The identities, when anyone changed them since they were last returned, else None.

        Cheap when nothing changed: it is asked every ``limits.KEY_RELOAD_INTERVAL_S``.
        """
        ...

    async def ensure_account(self, name: str, tier: str) -> Account:
        """The account of this name, made with ``tier`` if there is none.

        Raises ``ValidationError`` for what is not a name (``core.access.check_name``).
        """
        ...

    async def set_tier(self, account_id: int, tier: str) -> Account:
        """Give an account another tier and return it; its channels keep the limits they have.

        Raises ``NotFound``.
        """
        ...

    async def create_application(
        self, account_id: int, name: str | None, applications_max: int
    ) -> Application:
        """Make an application; ``name`` None: a random one.

        ``applications_max`` is the tier's bound, 0 for none.  Raises ``Conflict``
        when the name is taken, ``TooManyRequests`` at the bound, ``ValidationError``
        for what is not a name.
        """
        ...

    async def add_key(self, key: AccessKey) -> None:
        """Add a key.

        Raises ``Conflict`` when its id or digest exists, be it a revoked key's, and
        ``NotFound`` when its application is not one of its account's.
        """
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke a key; False when there is no such (unrevoked) key."""
        ...

    async def add_channel(self, channel: Channel) -> Channel:
        """Add a channel and return it with its ``id`` given (the argument's is ignored).

        Its account is the application's.  Ids are never given twice.
        Raises ``Conflict`` when the application has one.
        """
        ...

    async def update_channel(self, channel: Channel) -> None:
        """Replace what an application chose for its channel, its learned size and pause, found by ``id``.

        Raises ``NotFound``.
        """
        ...

    async def remove_channel(self, channel_id: int) -> bool:
        """Remove a channel; False when there is none."""
        ...

    async def add_subscription(self, subscription: Subscription, account_max: int) -> bool:
        """Add a manual subscription; False when it was there.

        Raises ``TooManyRequests`` when the application's account has ``account_max`` already.
        """
        ...

    async def remove_subscriptions(
        self, application_id: int, ep: str | None = None, path: str | None = None
    ) -> Sequence[Subscription]:
        """Remove one resource's, one device's or all manual subscriptions; return those removed."""
        ...

    async def set_presubscriptions(
        self, application_id: int, presubscriptions: Sequence[Presubscription]
    ) -> None:
        """Replace the whole set."""
        ...

    async def keep_devices(self, reports: Sequence[DeviceReport], account_max: int) -> Sequence[Subscription]:
        """Write to the directory what devices' life-cycle events tell (``core.devices``), in order.

        A full registration takes away the device's manual subscriptions, every
        application's; they are returned.  Of an account with ``account_max`` devices a new one
        takes the place of one that is gone, or else of the one heard of longest ago.
        """
        ...

    async def device(self, account_id: int, ep: str) -> Device | None:
        """A device; one that is known to be gone says so, None is one never heard of, or forgotten."""
        ...

    async def due_devices(self, now_unix_ms: int, count_max: int) -> DueDevices:
        """Which registrations have run out; nothing is changed."""
        ...

    async def add_device_request(self, request: DeviceRequest) -> DeviceRequest:
        """Add a request and return it with its ``id`` given (the argument's is ignored).

        An empty ``wire_id`` is replaced by one that no other request has had.
        """
        ...

    async def remove_device_requests(self, ids: Sequence[int]) -> None:
        """Remove requests that are over; those that are not there are passed over."""
        ...

    async def park_event(self, event: ParkedEvent) -> bool:
        """Keep an event that leaves its queue (the argument's ``id`` is ignored); False: it was kept before.

        Goes with its channel.  Raises ``NotFound`` when there is no such channel.
        """
        ...

    async def parked_events(self, channel_id: int, after_id: int, count_max: int) -> tuple[ParkedEvent, ...]:
        """A channel's parked events whose ids are higher, by id."""
        ...

    async def remove_parked_events(self, ids: Sequence[int]) -> None:
        """Remove parked events; those that are not there are passed over."""
        ...

    async def save_life_times(self, life_times: LifeTimes) -> None:
        """Save how far the clocks are; of ``clocks``, those given replace what was saved.

        Channels that do not exist (any more) are passed over.
        """
        ...

    async def close(self) -> None:
        """Close; every change that returned is on disk."""
        ...
