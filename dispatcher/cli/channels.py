"""``dispatcher channels``: look at channels, pause and resume them, through the admin API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from dispatcher.cli.admin_client import CHANNEL_ARGUMENT, AdminClient, ask_admin
from dispatcher.cli.admin_tables import channel_facts, channels_table, deliveries_table, stdout_console
from dispatcher.cli.identities import JSON_OPTION
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.model import ChannelStatus, ChannelType, Role
from dispatcher.wire.admin_api import ChannelDetail, Deliveries, Delivery

F = TypeVar("F", bound=Callable[..., Any])

ROWS = 100
_ATTEMPTS_SHOWN = 10


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as ``show --json`` prints it."""

    channel: ChannelDetail
    deliveries: list[Delivery]


@click.group()
def channels() -> None:
    """Look at channels, pause, resume and delete them.

    Talks to a running dispatcher with an admin key.  CHANNEL is an id, as 'list' shows it,
    or ACCOUNT/APPLICATION.
    """


@channels.command("list")
@server_options(Role.ADMIN)
@click.option("--account", metavar="NAME", help="Of this account alone.")
@click.option("--type", "type_", type=click.Choice([one.value for one in ChannelType]), help="Of this type.")
@click.option("--status", type=click.Choice([one.value for one in ChannelStatus]), help="Of this status.")
@click.option("--search", metavar="TEXT", help="With this in ACCOUNT/APPLICATION.")
@click.option(
    "--order",
    type=click.Choice(["id", "depth", "age"]),
    default="id",
    show_default=True,
    help="By id, the fullest first, or the one whose oldest record waits longest.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=ROWS,
    show_default=True,
    metavar="N",
    help="How many at most; 0: all.",
)
@JSON_OPTION
def list_(
    address: ServerAddress,
    key: str,
    account: str | None,
    type_: str | None,
    status: str | None,
    search: str | None,
    order: str,
    limit: int,
    is_json: bool,
) -> None:
    """List channels, one line each.

    \b
    dispatcher channels list --order age
    dispatcher channels list --status failing --json
    """
    query = {"account": account, "type": type_, "status": status, "search": search, "order": order}
    rows, has_more = ask_admin(address, key, lambda admin: admin.channels(limit or None, **query))
    if is_json:
        click.echo(msgspec.json.encode(rows))
    elif rows:
        console = stdout_console()
        console.print(channels_table(rows, console.width))
    else:
        click.echo("no channels", err=True)
    if has_more:
        click.echo(f"only the first {len(rows)} are shown; --limit 0 shows all", err=True)


@channels.command()
@server_options(Role.ADMIN)
@CHANNEL_ARGUMENT
@JSON_OPTION
def show(address: ServerAddress, key: str, channel: str, is_json: bool) -> None:
    """Show one channel, with its last attempts.

    Its queue, what is on its way, its failures.

    \b
    dispatcher channels show default/greenhouse
    """

    async def look(admin: AdminClient) -> Shown:
        number = await admin.channel_id(channel)
        found = await admin.get(f"channels/{number}", ChannelDetail)
        attempts = await admin.get(f"channels/{number}/deliveries", Deliveries)
        return Shown(channel=found, deliveries=attempts.deliveries)

    shown = ask_admin(address, key, look)
    if is_json:
        click.echo(msgspec.json.encode(shown))
        return
    console = stdout_console()
    console.print(channel_facts(shown.channel))
    if shown.deliveries:
        console.print()
        console.print(deliveries_table(shown.deliveries[:_ATTEMPTS_SHOWN]))


def _several(command: F) -> F:
    argument = click.argument("names", metavar="CHANNEL...", nargs=-1, required=True)
    return server_options(Role.ADMIN)(argument(JSON_OPTION(command)))


@channels.command()
@_several
def pause(address: ServerAddress, key: str, names: tuple[str, ...], is_json: bool) -> None:
    """Send nothing more, over restarts too; events are still stored.

    \b
    dispatcher channels pause default/greenhouse
    """
    _act(address, key, names, "POST", "/pause", "paused", is_json)


@channels.command()
@_several
def resume(address: ServerAddress, key: str, names: tuple[str, ...], is_json: bool) -> None:
    """Send again, at once; failures before the pause are forgotten.

    \b
    dispatcher channels resume default/greenhouse
    """
    _act(address, key, names, "POST", "/resume", "resumed", is_json)


@channels.command()
@_several
def retry(address: ServerAddress, key: str, names: tuple[str, ...], is_json: bool) -> None:
    """Let the failed batch of a callback go again now.

    \b
    dispatcher channels retry default/greenhouse
    """
    _act(address, key, names, "POST", "/retry", "retried", is_json)


@channels.command()
@_several
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def delete(address: ServerAddress, key: str, names: tuple[str, ...], is_sure: bool, is_json: bool) -> None:
    """Delete channels with all that is queued in them.

    \b
    dispatcher channels delete default/greenhouse --yes

    Their applications may register again.  Asks before it does, on a terminal; elsewhere it
    wants --yes.
    """
    if not is_sure:
        if not sys.stdin.isatty():
            raise click.UsageError("what is queued is lost with a channel: say --yes if that is meant")
        click.confirm(f"Delete {', '.join(names)} with all that is queued?", abort=True, err=True)
    _act(address, key, names, "DELETE", "", "deleted", is_json)


def _act(
    address: ServerAddress,
    key: str,
    names: tuple[str, ...],
    method: str,
    rest: str,
    done: str,
    is_json: bool,
) -> None:
    """Do the same to some channels, one after the other; the first refusal ends it."""

    async def work(admin: AdminClient) -> None:
        for name in names:
            await admin.act(method, f"channels/{await admin.channel_id(name)}{rest}")
            click.echo(
                msgspec.json.encode({"channel": name, "outcome": done}) if is_json else f"{name}: {done}"
            )

    ask_admin(address, key, work)
