"""The registry in a data folder's SQLite file.

A thin shell: ``tables`` says what each call does, ``database`` runs it as one
transaction on its worker thread.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from dispatcher.core import access
from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    Channel,
    Device,
    DeviceReport,
    DeviceRequest,
    ParkedEvent,
    Presubscription,
    Subscription,
)
from dispatcher.registry import device_tables, parked_tables, request_tables, tables
from dispatcher.registry.database import Database
from dispatcher.registry.folder import DataFolder
from dispatcher.registry.interface import Contents, DueDevices, Identities, LifeTimes


@asynccontextmanager
async def open_registry(
    folder: DataFolder,
    *,
    unix_ms: Callable[[], int],
    is_durable: bool = True,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> AsyncIterator[SqliteRegistry]:
    """Open the folder's registry, made when it is not there; several processes may at once.

    ``unix_ms`` is the wall clock, in milliseconds.  ``is_durable`` False gives up
    only what a power cut may take: the last commits, never their consistency.
    Raises ``DataFolderError``.
    """
    folder.make_private(folder.registry_path)
    database = await Database.open(folder.registry_path, is_durable=is_durable)
    registry = SqliteRegistry(database, unix_ms, random_bytes)
    try:
        yield registry
    finally:
        await registry.close()


class SqliteRegistry:
    """``Registry`` over one SQLite file, which other processes may change beside it."""

    def __init__(
        self, database: Database, unix_ms: Callable[[], int], random_bytes: Callable[[int], bytes]
    ) -> None:
        self._database = database
        self._unix_ms = unix_ms
        self._random_bytes = random_bytes
        self._identities_version: int | None = None  # of those last returned

    def __repr__(self) -> str:
        return f"<SqliteRegistry {str(self._database.path)!r}>"

    async def load(self) -> Contents:
        """See ``Registry``."""

        def read(db: sqlite3.Connection) -> tuple[int, Contents]:
            return tables.read_identities_version(db), tables.read_contents(db)

        self._identities_version, contents = await self._database.read(read)
        return contents

    async def identities_if_changed(self) -> Identities | None:
        """See ``Registry``.  Reads one row when nothing changed: 3 µs, and the way to the thread."""
        seen = self._identities_version

        def read(db: sqlite3.Connection) -> tuple[int, Identities | None]:
            version = tables.read_identities_version(db)
            return version, None if version == seen else tables.read_identities(db)

        self._identities_version, identities = await self._database.read(read)
        return identities

    async def next_epoch(self) -> int:
        """See ``Registry``."""
        return await self._database.write(tables.next_epoch)

    async def ensure_account(self, name: str, tier: str) -> Account:
        """See ``Registry``."""
        access.check_name("account", name)
        return await self._database.write(partial(tables.ensure_account, name=name, tier=tier))

    async def set_tier(self, account_id: int, tier: str) -> Account:
        """See ``Registry``."""
        return await self._database.write(partial(tables.set_tier, account_id=account_id, tier=tier))

    async def create_application(
        self, account_id: int, name: str | None, applications_max: int
    ) -> Application:
        """See ``Registry``."""
        if name is None:
            name = access.make_application_name(self._random_bytes(access.APPLICATION_NAME_RANDOM_BYTES))
        access.check_name("application", name)
        return await self._database.write(
            partial(
                tables.create_application,
                account_id=account_id,
                name=name,
                applications_max=applications_max,
            )
        )

    async def add_key(self, key: AccessKey) -> None:
        """See ``Registry``."""
        await self._database.write(partial(tables.add_key, key=key, created_unix_ms=self._unix_ms()))

    async def revoke_key(self, key_id: str) -> bool:
        """See ``Registry``."""
        return await self._database.write(
            partial(tables.revoke_key, key_id=key_id, revoked_unix_ms=self._unix_ms())
        )

    async def add_channel(self, channel: Channel) -> Channel:
        """See ``Registry``."""
        return await self._database.write(partial(tables.add_channel, channel=channel))

    async def update_channel(self, channel: Channel) -> None:
        """See ``Registry``."""
        await self._database.write(partial(tables.update_channel, channel=channel))

    async def remove_channel(self, channel_id: int) -> bool:
        """See ``Registry``."""
        return await self._database.write(partial(tables.remove_channel, channel_id=channel_id))

    async def add_subscription(self, subscription: Subscription, account_max: int) -> bool:
        """See ``Registry``."""
        return await self._database.write(
            partial(tables.add_subscription, subscription=subscription, account_max=account_max)
        )

    async def remove_subscriptions(
        self, application_id: int, ep: str | None = None, path: str | None = None
    ) -> Sequence[Subscription]:
        """See ``Registry``."""
        return await self._database.write(
            partial(tables.remove_subscriptions, application_id=application_id, ep=ep, path=path)
        )

    async def set_presubscriptions(
        self, application_id: int, presubscriptions: Sequence[Presubscription]
    ) -> None:
        """See ``Registry``."""
        await self._database.write(
            partial(
                tables.set_presubscriptions,
                application_id=application_id,
                presubscriptions=tuple(presubscriptions),
            )
        )

    async def keep_devices(self, reports: Sequence[DeviceReport], account_max: int) -> Sequence[Subscription]:
        """See ``Registry``."""
        return await self._database.write(
            partial(device_tables.keep_devices, reports=tuple(reports), account_max=account_max)
        )

    async def device(self, account_id: int, ep: str) -> Device | None:
        """See ``Registry``."""
        return await self._database.read(partial(device_tables.read_device, account_id=account_id, ep=ep))

    async def due_devices(self, now_unix_ms: int, count_max: int) -> DueDevices:
        """See ``Registry``."""
        return await self._database.read(
            partial(device_tables.read_due_devices, now_unix_ms=now_unix_ms, count_max=count_max)
        )

    async def add_device_request(self, request: DeviceRequest) -> DeviceRequest:
        """See ``Registry``."""
        return await self._database.write(partial(request_tables.add_device_request, request=request))

    async def remove_device_requests(self, ids: Sequence[int]) -> None:
        """See ``Registry``."""
        await self._database.write(partial(request_tables.remove_device_requests, ids=tuple(ids)))

    async def park_event(self, event: ParkedEvent) -> bool:
        """See ``Registry``."""
        return await self._database.write(partial(parked_tables.park_event, event=event))

    async def parked_events(self, channel_id: int, after_id: int, count_max: int) -> tuple[ParkedEvent, ...]:
        """See ``Registry``."""
        return await self._database.read(
            partial(
                parked_tables.read_parked_events,
                channel_id=channel_id,
                after_id=after_id,
                count_max=count_max,
            )
        )

    async def remove_parked_events(self, ids: Sequence[int]) -> None:
        """See ``Registry``."""
        await self._database.write(partial(parked_tables.remove_parked_events, ids=tuple(ids)))

    async def save_life_times(self, life_times: LifeTimes) -> None:
        """See ``Registry``."""
        await self._database.write(partial(tables.save_life_times, life_times=life_times))

    async def close(self) -> None:
        """See ``Registry``."""
        await self._database.close()
