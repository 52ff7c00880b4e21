"""``dispatcher stats``: all channels together."""

from __future__ import annotations

import click
import msgspec

from dispatcher.cli.admin_client import ask_admin
from dispatcher.cli.admin_tables import stdout_console, totals_facts
from dispatcher.cli.identities import JSON_OPTION
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.model import Role
from dispatcher.wire.admin_api import Totals


@click.command()
@server_options(Role.ADMIN)
@JSON_OPTION
def stats(address: ServerAddress, key: str, is_json: bool) -> None:
    """Show what a running dispatcher holds, and has done.

    Counts are since its start.

    \b
    dispatcher stats --url http://127.0.0.1:8080 --json
    """
    totals = ask_admin(address, key, lambda admin: admin.get("stats", Totals))
    if is_json:
        click.echo(msgspec.json.encode(totals))
    else:
        stdout_console().print(totals_facts(totals))
