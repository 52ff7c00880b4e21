"""A callback has a sink while there is something to send and its connection is kept, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from support.channels import channel_row
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings
from dispatcher.deliver.callback import CallbackSink
from dispatcher.model import Channel, ChannelType, Durability, Notification
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.world import World

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


class Receivers:
    """Every host there is: answers each request, and notes to which host it went."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.answers: list[bytes] = []  # the next ones; then 200
        self.hosts: list[str] = []
        self.connections = 0

    async def connect(self, address: str, port: int) -> trio.abc.Stream:
        self.connections += 1
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(65_536):
            head = data.partition(b"\r\n\r\n")[0].lower()
            self.hosts.append(head.partition(b"host: ")[2].partition(b"\r\n")[0].decode())
            await stream.send_all(self.answers.pop(0) if self.answers else _OK)


class House:
    """A dispatcher that was started with one callback in its registry."""

    def __init__(self, hub: Hub, receivers: Receivers, channel: ActiveChannel) -> None:
        self.hub = hub
        self.receivers = receivers
        self.channel = channel

    async def publish(self, ep: str) -> None:
        application = self.hub.parts.directory.applications[self.channel.row.application_id]
        self.hub.publish(application, Notification(ep=ep, path="/1"))
        await wait_all_tasks_blocked()

    @property
    def records(self) -> int:
        return self.hub.parts.queue.stats(self.channel.row.id).records


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    registry = MemoryRegistry()
    account = await registry.ensure_account("a", "commercial")
    application = await registry.create_application(account.id, "a", 0)
    row = channel_row(ChannelType.CALLBACK)
    values = {name: getattr(row, name) for name in row.__struct_fields__}
    values |= {"application_id": application.id, "url": "http://8.8.8.8/"}
    await registry.add_channel(Channel(**values))
    settings = Settings(storage=StorageSettings(durability=Durability.MEMORY))
    async with trio.open_nursery() as nursery:
        receivers = Receivers(nursery)
        async with open_dispatcher(
            settings, world=World(registry=registry, connect=receivers.connect)
        ) as hub:
            channel = hub.parts.directory.channel_of(application.id)
            assert channel is not None
            yield House(hub, receivers, channel)
        nursery.cancel_scope.cancel()


async def test_a_start_makes_no_sink_for_a_callback_without_events(autojump_clock: MockClock) -> None:
    async with house() as at:
        assert at.channel.sink is None
        assert at.channel.is_bound
        await at.publish("a")
        assert isinstance(at.channel.sink, CallbackSink)
        assert at.records == 0


async def test_a_callback_that_was_not_used_for_a_while_has_no_sink_and_gets_the_next_event(
    autojump_clock: MockClock,
) -> None:
    async with house() as at:
        await at.publish("a")
        await trio.sleep(limits.CALLBACK_IDLE_S / 2)
        assert at.channel.sink is not None
        await trio.sleep(limits.CALLBACK_IDLE_S)
        assert at.channel.sink is None
        assert at.channel.is_bound
        await at.publish("b")
        assert at.records == 0
        assert (len(at.receivers.hosts), at.receivers.connections) == (2, 2)


async def test_a_paused_callback_gets_its_sink_when_it_goes_on(autojump_clock: MockClock) -> None:
    async with house() as at:
        await at.hub.parts.registrations.pause(at.channel)
        await at.publish("a")
        assert (at.channel.sink, at.records) == (None, 1)
        await at.hub.parts.registrations.resume(at.channel)
        await wait_all_tasks_blocked()
        assert at.records == 0


async def test_a_callback_that_is_registered_anew_while_it_fails_goes_on_with_the_new_one(
    autojump_clock: MockClock,
) -> None:
    async with house() as at:
        at.receivers.answers = [_BUSY]
        await at.publish("a")
        assert (at.channel.is_running, at.records) == (True, 1)
        application = at.hub.parts.directory.applications[at.channel.row.application_id]
        await at.hub.parts.callbacks.register(application, "http://9.9.9.9/", {}, None)
        await wait_all_tasks_blocked()
        assert at.records == 0
        assert at.receivers.hosts == ["8.8.8.8", "9.9.9.9", "9.9.9.9"]  # the second verified it


async def test_a_dispatcher_that_stops_begins_nothing_for_a_callback(autojump_clock: MockClock) -> None:
    async with house() as at:
        await at.hub.stop()
        await at.publish("a")
        assert (at.channel.sink, at.receivers.hosts, at.records) == (None, [], 1)


async def test_a_deleted_callback_is_bound_to_nothing(autojump_clock: MockClock) -> None:
    async with house() as at:
        application = at.hub.parts.directory.applications[at.channel.row.application_id]
        await at.hub.parts.registrations.delete(application, ChannelType.CALLBACK)
        assert not at.channel.is_bound
