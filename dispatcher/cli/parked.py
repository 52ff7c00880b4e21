"""``dispatcher parked``: events that callbacks refused, and what is to become of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from dispatcher import limits
from dispatcher.cli.admin_client import CHANNEL_ARGUMENT, AdminClient, ask_admin
from dispatcher.cli.admin_tables import parked_table, stdout_console
from dispatcher.cli.identities import JSON_OPTION
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.model import Role
from dispatcher.wire.admin_api import ParkedDone, ParkedPage, ParkedRow

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def parked() -> None:
    """Look at events that callbacks refused, and settle them.

    With the tier's 'refused_events = "park"' an event that a callback answers with 400 or 422 though it
    came alone is set aside.  CHANNEL is an id, as 'channels list' shows it, or ACCOUNT/APPLICATION.
    """


@parked.command("list")
@server_options(Role.ADMIN)
@CHANNEL_ARGUMENT
@click.option("--payloads", "with_payloads", is_flag=True, help="Also what the devices said; it is logged.")
@JSON_OPTION
def list_(address: ServerAddress, key: str, channel: str, with_payloads: bool, is_json: bool) -> None:
    """List what is parked of a channel.

    \b
    dispatcher parked list default/greenhouse
    """

    async def look(admin: AdminClient) -> list[ParkedRow]:
        path = f"channels/{await admin.channel_id(channel)}/parked"
        query = {"limit": limits.PEEK_RECORDS_MAX, "payloads": "true" if with_payloads else None}
        page = await admin.get(path, ParkedPage, **query)
        rows = page.events
        while page.next is not None:
            page = await admin.get(path, ParkedPage, **query, after=page.next)
            rows += page.events
        return rows

    rows = ask_admin(address, key, look)
    if is_json:
        click.echo(msgspec.json.encode(rows))
    elif rows:
        stdout_console().print(parked_table(rows))
    else:
        click.echo("nothing is parked", err=True)


def _on_events(command: F) -> F:
    event = click.option(
        "--event", type=click.IntRange(min=1), metavar="ID", help="This one alone, as 'list' shows it."
    )
    return server_options(Role.ADMIN)(CHANNEL_ARGUMENT(event(JSON_OPTION(command))))


@parked.command("give-back")
@_on_events
def give_back(address: ServerAddress, key: str, channel: str, event: int | None, is_json: bool) -> None:
    """Queue parked events again, as new records at the end.

    All of the channel's, or one.

    \b
    dispatcher parked give-back default/greenhouse --event 7
    """
    _act(address, key, channel, event, "POST", "/give-back", "given back", is_json)


@parked.command()
@_on_events
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def discard(
    address: ServerAddress, key: str, channel: str, event: int | None, is_sure: bool, is_json: bool
) -> None:
    """Forget parked events.

    \b
    dispatcher parked discard default/greenhouse --event 7 --yes

    Asks before it does, on a terminal; elsewhere it wants --yes.
    """
    if not is_sure:
        if not sys.stdin.isatty():
            raise click.UsageError("what is discarded is lost: say --yes if that is meant")
        what = "all that is parked" if event is None else f"event {event}"
        click.confirm(f"Discard {what} of {channel}?", abort=True, err=True)
    _act(address, key, channel, event, "DELETE", "", "discarded", is_json)


def _act(
    address: ServerAddress,
    key: str,
    channel: str,
    event: int | None,
    method: str,
    rest: str,
    done: str,
    is_json: bool,
) -> None:
    async def work(admin: AdminClient) -> ParkedDone:
        one = "" if event is None else f"/{event}"
        path = f"channels/{await admin.channel_id(channel)}/parked{one}{rest}"
        return await admin.act_for(method, path, ParkedDone)

    result = ask_admin(address, key, work)
    click.echo(msgspec.json.encode(result) if is_json else f"{channel}: {result.events} {done}")
