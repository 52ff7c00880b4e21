"""Removal clocks and event ages of a whole dispatcher, over restarts and under a wall clock that jumps.

Two clocks are played: Trio's, which only time moves, and the wall's, which anybody may set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.channels import channel_row
from trio.testing import MockClock

from dispatcher.config import LimitSettings, Settings, StorageSettings
from dispatcher.model import Application, Channel, ChannelType, Durability, Notification
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.world import World

pytestmark = pytest.mark.slow

HOUR_S = 3_600.0
NOWHERE = "http://203.0.113.5/"  # for documentation: no callback may go there, so each one fails
SETTINGS = Settings(
    storage=StorageSettings(durability=Durability.MEMORY), limits=LimitSettings(startup_grace_s=0)
)


class House:
    """What stays while dispatchers come and go."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.wall_s = 1_700_000_000.0  # minus Trio's time
        self.application: Application

    async def register(self, type_: ChannelType, url: str = "") -> Channel:
        account = await self.registry.ensure_account("a", "commercial")
        self.application = await self.registry.create_application(account.id, "a", 0)
        row = channel_row(type_)
        values = {name: getattr(row, name) for name in row.__struct_fields__}
        return await self.registry.add_channel(
            Channel(**{**values, "application_id": self.application.id, "url": url})
        )

    @asynccontextmanager
    async def run(self, *, down_s: float = 0.0) -> AsyncIterator[Hub]:
        """A dispatcher, after nothing ran for a time."""
        await trio.sleep(down_s)
        world = World(
            registry=self.registry,
            unix_s=lambda: self.wall_s + trio.current_time(),
        )
        async with open_dispatcher(SETTINGS, world=world) as hub:
            yield hub

    def has_channel(self, hub: Hub) -> bool:
        return hub.parts.directory.channel_of(self.application.id) is not None

    def records(self, hub: Hub) -> int:
        statistics = hub.statistics(self.application)
        assert statistics is not None
        return statistics.records


@pytest.mark.parametrize(
    ("type_", "hours"),
    [(ChannelType.CALLBACK, 24.0), (ChannelType.WEB_SOCKET, 24.0), (ChannelType.LONG_POLLING, 1 / 6)],
)
async def test_a_clock_goes_on_after_a_restart_and_stands_still_in_between(
    type_: ChannelType, hours: float, autojump_clock: MockClock
) -> None:
    house = House()
    await house.register(type_, url=NOWHERE)
    async with house.run() as hub:
        hub.publish(house.application, Notification("a", "/1"))  # so that the callback fails
        await trio.sleep(0.75 * hours * HOUR_S)
        assert house.has_channel(hub)
    async with house.run(down_s=1_000 * HOUR_S) as hub:
        await trio.sleep(0.2 * hours * HOUR_S)
        assert house.has_channel(hub)
        await trio.sleep(0.06 * hours * HOUR_S)
        assert not house.has_channel(hub)


async def test_a_channel_that_only_lay_idle_while_down_is_not_removed(autojump_clock: MockClock) -> None:
    house = House()
    await house.register(ChannelType.IN_PROCESS)
    for _ in range(4):
        async with house.run(down_s=1_000 * HOUR_S) as hub:
            await trio.sleep(11 * HOUR_S)
            assert house.has_channel(hub)
    async with house.run() as hub:
        await trio.sleep(5 * HOUR_S)
        assert not house.has_channel(hub)


@pytest.mark.parametrize("step_hours", [-1_000.0, 1_000.0])
async def test_setting_the_wall_clock_removes_no_channel(
    step_hours: float, autojump_clock: MockClock
) -> None:
    house = House()
    await house.register(ChannelType.WEB_SOCKET)
    async with house.run() as hub:
        await trio.sleep(HOUR_S)
        house.wall_s += step_hours * HOUR_S
        await trio.sleep(22.9 * HOUR_S)
        assert house.has_channel(hub)
        await trio.sleep(0.2 * HOUR_S)
        assert not house.has_channel(hub)


async def test_a_wall_clock_set_forward_expires_no_event_before_its_time(autojump_clock: MockClock) -> None:
    house = House()
    await house.register(ChannelType.IN_PROCESS)
    async with house.run() as hub:
        hub.publish(house.application, Notification("a", "/1"))
        await trio.sleep(HOUR_S)
        house.wall_s += 48 * HOUR_S
        await trio.sleep(22.9 * HOUR_S)
        assert house.records(hub) == 1
        await trio.sleep(0.2 * HOUR_S)
        assert house.records(hub) == 0


async def test_a_wall_clock_set_back_prolongs_an_events_life_by_no_more_than_that(
    autojump_clock: MockClock,
) -> None:
    house = House()
    await house.register(ChannelType.IN_PROCESS)
    async with house.run() as hub:
        hub.publish(house.application, Notification("a", "/1"))
        await trio.sleep(10 * HOUR_S)
        house.wall_s -= 5 * HOUR_S
        before_ms = hub.parts.now_unix_ms()
        hub.publish(house.application, Notification("b", "/1"))
        await trio.sleep(18.9 * HOUR_S)
        assert house.records(hub) == 2
        assert hub.parts.now_unix_ms() >= before_ms
        await trio.sleep(0.2 * HOUR_S)
        assert house.records(hub) == 1


async def test_a_clock_behind_the_stored_one_is_replaced_by_it_until_it_has_caught_up(
    autojump_clock: MockClock,
) -> None:
    house = House()
    await house.register(ChannelType.IN_PROCESS)
    async with house.run() as hub:
        await trio.sleep(HOUR_S)
        last_ms = hub.parts.now_unix_ms()
    house.wall_s -= 2 * HOUR_S
    async with house.run() as hub:
        assert hub.parts.now_unix_ms() == last_ms
        await trio.sleep(1.9 * HOUR_S)
        assert hub.parts.now_unix_ms() == last_ms
        await trio.sleep(0.2 * HOUR_S)
        assert hub.parts.now_unix_ms() == pytest.approx(last_ms + 0.1 * HOUR_S * 1000)


async def test_a_start_starts_no_task_for_a_callback_without_events(autojump_clock: MockClock) -> None:
    house = House()
    await house.register(ChannelType.CALLBACK, NOWHERE)
    async with house.run() as hub:
        channel = hub.parts.directory.channel_of(house.application.id)
        assert channel is not None
        assert not channel.is_running
        hub.publish(house.application, Notification(ep="a", path="/1"))
        assert channel.is_running
