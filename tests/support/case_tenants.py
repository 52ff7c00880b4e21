"""The keys that cases name, made before the daemon starts: by the command line it would take minutes."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from support.case_document import Case

from dispatcher.core.access import digest, make_key
from dispatcher.model import AccessKey, Role
from dispatcher.registry.folder import open_folder
from dispatcher.registry.sqlite import SqliteRegistry, open_registry

STRANGER = "stranger"


class Holder(msgspec.Struct, frozen=True):
    """Whose key a variable is."""

    role: Role
    account: str = "mine"
    application: str = "mine"


HOLDERS = {
    "KEY": Holder(Role.APPLICATION),
    "SECOND_KEY": Holder(Role.APPLICATION),
    "NEIGHBOUR_KEY": Holder(Role.APPLICATION, application="neighbour"),
    "STRANGER_KEY": Holder(Role.APPLICATION, account=STRANGER),
    "GATEWAY_KEY": Holder(Role.GATEWAY),
    "STRANGER_GATEWAY_KEY": Holder(Role.GATEWAY, account=STRANGER),
    "ADMIN_KEY": Holder(Role.ADMIN),
}
"""Variables that are keys; keys of one case share accounts and applications with no other case."""


class Tenancy(msgspec.Struct, frozen=True):
    """What one case may name."""

    keys: dict[str, str]  # by variable
    ids: dict[str, str]  # of the keys, by variable


def tier_of(case: Case) -> str:
    """The name of the tier that has this case's settings."""
    return f"case-{case.name}" if case.settings else "commercial"


def config_of(cases: Iterable[Case]) -> str:
    """The daemon's configuration: a tier for each case that wants other times and sizes."""
    tiers = [f"[tiers.{tier_of(case)}]\n" + "\n".join(case.settings) for case in cases if case.settings]
    return "\n".join(["[limits]", "startup_grace_s = 0", *tiers])


async def make_tenancies(data: Path, cases: Iterable[Case]) -> dict[str, Tenancy]:
    """An account with applications and keys for each case, by its name."""
    folder = open_folder(data)
    async with open_registry(folder, unix_ms=lambda: time.time_ns() // 1_000_000) as registry:
        return {case.name: await _make(registry, folder.secret, case) for case in cases}


async def _make(registry: SqliteRegistry, secret: bytes, case: Case) -> Tenancy:
    made = Tenancy({}, {})
    applications: dict[tuple[str, str], int] = {}
    numbers = itertools.count(1)
    for variable in sorted(case.variables & HOLDERS.keys()):
        holder = HOLDERS[variable]
        account_id = application_id = None
        if holder.role is not Role.ADMIN:
            account = await registry.ensure_account(f"{case.name}-{holder.account}", tier_of(case))
            account_id = account.id
        if holder.role is Role.APPLICATION:
            assert account_id is not None
            owner = (holder.account, holder.application)
            if owner not in applications:
                application = await registry.create_application(account_id, holder.application, 0)
                applications[owner] = application.id
            application_id = applications[owner]
        text = make_key(secrets.token_bytes(60))
        key = AccessKey(
            id=f"k_{case.name}-{next(numbers)}",
            role=holder.role,
            digest=digest(secret, text),
            account_id=account_id,
            application_id=application_id,
        )
        await registry.add_key(key)
        made.keys[variable], made.ids[variable] = text, key.id
    return made
