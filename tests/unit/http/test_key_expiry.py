"""What a key that expires still does, and what it does not; on a mock clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from support.api_in_process import UNIX_S, Caller, House, house_of, open_house
from support.scripted_gateway import Refused, connect
from trio.testing import MockClock

from dispatcher.config import Settings, StorageSettings
from dispatcher.errors import BadRequest
from dispatcher.model import Durability, Role
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.world import World

LIFE_S = 100.0
EXPIRES_UNIX_MS = int((UNIX_S + LIFE_S) * 1000)
SOCKET = "/v2/notification/websocket-connect"


def notification(number: int) -> dict[str, Any]:
    return {"notifications": [{"ep": "d", "path": "/1", "max-age": number}]}


async def expiring(house: House, role: Role) -> Caller:
    return await house.caller(role, expires_unix_ms=EXPIRES_UNIX_MS)


async def status(caller: Caller, method: str, path: str) -> int:
    return (await caller.send(method, path)).status


async def test_an_expired_key_is_401_in_requests_and_handshakes(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        app, gateway = await expiring(house, Role.APPLICATION), await expiring(house, Role.GATEWAY)
        await app.send("PUT", "/v2/notification/websocket")
        await trio.sleep(LIFE_S - 1)
        assert await status(app, "GET", "/v2/notification/websocket") == 200
        await trio.sleep(1)
        refused = await app.send("GET", "/v2/notification/websocket")
        assert refused.status == 401
        assert json.loads(refused.body)["message"] == "The access token has expired."
        assert await status(gateway, "POST", "/gateway/v1/events") == 401
        for caller, path in ((app, SOCKET), (gateway, "/gateway/v1/connect")):
            with pytest.raises(Refused, match="status 401"):
                async with connect(caller, path):
                    pass


async def test_what_an_expired_key_has_opened_stays_open_and_flows_on(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        app, gateway = await expiring(house, Role.APPLICATION), await expiring(house, Role.GATEWAY)
        await app.send("PUT", "/v2/notification/websocket")
        await app.send("PUT", "/v2/subscriptions/d/1")
        async with connect(app, SOCKET) as socket, connect(gateway) as posting:
            await trio.sleep(LIFE_S + 1)
            assert await posting.tell(notification(1)) == {"accepted": 1}
            assert (await socket.message("notifications"))["notifications"][0]["max-age"] == 1
            assert (socket.closed_with, posting.closed_with) == (None, None)
        assert (
            await status(house.app, "GET", "/v2/notification/websocket") == 200
        )  # the application's other key
        await house.gateway.post(notification(2))
        async with connect(house.app, SOCKET) as socket:
            assert (await socket.message("notifications"))["notifications"][0]["max-age"] == 2


async def test_an_expired_key_that_is_revoked_closes_its_sockets_with_1008(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        app, gateway = await expiring(house, Role.APPLICATION), await expiring(house, Role.GATEWAY)
        await app.send("PUT", "/v2/notification/websocket")
        async with connect(app, SOCKET) as socket, connect(gateway) as posting:
            await trio.sleep(LIFE_S + 1)
            for caller in (app, gateway):
                assert await house.hub.revoke_key(caller.key_id)
            with trio.fail_after(1):
                await socket.is_over.wait()
                await posting.is_over.wait()
            assert socket.closed_with is not None
            assert posting.closed_with is not None
            assert (socket.closed_with[0], posting.closed_with[0]) == (1008, 1008)


async def test_a_key_expires_by_the_clock_as_people_set_it(autojump_clock: MockClock) -> None:
    """A machine wakes up in 1970 and is set forward; what is stored with events takes no leap."""
    wall_s = [0.0]
    settings = Settings(storage=StorageSettings(durability=Durability.MEMORY))
    world = World(unix_s=lambda: wall_s[0], registry=MemoryRegistry())
    async with open_dispatcher(settings, world=world) as hub:
        house = await house_of(hub)
        app = await expiring(house, Role.APPLICATION)
        assert await status(app, "GET", "/v2/subscriptions") == 200
        wall_s[0] = UNIX_S + LIFE_S
        assert await status(app, "GET", "/v2/subscriptions") == 401
        assert hub.parts.now_unix_ms() < EXPIRES_UNIX_MS


async def test_a_key_that_would_never_be_valid_is_not_made(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        keys = house.hub.parts.directory.keys.keys()
        for expires_unix_ms in (0, int(UNIX_S * 1000)):
            with pytest.raises(BadRequest, match="in the future"):
                await house.hub.create_key(Role.ADMIN, expires_unix_ms=expires_unix_ms)
        assert house.hub.parts.directory.keys.keys() == keys
