"""Registries to run tests over, and values to put into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from dispatcher.config import TierSettings, channel_limits
from dispatcher.model import (
    AccessKey,
    Application,
    Channel,
    ChannelType,
    Role,
)
from dispatcher.registry.folder import open_folder
from dispatcher.registry.interface import Registry
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.registry.sqlite import SqliteRegistry, open_registry

OpenRegistry = Callable[[Path], AbstractAsyncContextManager[Registry]]

NOW_UNIX_MS = 1_700_000_000_000


@asynccontextmanager
async def open_memory(path: Path) -> AsyncIterator[Registry]:
    yield MemoryRegistry()


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteRegistry]:
    async with open_registry(open_folder(path / "data"), unix_ms=lambda: NOW_UNIX_MS) as registry:
        yield registry


async def make_application(registry: Registry, account: str = "acme", name: str | None = None) -> Application:
    """An application in an account that is made if need be, without a bound."""
    owner = await registry.ensure_account(account, "commercial")
    return await registry.create_application(owner.id, name, 0)


def key_for(application: Application, number: int = 1) -> AccessKey:
    """An application key; keys of different numbers share neither id nor digest."""
    return AccessKey(
        id=f"k_{number}",
        role=Role.APPLICATION,
        digest=number.to_bytes(32, "big"),
        account_id=application.account_id,
        application_id=application.id,
    )


def channel_for(application: Application, type: ChannelType = ChannelType.WEB_SOCKET) -> Channel:
    """A channel as a registration makes it, with an incarnation that has its highest bit set."""
    return Channel(
        id=0,
        application_id=application.id,
        account_id=application.account_id,
        type=type,
        incarnation=2**64 - 5,
        limits=channel_limits(TierSettings()),
    )
