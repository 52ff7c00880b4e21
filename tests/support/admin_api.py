"""An operator, in a dispatcher that runs in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from support.api_in_process import Caller, House, open_house

from dispatcher.http.message import EventStream
from dispatcher.model import Application, Role


class Operator:
    """Calls the admin API with a key of its own."""

    def __init__(self, house: House, caller: Caller) -> None:
        self.house = house
        self.caller = caller

    async def ask(self, method: str, path: str, content: object = None, status: int = 200) -> Any:
        """The content of an answer with this status; None where there is none."""
        reply = await self.caller.send(method, f"/admin/v1/{path}", content)
        assert reply.status == status, reply.body
        return json.loads(reply.body) if reply.body else None

    async def channel_of(self, application: Application) -> int:
        """The id of its WebSocket channel, made when it is not there."""
        await self.house.hub.register_websocket(application)
        channel = self.house.hub.parts.directory.channel_of(application.id)
        assert channel is not None
        return channel.row.id

    async def watch(self, channels: str = "", updates: int = 1) -> list[dict[str, Any]]:
        """So many messages of the event stream."""
        found: list[dict[str, Any]] = []

        async def send(piece: bytes) -> None:
            head, _, data = piece.decode().partition("data: ")
            assert head == "event: fleet\n"
            assert data.endswith("\n\n")
            found.append(json.loads(data))
            if len(found) == updates:
                scope.cancel()

        with trio.CancelScope() as scope:
            await (await self.stream(channels)).run(send)
        return found

    async def stream(self, channels: str = "") -> EventStream:
        """The event stream, as the handler returns it."""
        reply = await self.caller.ask("GET", f"/admin/v1/events?channels={channels}")
        assert isinstance(reply, EventStream), reply
        return reply


@asynccontextmanager
async def open_operator() -> AsyncIterator[Operator]:
    """An operator beside a gateway and an application."""
    async with open_house() as house:
        yield Operator(house, await house.caller(Role.ADMIN))
