"""A data folder with many applications, each with a key and a channel: written in one transaction.

Registered one by one over the API, 100,000 channels would take minutes.  The rows
are those that the API would leave; a round that uses them shows that they are.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from dispatcher.config import TierSettings, channel_limits
from dispatcher.core.access import KEY_RANDOM_BYTES, digest, make_key
from dispatcher.model import ChannelType, Presubscription
from dispatcher.registry.folder import open_folder

from .daemon import create_key

_NOWHERE = "http://127.0.0.1:9/events"  # the callback of a channel that gets no event


class Population(msgspec.Struct, frozen=True):
    """Who is in a data folder."""

    gateway: str  # a key
    keys: Sequence[str]  # of the applications, in order

    @staticmethod
    def name(number: int) -> str:
        """An application's name."""
        return f"application-{number}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What each application has; the n-th gets the n-th of each sequence, over and over."""

    types: Sequence[ChannelType] = (ChannelType.WEB_SOCKET,)
    eps: Sequence[str] = ()  # pre-subscribed to: all resources of this device, of it alone
    tier: TierSettings = TierSettings()


def populate(data: Path, count: int, wanted: Wanted) -> Population:
    """Make the folder and fill it."""
    gateway = create_key(data, "gateway")
    folder = open_folder(data, may_create=False)
    keys = [make_key(secrets.token_bytes(KEY_RANDOM_BYTES)) for _ in range(count)]
    limits = msgspec.json.encode(channel_limits(wanted.tier))
    with closing(sqlite3.connect(folder.registry_path)) as db, db:
        (account,) = db.execute("SELECT id FROM accounts").fetchone()
        db.executemany(
            "INSERT INTO applications (id, account_id, name) VALUES (?, ?, ?)",
            ((number + 1, account, Population.name(number)) for number in range(count)),
        )
        db.executemany(
            "INSERT INTO keys (id, role, digest, account_id, application_id, created_unix_ms) "
            "VALUES (?, 'application', ?, ?, ?, 0)",
            (
                (f"k_{number:012x}", digest(folder.secret, key), account, number + 1)
                for number, key in enumerate(keys)
            ),
        )
        db.executemany(
            "INSERT INTO channels (id, application_id, type, incarnation, limits, url, headers) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (_channel(number, wanted.types[number % len(wanted.types)], limits) for number in range(count)),
        )
        db.executemany(
            "INSERT INTO presubscriptions (application_id, entries) VALUES (?, ?)",
            (
                (number + 1, msgspec.json.encode([Presubscription(endpoint_name=ep)]))
                for number, ep in zip(range(count), wanted.eps, strict=False)
            ),
        )
    return Population(gateway, keys)


def _channel(number: int, type: ChannelType, limits: bytes) -> tuple[object, ...]:
    url, headers = (
        (_NOWHERE, {"Authorization": f"Bearer {number}"}) if type is ChannelType.CALLBACK else ("", {})
    )
    return (number + 1, number + 1, type, number + 1, limits, url, msgspec.json.encode(headers))
