"""A dispatcher in this process with a fleet to look at: callbacks that work and that fail, sockets, pauses.

Real channels over real sockets, so that what a console shows of them is what they do.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import trio
from support.receiver import Answer, Request, answer, open_receiver
from trio_websocket import open_websocket_url

import dispatcher
from dispatcher import Application, CallbackSettings, Durability, Hub, Notification, Settings, StorageSettings
from dispatcher.config import LimitSettings, ServerSettings, TierSettings
from dispatcher.model import RefusedEvents, Role
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.world import World

ACCOUNTS = ("acme", "borealis", "cobalt", "delta-grid", "everest", "fjord", "gallia", "harbour")
PLACES = (
    "greenhouse", "cold-chain", "boiler-room", "rooftop", "parking", "silo", "pump-station", "warehouse",
    "elevator", "street-light", "vineyard", "quarry",
)  # fmt: skip
TICK_S = 0.25
TIER = TierSettings(
    applications_max=0, retry_initial_s=20, queue_bytes=60_000, refused_events=RefusedEvents.PARK
)


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A house with channels, and where its console is."""

    hub: Hub
    port: int
    key: str
    key_id: str
    applications: Sequence[Application]

    @property
    def console(self) -> str:
        """The console's address."""
        return f"http://127.0.0.1:{self.port}/console"

    def channel(self, application: Application) -> ActiveChannel:
        """An application's channel, which must exist."""
        found = self.hub.parts.directory.channel_of(application.id)
        assert found is not None
        return found


@asynccontextmanager
async def open_fleet(count: int) -> AsyncIterator[Fleet]:
    """So many channels, of which about one in twenty fails; events flow until the block ends."""
    settings = Settings(
        server=ServerSettings(grace_s=1),
        storage=StorageSettings(durability=Durability.MEMORY),
        callbacks=CallbackSettings(allow_private=True),
        limits=LimitSettings(startup_grace_s=0),
        tiers={"commercial": TIER},
    )
    async with AsyncExitStack() as stack:
        working = await stack.enter_async_context(open_receiver())
        failing = await stack.enter_async_context(open_receiver(otherwise=_refuse_events))
        hub = await stack.enter_async_context(
            dispatcher.open_dispatcher(settings, world=World(registry=MemoryRegistry()))
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        listeners = await dispatcher.open_listeners("127.0.0.1", 0)
        await nursery.start(dispatcher.serve_http, hub, listeners)
        key = await hub.create_key(Role.ADMIN)
        fleet = Fleet(
            hub=hub,
            port=listeners[0].socket.getsockname()[1],  # type: ignore[attr-defined]
            key=key.key,
            key_id=key.id,
            applications=await _applications(hub, count),
        )
        for number, application in enumerate(fleet.applications):
            await _register(fleet, nursery, number, application, working.url, failing.url)
        nursery.start_soon(_publish, fleet)
        yield fleet
        nursery.cancel_scope.cancel()


def _refuse_events(request: Request) -> Answer:
    return answer(200 if request.body == b"{}" else 503)


async def _applications(hub: Hub, count: int) -> list[Application]:
    made = []
    for number in range(count):
        account = await hub.ensure_account(ACCOUNTS[number % len(ACCOUNTS)])
        name = f"{PLACES[number % len(PLACES)]}-{number // len(PLACES) + 1}"
        made.append(await hub.parts.registry.create_application(account.id, name, 0))
    await hub.reload_identities()
    return made


async def _register(
    fleet: Fleet, nursery: trio.Nursery, number: int, application: Application, working: str, failing: str
) -> None:
    """One channel: by its number a socket, a failing callback, or one that works; some are paused."""
    if number % 5 == 1:
        await fleet.hub.register_websocket(application)
        if number % 10 == 1:
            key = await fleet.hub.create_key(Role.APPLICATION, application=application)
            nursery.start_soon(_read, fleet.port, key.key)
    elif number % 23 == 7:
        await fleet.hub.register_callback(application, failing, {"X-Token": "never-to-be-seen"})
    else:
        await fleet.hub.register_callback(application, working, {"X-Token": "never-to-be-seen"})
    if number % 41 == 13:
        await fleet.hub.parts.registrations.pause(fleet.channel(application))


async def _read(port: int, key: str) -> None:
    url = f"ws://127.0.0.1:{port}/v2/notification/websocket-connect"
    async with open_websocket_url(url, extra_headers=[("Authorization", f"Bearer {key}")]) as socket:
        while True:
            await socket.get_message()


async def _publish(fleet: Fleet) -> None:
    """Events for every fourth channel or so, more for some than for others, a few times a second."""
    chance = random.Random(7)
    weights = [chance.choice((0, 1, 1, 2, 5, 12)) for _ in fleet.applications]
    while True:
        for application, weight in zip(fleet.applications, weights, strict=True):
            if weight and chance.random() < 0.25:
                count = max(1, round(chance.gauss(weight, weight / 3)))
                for number in range(count):
                    fleet.hub.publish(application, Notification(f"dev-{number}", "/3303/0/5700", b"21.5"))
        await trio.sleep(TICK_S)
