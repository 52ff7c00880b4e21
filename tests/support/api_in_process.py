"""The whole HTTP side of a dispatcher without sockets: handlers called as a connection would.

    async with open_house() as house:
        reply = await house.app.send("GET", "/v2/endpoints/dev-1")
        assert reply.status == 404

Runs on a mock clock; the wall clock goes along with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from support.documented import Documented

from dispatcher.config import (
    BUILT_IN_TIERS,
    LimitSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TierSettings,
)
from dispatcher.errors import DispatcherError
from dispatcher.http.api import public_api
from dispatcher.http.message import (
    EVENTS,
    EventStream,
    Headers,
    ReadyBody,
    Reply,
    Request,
    Response,
)
from dispatcher.http.response_head import refusal
from dispatcher.model import Application, DeviceReport, Durability, Role, Subscription
from dispatcher.registry.interface import DueDevices, Registry
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import CreatedKey, Hub
from dispatcher.runtime.world import World

UNIX_S = 1_700_000_000.0


class SlowRegistry(MemoryRegistry):
    """Takes a second to say what has run out, and one to write what gateways told."""

    async def due_devices(self, now_unix_ms: int, count_max: int) -> DueDevices:
        found = await super().due_devices(now_unix_ms, count_max)
        await trio.sleep(1)
        return found

    async def keep_devices(self, reports: Sequence[DeviceReport], account_max: int) -> Sequence[Subscription]:
        await trio.sleep(1)
        return await super().keep_devices(reports, account_max)


class Caller:
    """Someone with a key."""

    def __init__(self, house: House, key: str, key_id: str) -> None:
        self.house = house
        self.key = key
        self.key_id = key_id

    async def ask(
        self, method: str, target: str, content: object = None, *, body: bytes = b"", **headers: str
    ) -> Reply:
        """The handler's answer; a refusal is the response that a client would get."""
        fields = {"authorization": f"Bearer {self.key}"}
        if content is not None:
            fields["content-type"] = "application/json"
            body = json.dumps(content).encode()
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = target.partition("?")
        request = Request(
            method=method,
            path=path,
            query=query,
            headers=Headers((name.encode(), value.encode()) for name, value in fields.items()),
            body=ReadyBody(body),
        )
        try:
            answer = await self.house.handle(request)
        except DispatcherError as error:
            answer = refusal(error, "00")
        self.house.documented.check(method, path, *_status_of(answer))
        return answer

    async def send(self, method: str, target: str, content: object = None, **rest: Any) -> Response:
        """The same, where no upgrade is expected."""
        answer = await self.ask(method, target, content, **rest)
        assert isinstance(answer, Response)
        return answer

    async def post(self, message: dict[str, Any]) -> Any:
        """Post a notification message as a gateway; it must be accepted."""
        reply = await self.send("POST", "/gateway/v1/events", message)
        assert reply.status == 202, reply.body
        return json.loads(reply.body)


def _status_of(reply: Reply) -> tuple[int, str | None]:
    match reply:
        case Response():
            return reply.status, reply.content_type
        case EventStream():
            return 200, EVENTS
    return 101, None


class House:
    """An open dispatcher with an account, a gateway and an application."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.handle = public_api(hub, with_internal=True)
        self.documented: Documented
        self.gateway: Caller
        self.app: Caller
        self.application: Application

    async def caller(
        self,
        role: Role,
        account: str = "acme",
        application: str = "app",
        *,
        expires_unix_ms: int | None = None,
    ) -> Caller:
        """Someone with a new key."""
        owner = await self.hub.ensure_account(account)
        found = await self.hub.ensure_application(owner, application)
        key = await self.hub.create_key(
            role,
            account=owner if role is Role.GATEWAY else None,
            application=found if role is Role.APPLICATION else None,
            expires_unix_ms=expires_unix_ms,
        )
        return self.caller_with(key)

    def caller_with(self, key: CreatedKey) -> Caller:
        """Someone with this key."""
        return Caller(self, key.key, key.id)

    async def events(self, application: Application | None = None) -> list[tuple[str, Any]]:
        """Take all that a channel of type IN_PROCESS holds, as (kind, event)."""
        found: list[tuple[str, Any]] = []
        async with self.hub.consume(application or self.application) as batches:
            with trio.move_on_after(0.01):
                async for batch in batches:
                    for message in batch.messages:
                        found += [
                            (kind, event) for kind, events in json.loads(message).items() for event in events
                        ]
                    batch.ack()
        return found


async def house_of(hub: Hub) -> House:
    """The HTTP side of a dispatcher that is open; nobody lives in it yet."""
    house = House(hub)
    document = await house.handle(Request(method="GET", path="/openapi.json"))
    assert isinstance(document, Response)
    house.documented = Documented(document.body)
    return house


@asynccontextmanager
async def open_house(
    registry: Registry | None = None,
    *,
    grace_s: float = 0.0,
    folder: Path | None = None,
    unix_s: float = UNIX_S,
    tiers: Mapping[str, TierSettings] = BUILT_IN_TIERS,
    server: ServerSettings | None = None,
) -> AsyncIterator[House]:
    """A dispatcher in memory, on the mock clock; ``registry`` or ``folder`` are those of an earlier one."""
    began_s = trio.current_time()
    settings = Settings(
        server=server or ServerSettings(),
        storage=StorageSettings(data=str(folder or ""), durability=Durability.MEMORY),
        limits=LimitSettings(startup_grace_s=grace_s),
        tiers=dict(tiers),
    )
    world = World(
        unix_s=lambda: unix_s + trio.current_time() - began_s,
        registry=None if folder else registry or MemoryRegistry(),
    )
    async with open_dispatcher(settings, world=world) as hub:
        house = await house_of(hub)
        house.application = await hub.ensure_application(await hub.ensure_account("acme"), "app")
        house.gateway = await house.caller(Role.GATEWAY)
        house.app = await house.caller(Role.APPLICATION)
        yield house
