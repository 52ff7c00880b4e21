"""``dispatcher keys``: make, list and revoke access keys.

Works on the data folder itself, so no daemon has to run; one that does is poked
and takes the change over at once.  A key's text goes to stdout when it is made,
and nowhere else, ever.
"""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from dispatcher import config, config_sources
from dispatcher.cli.expiry import expiry_text, parse_expiry
from dispatcher.cli.identities import (
    DATA_OPTION,
    JSON_OPTION,
    TIERS_OPTION,
    echo_table,
    failures_in_words,
    identities_of,
    unix_ms,
    with_registry,
)
from dispatcher.core import access
from dispatcher.errors import NotFound
from dispatcher.model import AccessKey, Account, Application, Role
from dispatcher.registry.control import poke
from dispatcher.registry.folder import open_folder
from dispatcher.registry.interface import Identities
from dispatcher.registry.sqlite import SqliteRegistry

ACCOUNT_DEFAULT = "default"
TIER_DEFAULT = "commercial"

T = TypeVar("T")


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as ``list --json`` prints it; names, not numbers."""

    id: str
    role: Role
    account: str | None
    application: str | None
    expires: str | None = None  # RFC 3339; left out of the JSON of a key that does not


class NewKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as ``create --json`` prints it, the only time its text is seen."""

    key: str
    id: str
    role: Role
    account: str | None
    application: str | None
    expires: str | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """For whom a key is to be made."""

    role: Role
    account: str
    application: str | None  # None: a new one, when the role is application
    tier: str | None  # None: the account's own, or the default for a new account
    expires_unix_ms: int | None  # None: never


def _parse_expires(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_expiry(value, unix_ms())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def keys() -> None:
    """Make, list and revoke access keys.

    Works while the daemon runs and when it does not; a running daemon takes the
    change over at once.
    """


@keys.command()
@DATA_OPTION
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="Who will use the key."
)
@click.option(
    "--account",
    metavar="NAME",
    help=f"Whose devices it is about; made if it is not there.  [default: {ACCOUNT_DEFAULT}]",
)
@click.option(
    "--application",
    metavar="NAME",
    help="The application it acts for; made if it is not there.  [default: a new one]",
)
@click.option(
    "--tier",
    metavar="NAME",
    help=f"The tier of the account, when this makes it.  [default: {TIER_DEFAULT}]",
)
@click.option(
    "--expires",
    "expires_unix_ms",
    callback=_parse_expires,
    metavar="WHEN",
    help="How long it is valid (90d, 12h, 30m, 45s) or until when (2030-01-31T00:00:00Z).  [default: always]",
)
@TIERS_OPTION
@JSON_OPTION
def create(
    data: Path,
    role: str,
    account: str | None,
    application: str | None,
    tier: str | None,
    expires_unix_ms: int | None,
    config_file: Path | None,
    is_json: bool,
) -> None:
    """Make an access key and print it, once.

    \b
    dispatcher keys create --data ./data --role gateway
    dispatcher keys create --data ./data --role application --application greenhouse --expires 90d

    Gateways post events with a key of role gateway, applications receive them with
    one of role application, and role admin is for the whole server.  Keep the key:
    it is not stored, and nothing can print it again.

    A key that has expired is answered 401.  The channel of its application flows on, and a
    WebSocket that was opened with it stays open; to end that, revoke the key.
    """
    _refuse_owners_of_other_roles(Role(role), account, application, tier)
    account = ACCOUNT_DEFAULT if account is None else account
    wanted = Wanted(
        role=Role(role),
        account=account,
        application=application,
        tier=tier,
        expires_unix_ms=expires_unix_ms,
    )
    with failures_in_words():
        tiers = config_sources.load(config_file, os.environ)[0].tiers
        _check_wanted(wanted, tiers)
        folder = open_folder(data)
        made = with_registry(folder, partial(_create, secret=folder.secret, wanted=wanted, tiers=tiers))
        poke(folder)
    click.echo(msgspec.json.encode(made) if is_json else made.key)
    click.echo(f"{made.id}: {_description(made)}; keep the key now, it is not shown again", err=True)


@keys.command("list")
@DATA_OPTION
@JSON_OPTION
def list_(data: Path, is_json: bool) -> None:
    """List the keys that are not revoked: never a key itself.

    Ids, owners, and when they expire.

    \b
    dispatcher keys list --data ./data
    """
    with failures_in_words():
        identities = with_registry(open_folder(data, may_create=False), identities_of)
    rows = _key_rows(identities)
    if is_json:
        click.echo(msgspec.json.encode(rows))
        return
    if rows:
        echo_table(
            ("ID", "ROLE", "ACCOUNT", "APPLICATION", "EXPIRES"),
            [
                (row.id, row.role.value, row.account or "-", row.application or "-", row.expires or "never")
                for row in rows
            ],
        )
    else:
        click.echo("no keys yet; 'dispatcher keys create' makes one", err=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@DATA_OPTION
@JSON_OPTION
def revoke(key_id: str, data: Path, is_json: bool) -> None:
    """Revoke the key with this ID, as 'keys list' shows it.

    \b
    dispatcher keys revoke k_0123456789ab --data ./data

    It stops within a second, and WebSockets opened with it are closed.  The
    application's channel and queue stay, for its other keys.
    """
    if key_id.startswith(access.KEY_PREFIX):
        raise click.UsageError("that is a key, not its ID; 'dispatcher keys list' shows the IDs")
    with failures_in_words():
        folder = open_folder(data, may_create=False)
        with_registry(folder, partial(_revoke, key_id=key_id))
        poke(folder)
    if is_json:
        click.echo(msgspec.json.encode({"id": key_id, "revoked": True}))
    click.echo(f"{key_id}: revoked", err=True)


async def _create(
    registry: SqliteRegistry, *, secret: bytes, wanted: Wanted, tiers: dict[str, config.TierSettings]
) -> NewKey:
    account, application = await _ensure_owner(registry, wanted, tiers)
    text = access.make_key(secrets.token_bytes(access.KEY_RANDOM_BYTES))
    key = AccessKey(
        id=access.make_key_id(secrets.token_bytes(access.KEY_ID_RANDOM_BYTES)),
        role=wanted.role,
        digest=access.digest(secret, text),
        account_id=None if account is None else account.id,
        application_id=None if application is None else application.id,
        expires_unix_ms=wanted.expires_unix_ms,
    )
    await registry.add_key(key)
    return NewKey(
        key=text,
        id=key.id,
        role=key.role,
        account=None if account is None else account.name,
        application=None if application is None else application.name,
        expires=_expires(key),
    )


async def _ensure_owner(
    registry: SqliteRegistry, wanted: Wanted, tiers: dict[str, config.TierSettings]
) -> tuple[Account | None, Application | None]:
    """For whom the key is; an admin's is for neither."""
    if wanted.role is Role.ADMIN:
        return None, None
    account = await registry.ensure_account(wanted.account, wanted.tier or TIER_DEFAULT)
    if wanted.tier not in (None, account.tier):
        raise click.ClickException(
            f"account {account.name!r} is of tier {account.tier!r}, not {wanted.tier!r}; leave --tier out, "
            f"or change it: dispatcher accounts set-tier {account.name} {wanted.tier}"
        )
    if wanted.role is Role.GATEWAY:
        return account, None
    for application in (await identities_of(registry)).applications:
        if (application.account_id, application.name) == (account.id, wanted.application):
            return account, application
    if account.tier not in tiers:
        raise click.ClickException(
            f"account {account.name!r} is of tier {account.tier!r}, which the settings do not have; "
            "name the daemon's with --config"
        )
    bound = tiers[account.tier].applications_max
    application = await registry.create_application(account.id, wanted.application, bound)
    return account, application


async def _revoke(registry: SqliteRegistry, *, key_id: str) -> None:
    if not await registry.revoke_key(key_id):
        raise NotFound(f"there is no valid key {key_id!r}; 'dispatcher keys list' shows those there are")


def _expires(key: AccessKey) -> str | None:
    return None if key.expires_unix_ms is None else expiry_text(key.expires_unix_ms)


def _refuse_owners_of_other_roles(
    role: Role, account: str | None, application: str | None, tier: str | None
) -> None:
    if role is Role.ADMIN and (account, application, tier) != (None, None, None):
        raise click.UsageError("an admin key is for the whole server: no --account, --application or --tier")
    if role is Role.GATEWAY and application is not None:
        raise click.UsageError("a gateway key is for a whole account: no --application")


def _check_wanted(wanted: Wanted, tiers: dict[str, config.TierSettings]) -> None:
    access.check_name("account", wanted.account)
    if wanted.application is not None:
        access.check_name("application", wanted.application)
    if wanted.tier is not None:
        config.check_tier(wanted.tier, tiers)


def _key_rows(identities: Identities) -> tuple[KeyRow, ...]:
    accounts = {account.id: account.name for account in identities.accounts}
    applications = {application.id: application.name for application in identities.applications}
    return tuple(
        KeyRow(
            id=key.id,
            role=key.role,
            account=None if key.account_id is None else accounts[key.account_id],
            application=None if key.application_id is None else applications[key.application_id],
            expires=_expires(key),
        )
        for key in identities.keys
    )


def _description(made: NewKey) -> str:
    match made.role:
        case Role.APPLICATION:
            return f"key of application {made.application} in account {made.account}"
        case Role.GATEWAY:
            return f"gateway key of account {made.account}"
        case Role.ADMIN:
            return "admin key of the whole server"
