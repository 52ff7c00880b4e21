"""``dispatcher accounts``: list accounts, and give one another tier.

Accounts are made with their first key (``dispatcher keys create --account NAME --tier NAME``).
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click
import msgspec

from dispatcher import config, config_sources
from dispatcher.cli.identities import (
    DATA_OPTION,
    JSON_OPTION,
    TIERS_OPTION,
    echo_table,
    failures_in_words,
    identities_of,
    with_registry,
)
from dispatcher.errors import NotFound
from dispatcher.registry.control import poke
from dispatcher.registry.folder import open_folder
from dispatcher.registry.interface import Identities
from dispatcher.registry.sqlite import SqliteRegistry


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """An account as ``list --json`` prints it."""

    account: str
    tier: str
    applications: int


@click.group()
def accounts() -> None:
    """List accounts, and give one another tier.

    Works while the daemon runs and when it does not; a running daemon takes the
    change over at once.
    """


@accounts.command("list")
@DATA_OPTION
@JSON_OPTION
def list_(data: Path, is_json: bool) -> None:
    """List accounts: tiers, and how many applications.

    \b
    dispatcher accounts list --data ./data
    """
    with failures_in_words():
        identities = with_registry(open_folder(data, may_create=False), identities_of)
    rows = _account_rows(identities)
    if is_json:
        click.echo(msgspec.json.encode(rows))
    elif rows:
        cells = [(row.account, row.tier, str(row.applications)) for row in rows]
        echo_table(("ACCOUNT", "TIER", "APPLICATIONS"), cells)
    else:
        click.echo("no accounts yet; 'dispatcher keys create' makes one", err=True)


@accounts.command("set-tier")
@click.argument("account", metavar="ACCOUNT")
@click.argument("tier", metavar="TIER")
@DATA_OPTION
@TIERS_OPTION
def set_tier(account: str, tier: str, data: Path, config_file: Path | None) -> None:
    """Give ACCOUNT another TIER.

    \b
    dispatcher accounts set-tier default free --data ./data

    It holds for what is registered from then on. A channel keeps the limits it was registered
    with: to have the new ones, its application deletes it and registers again.
    """
    with failures_in_words():
        config.check_tier(tier, config_sources.load(config_file, os.environ)[0].tiers)
        folder = open_folder(data, may_create=False)
        with_registry(folder, partial(_set_tier, name=account, tier=tier))
        poke(folder)
    click.echo(f"{account}: tier {tier}, for channels registered from now on", err=True)


async def _set_tier(registry: SqliteRegistry, *, name: str, tier: str) -> None:
    for account in (await identities_of(registry)).accounts:
        if account.name == name:
            await registry.set_tier(account.id, tier)
            return
    raise NotFound(f"there is no account {name!r}; 'dispatcher accounts list' shows those there are")


def _account_rows(identities: Identities) -> tuple[AccountRow, ...]:
    counts: dict[int, int] = {}
    for application in identities.applications:
        counts[application.account_id] = counts.get(application.account_id, 0) + 1
    return tuple(
        AccountRow(account=account.name, tier=account.tier, applications=counts.get(account.id, 0))
        for account in identities.accounts
    )
