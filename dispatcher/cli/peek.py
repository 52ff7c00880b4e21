"""``dispatcher peek``: look into a channel's queue and leave it as it is."""

from __future__ import annotations

import click
import msgspec

from dispatcher import limits
from dispatcher.cli.admin_client import CHANNEL_ARGUMENT, AdminClient, ask_admin
from dispatcher.cli.admin_tables import records_table, stdout_console
from dispatcher.cli.identities import JSON_OPTION
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.model import Role
from dispatcher.wire.admin_api import Peek


@click.command()
@server_options(Role.ADMIN)
@CHANNEL_ARGUMENT
@click.option(
    "--count",
    type=click.IntRange(1, limits.PEEK_RECORDS_MAX),
    default=limits.PEEK_RECORDS,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@click.option("--payloads", "with_payloads", is_flag=True, help="Also what the devices said; it is logged.")
@JSON_OPTION
def peek(
    address: ServerAddress, key: str, channel: str, count: int, with_payloads: bool, is_json: bool
) -> None:
    """Look at the oldest records of a queue, which stay there.

    \b
    dispatcher peek default/greenhouse --count 3

    CHANNEL is an id, as 'channels list' shows it, or ACCOUNT/APPLICATION.
    """

    async def look(admin: AdminClient) -> Peek:
        number = await admin.channel_id(channel)
        payloads = "true" if with_payloads else None
        return await admin.get(f"channels/{number}/peek", Peek, limit=count, payloads=payloads)

    found = ask_admin(address, key, look)
    if is_json:
        click.echo(msgspec.json.encode(found.records))
    elif found.records:
        stdout_console().print(records_table(found.records))
    else:
        click.echo("the queue is empty", err=True)
