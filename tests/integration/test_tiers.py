"""What a tier decides, from when on, and what happens without it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.api_in_process import house_of
from support.scripted_gateway import Refused, connect

import dispatcher
from dispatcher import Application, Durability, Hub, Notification, Settings, StorageSettings, TierSettings
from dispatcher.config import channel_limits
from dispatcher.model import ChannelLimits, Role
from dispatcher.registry.interface import Registry
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.world import World

SMALL_BYTES = 4096
EVENTS = [Notification("dev-1", "/1", b"x" * 100) for _ in range(200)]


def settings(folder: Path | str = "", **tiers: TierSettings) -> Settings:
    return Settings(storage=StorageSettings(data=str(folder), durability=Durability.MEMORY), tiers=tiers)


async def kept(hub: Hub, application: Application) -> int:
    """How many of 200 events the application's queue holds."""
    await hub.publish_many(application, EVENTS)
    statistics = hub.statistics(application)
    assert statistics is not None
    return statistics.records


def limits_of(hub: Hub, application: Application) -> ChannelLimits:
    """What its channel was registered with."""
    channel = hub.parts.directory.channel_of(application.id)
    assert channel is not None
    return channel.row.limits


async def test_a_changed_tier_holds_only_for_channels_registered_after_it(tmp_path: Path) -> None:
    small, large = TierSettings(queue_bytes=SMALL_BYTES), TierSettings()
    async with open_dispatcher(settings(tmp_path, commercial=small)) as hub:
        account = await hub.ensure_account()
        first = await hub.ensure_application(account, "first")
        await hub.register_websocket(first)
        assert await kept(hub, first) < 200
    async with open_dispatcher(settings(tmp_path, commercial=large)) as hub:
        account = await hub.ensure_account()
        assert await kept(hub, first) < 200
        await hub.register_websocket(first, dispatcher.Serialization(include_uid=True))
        assert await kept(hub, first) < 200  # changed, not registered anew
        assert limits_of(hub, first) == channel_limits(small)
        second = await hub.ensure_application(account, "second")
        await hub.register_websocket(second)
        assert await kept(hub, second) == 200
        await hub.delete_channel(first)
        await hub.register_websocket(first)
        assert await kept(hub, first) == 200
        assert limits_of(hub, first) == channel_limits(large)


async def test_an_account_that_moves_up_keeps_its_channels_as_they_were_registered() -> None:
    tiers = {"free": TierSettings(queue_bytes=SMALL_BYTES, applications_max=1), "commercial": TierSettings()}
    async with open_dispatcher(settings(**tiers), world=World(registry=MemoryRegistry())) as hub:
        account = await hub.ensure_account("acme", "free")
        first = await hub.ensure_application(account, "first")
        await hub.register_websocket(first)
        with pytest.raises(dispatcher.TooManyRequests):
            await hub.ensure_application(account, "second")
        account = await hub.set_tier(account, "commercial")
        assert account.tier == "commercial"
        second = await hub.ensure_application(account, "second")
        await hub.register_websocket(second)
        assert await kept(hub, first) < 200
        assert await kept(hub, second) == 200
        with pytest.raises(dispatcher.BadRequest, match="no tier 'gold'; the settings have commercial, free"):
            await hub.set_tier(account, "gold")
        with pytest.raises(dispatcher.BadRequest, match="no tier 'gold'"):
            await hub.ensure_account("other", "gold")


async def house_without_its_tier(registry: Registry) -> None:
    """Leave an account of tier gold with a channel behind."""
    tiers = {"gold": TierSettings()}
    async with open_dispatcher(settings(**tiers), world=World(registry=registry)) as hub:
        account = await hub.ensure_account("acme", "gold")
        application = await hub.ensure_application(account, "app")
        await hub.register_websocket(application)


async def test_without_its_tier_an_account_goes_on_and_adds_nothing_and_says_whose_fault_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = MemoryRegistry()
    await house_without_its_tier(registry)
    with caplog.at_level(logging.WARNING):
        async with open_dispatcher(
            settings(commercial=TierSettings()), world=World(registry=registry)
        ) as hub:
            (told,) = [record for record in caplog.records if record.getMessage() == "tier.unknown"]
            assert told.fields["account"] == "acme"  # type: ignore[attr-defined]
            account = hub.parts.directory.accounts[1]
            application = hub.parts.directory.application_named(account.id, "app")
            assert await kept(hub, application) == 200
            house = await house_of(hub)
            key = await hub.create_key(Role.APPLICATION, application=application)
            app = house.caller_with(key)
            assert (await app.send("GET", "/v2/notification/websocket")).status == 200
            assert (await app.send("DELETE", "/v2/notification/websocket")).status == 204
            refused = await app.send("PUT", "/v2/notification/websocket")
            assert refused.status == 500
            assert b"account 'acme' is of tier 'gold', which the settings do not have" in refused.body
            with pytest.raises(dispatcher.ConfigError, match=r"add \[tiers\.gold\]"):
                await hub.ensure_application(account, "another")
            gateway = house.caller_with(await hub.create_key(Role.GATEWAY, account=account))
            with pytest.raises(Refused, match="status 500"):
                async with connect(gateway):
                    pass
