"""The admin API, as the commands of an operator use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote, urlencode

import click
import msgspec

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.running import run
from dispatcher.cli.server_address import ServerAddress
from dispatcher.errors import NotFound
from dispatcher.model import Role
from dispatcher.wire.admin_api import ChannelPage, ChannelRow

T = TypeVar("T")

PREFIX = "/admin/v1"


class AdminClient:
    """Asks one dispatcher as its operator.

    Every method raises ``ServerUnreachable`` and ``RequestRefused``.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def get(self, path: str, type_: type[T], **query: object) -> T:
        """The content of an answer; parameters that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        target = f"{PREFIX}/{path}" + (f"?{urlencode(given)}" if given else "")
        answer = await self._api.ask("GET", target, expect=(200,))
        return msgspec.json.decode(answer.body, type=type_)

    async def act(self, method: str, path: str) -> None:
        """Do something that has no answer but that it is done."""
        await self._api.ask(method, f"{PREFIX}/{path}", expect=(204,))

    async def act_for(self, method: str, path: str, type_: type[T]) -> T:
        """Do something, and return what it answers."""
        answer = await self._api.ask(method, f"{PREFIX}/{path}", expect=(200,))
        return msgspec.json.decode(answer.body, type=type_)

    async def channels(self, count_max: int | None, **query: object) -> tuple[list[ChannelRow], bool]:
        """As many channels as wanted (None: all), on several pages; and whether there are more."""
        found: list[ChannelRow] = []
        after = None
        while count_max is None or len(found) < count_max:
            missing = limits.ADMIN_PAGE_MAX if count_max is None else count_max - len(found)
            page = await self.get(
                "channels", ChannelPage, limit=min(limits.ADMIN_PAGE_MAX, missing), after=after, **query
            )
            found += page.channels
            after = page.next
            if after is None:
                return found, False
        return found, True

    async def channel_id(self, name: str) -> str:
        """The id of a channel that is named by it, or by ``ACCOUNT/APPLICATION``; for a path.

        Raises ``NotFound``.
        """
        account, slash, application = name.partition("/")
        if not slash:
            return quote(name, safe="")
        rows, _ = await self.channels(None, account=account, search=application)
        for row in rows:
            if row.application == application:
                return str(row.id)
        raise NotFound(f"account {account!r} has no application {application!r} with a channel")


def ask_admin(address: ServerAddress, key: str, work: Callable[[AdminClient], Awaitable[T]]) -> T:
    """Do a command's work with one connection to the admin API."""

    async def connected() -> T:
        async with ApiClient(address, key, role=Role.ADMIN) as api:
            return await work(AdminClient(api))

    return run(connected)


CHANNEL_ARGUMENT = click.argument("channel", metavar="CHANNEL")
