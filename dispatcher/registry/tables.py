"""What each read and change does to the tables, as plain functions of a connection.

They run inside a transaction that the caller holds, so a check and the change
that rests on it are one.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    Channel,
    ChannelClocks,
    ChannelLimits,
    ChannelType,
    Presubscription,
    Serialization,
    Signing,
    Subscription,
)
from dispatcher.registry import device_tables, parked_tables, refusals, request_tables
from dispatcher.registry.interface import Contents, Identities, LifeTimes

T = TypeVar("T")

Numbers = dict[int, int]
"""Of equal numbers the one that all rows share: keys and channels name an application each, and
a number of their own would take 32 bytes."""


def read_contents(db: sqlite3.Connection) -> Contents:
    """Everything but the directory of devices."""
    numbers: Numbers = {}
    subscriptions = db.execute("SELECT application_id, ep, path FROM subscriptions ORDER BY 1, 2, 3")
    presubscriptions = db.execute("SELECT application_id, entries FROM presubscriptions ORDER BY 1")
    return Contents(
        identities=read_identities(db, numbers),
        channels=tuple(_read_channels(db, numbers)),
        subscriptions=tuple(itertools.starmap(Subscription, subscriptions)),
        presubscriptions={
            application_id: msgspec.json.decode(entries, type=tuple[Presubscription, ...])
            for application_id, entries in presubscriptions
        },
        life_times=_read_life_times(db),
        device_requests=request_tables.read_device_requests(db),
        parked_counts=parked_tables.read_parked_counts(db),
        device_types=device_tables.read_device_types(db),
    )


def read_identities(db: sqlite3.Connection, numbers: Numbers | None = None) -> Identities:
    """Accounts, applications and the keys that are not revoked; ``numbers`` they share with other rows."""
    numbers = {} if numbers is None else numbers
    accounts = db.execute("SELECT id, name, tier FROM accounts ORDER BY id")
    applications = db.execute("SELECT id, account_id, name FROM applications ORDER BY id")
    keys = db.execute(
        "SELECT id, role, digest, account_id, application_id, expires_unix_ms FROM keys "
        "WHERE revoked_unix_ms IS NULL ORDER BY created_unix_ms, id"
    )
    return Identities(
        accounts=tuple(_structs(accounts, Account)),
        applications=tuple(_structs(applications, Application, ("id", "account_id"), numbers)),
        keys=tuple(_structs(keys, AccessKey, ("account_id", "application_id"), numbers)),
    )


def read_identities_version(db: sqlite3.Connection) -> int:
    """A number that moves with every change of accounts, applications and keys, whoever makes it."""
    return _counter(db, "identities")


def next_epoch(db: sqlite3.Connection) -> int:
    """Draw the next epoch, from 1."""
    db.execute("UPDATE counters SET value = value + 1 WHERE name = 'epoch'")
    return _counter(db, "epoch")


def ensure_account(db: sqlite3.Connection, name: str, tier: str) -> Account:
    """Find or make an account."""
    db.execute("INSERT INTO accounts (name, tier) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, tier))
    return next(_structs(db.execute("SELECT id, name, tier FROM accounts WHERE name = ?", (name,)), Account))


def set_tier(db: sqlite3.Connection, account_id: int, tier: str) -> Account:
    """Give an account another tier."""
    db.execute("UPDATE accounts SET tier = ? WHERE id = ?", (tier, account_id))
    return _account(db, account_id)


def create_application(
    db: sqlite3.Connection, account_id: int, name: str, applications_max: int
) -> Application:
    """Make an application."""
    account = _account(db, account_id)
    if _exists(db, "applications WHERE account_id = ? AND name = ?", account_id, name):
        raise refusals.application_exists(account, name)
    (count,) = db.execute("SELECT count(*) FROM applications WHERE account_id = ?", (account_id,)).fetchone()
    if 0 < applications_max <= count:
        raise refusals.too_many_applications(account, applications_max)
    id = _insert(db, "INSERT INTO applications (account_id, name) VALUES (?, ?)", account_id, name)
    return Application(id=id, account_id=account_id, name=name)


def add_key(db: sqlite3.Connection, key: AccessKey, created_unix_ms: int) -> None:
    """Add a key."""
    if key.account_id is not None:
        _account(db, key.account_id)
    if key.application_id is not None and _account_of(db, key.application_id) != key.account_id:
        raise refusals.no_application(key.application_id)
    if _exists(db, "keys WHERE id = ? OR digest = ?", key.id, key.digest):
        raise refusals.key_exists(key.id)
    db.execute(
        "INSERT INTO keys (id, role, digest, account_id, application_id, expires_unix_ms, created_unix_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key.id,
            key.role,
            key.digest,
            key.account_id,
            key.application_id,
            key.expires_unix_ms,
            created_unix_ms,
        ),
    )


def revoke_key(db: sqlite3.Connection, key_id: str, revoked_unix_ms: int) -> bool:
    """Revoke a key; the row stays."""
    changed = db.execute(
        "UPDATE keys SET revoked_unix_ms = ? WHERE id = ? AND revoked_unix_ms IS NULL",
        (revoked_unix_ms, key_id),
    )
    return changed.rowcount > 0


def add_channel(db: sqlite3.Connection, channel: Channel) -> Channel:
    """Add a channel; its account is the application's."""
    account_id = _account_of(db, channel.application_id)
    if _exists(db, "channels WHERE application_id = ?", channel.application_id):
        raise refusals.channel_exists()
    id = _insert(
        db,
        "INSERT INTO channels (application_id, type, incarnation, limits, "
        "serialization, url, headers, signing, is_gzipped, learned_batch_bytes, is_paused) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        channel.application_id,
        channel.type,
        _to_signed(channel.incarnation),
        msgspec.json.encode(channel.limits),
        *_changeable(channel),
    )
    return msgspec.structs.replace(channel, id=id, account_id=account_id)


def update_channel(db: sqlite3.Connection, channel: Channel) -> None:
    """Replace what of a channel may change."""
    changed = db.execute(
        "UPDATE channels SET serialization = ?, url = ?, headers = ?, signing = ?, is_gzipped = ?, "
        "learned_batch_bytes = ?, is_paused = ? WHERE id = ?",
        (*_changeable(channel), channel.id),
    )
    if changed.rowcount == 0:
        raise refusals.no_channel(channel.id)


def remove_channel(db: sqlite3.Connection, channel_id: int) -> bool:
    """Remove a channel."""
    return db.execute("DELETE FROM channels WHERE id = ?", (channel_id,)).rowcount > 0


def add_subscription(db: sqlite3.Connection, subscription: Subscription, account_max: int) -> bool:
    """Add a manual subscription and count it."""
    account_id = _account_of(db, subscription.application_id)
    row = (subscription.application_id, subscription.ep, subscription.path)
    if _exists(db, "subscriptions WHERE application_id = ? AND ep = ? AND path = ?", *row):
        return False
    counted = db.execute(
        "UPDATE accounts SET subscriptions_count = subscriptions_count + 1 "
        "WHERE id = ? AND subscriptions_count < ?",
        (account_id, account_max),
    )
    if counted.rowcount == 0:
        raise refusals.too_many_subscriptions(_account(db, account_id), account_max)
    db.execute("INSERT INTO subscriptions (application_id, ep, path) VALUES (?, ?, ?)", row)
    return True


def remove_subscriptions(
    db: sqlite3.Connection, application_id: int, ep: str | None, path: str | None
) -> tuple[Subscription, ...]:
    """Remove the manual subscriptions that match what is given, and count them down."""
    account_id = _account_of(db, application_id)
    given = {"application_id": application_id, "ep": ep, "path": path}
    values = {column: value for column, value in given.items() if value is not None}
    # Columns by name, not "? IS NULL OR ...", so that the primary key finds the rows.
    where = "FROM subscriptions WHERE " + " AND ".join(f"{column} = :{column}" for column in values)
    rows = db.execute(f"SELECT application_id, ep, path {where} ORDER BY 1, 2, 3", values)
    removed = tuple(itertools.starmap(Subscription, rows))
    if removed:
        db.execute(f"DELETE {where}", values)
        db.execute(
            "UPDATE accounts SET subscriptions_count = subscriptions_count - ? WHERE id = ?",
            (len(removed), account_id),
        )
    return removed


def set_presubscriptions(
    db: sqlite3.Connection, application_id: int, presubscriptions: Sequence[Presubscription]
) -> None:
    """Replace an application's pre-subscriptions; none of them is no row."""
    _account_of(db, application_id)
    db.execute("DELETE FROM presubscriptions WHERE application_id = ?", (application_id,))
    if presubscriptions:
        db.execute(
            "INSERT INTO presubscriptions (application_id, entries) VALUES (?, ?)",
            (application_id, msgspec.json.encode(presubscriptions)),
        )


def save_life_times(db: sqlite3.Connection, life_times: LifeTimes) -> None:
    """Save how far the clocks are; clocks of channels that do not exist are passed over."""
    db.execute("UPDATE life_times SET up_s = ?, unix_ms = ?", (life_times.up_s, life_times.unix_ms))
    db.executemany(
        "INSERT OR REPLACE INTO channel_clocks SELECT id, ?, ?, ? FROM channels WHERE id = ?",
        [
            (clocks.last_event_s, clocks.failing_since_s, clocks.disconnected_since_s, channel_id)
            for channel_id, clocks in life_times.clocks.items()
        ],
    )


def _read_life_times(db: sqlite3.Connection) -> LifeTimes:
    up_s, unix_ms = db.execute("SELECT up_s, unix_ms FROM life_times").fetchone()
    rows = db.execute(
        "SELECT channel_id, last_event_s, failing_since_s, disconnected_since_s "
        "FROM channel_clocks ORDER BY 1"
    )
    clocks = {
        channel_id: ChannelClocks(
            last_event_s=last_event_s,
            failing_since_s=failing_since_s,
            disconnected_since_s=disconnected_since_s,
        )
        for channel_id, last_event_s, failing_since_s, disconnected_since_s in rows
    }
    return LifeTimes(up_s=up_s, unix_ms=unix_ms, clocks=clocks)


_NO_HEADERS: dict[str, str] = {}  # of every channel that has none; nobody changes headers


def _read_channels(db: sqlite3.Connection, numbers: Numbers) -> Iterator[Channel]:
    rows = db.execute(
        "SELECT channels.id, application_id, account_id, type, incarnation, limits, serialization, url, "
        "headers, signing, is_gzipped, learned_batch_bytes, is_paused "
        "FROM channels JOIN applications ON applications.id = application_id ORDER BY channels.id"
    )

    @functools.cache  # the channels of a tier share one value: it is most of an idle channel's size
    def decode_limits(text: bytes) -> ChannelLimits:
        return msgspec.json.decode(text, type=ChannelLimits)

    @functools.cache
    def read_type(text: str) -> ChannelType:
        return msgspec.convert(text, ChannelType)

    for id, application_id, account_id, type, incarnation, limits, chosen, *rest in rows:
        url, headers, signing, is_gzipped, learned, paused = rest
        yield Channel(
            id=id,
            application_id=numbers.setdefault(application_id, application_id),
            account_id=numbers.setdefault(account_id, account_id),
            type=read_type(type),
            incarnation=_to_unsigned(incarnation),
            limits=decode_limits(limits),
            serialization=None if chosen is None else msgspec.json.decode(chosen, type=Serialization),
            url=url,
            headers=_NO_HEADERS if headers == b"{}" else msgspec.json.decode(headers, type=dict[str, str]),
            signing=None if signing is None else msgspec.json.decode(signing, type=Signing),
            is_gzipped=bool(is_gzipped),
            learned_batch_bytes=learned,
            is_paused=bool(paused),
        )


def _changeable(channel: Channel) -> tuple[bytes | None, str, bytes, bytes | None, bool, int | None, bool]:
    serialization, signing = channel.serialization, channel.signing
    return (
        None if serialization is None else msgspec.json.encode(serialization),
        channel.url,
        msgspec.json.encode(channel.headers),
        None if signing is None else msgspec.json.encode(signing),
        channel.is_gzipped,
        channel.learned_batch_bytes,
        channel.is_paused,
    )


def _account(db: sqlite3.Connection, account_id: int) -> Account:
    rows = db.execute("SELECT id, name, tier FROM accounts WHERE id = ?", (account_id,))
    account = next(_structs(rows, Account), None)
    if account is None:
        raise refusals.no_account(account_id)
    return account


def _account_of(db: sqlite3.Connection, application_id: int) -> int:
    row = db.execute("SELECT account_id FROM applications WHERE id = ?", (application_id,)).fetchone()
    if row is None:
        raise refusals.no_application(application_id)
    account_id: int = row[0]
    return account_id


def _counter(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0]
    return value


def _exists(db: sqlite3.Connection, rows: str, *values: object) -> bool:
    return db.execute(f"SELECT 1 FROM {rows} LIMIT 1", values).fetchone() is not None


def _insert(db: sqlite3.Connection, statement: str, *values: object) -> int:
    id = db.execute(statement, values).lastrowid
    assert id is not None
    return id


def _structs(
    rows: sqlite3.Cursor, type: type[T], shared: Sequence[str] = (), numbers: Numbers | None = None
) -> Iterator[T]:
    """Rows as structs whose fields are named like the columns; ``shared`` ones hold ``numbers``.

    Raises ``msgspec.ValidationError``.
    """
    numbers = {} if numbers is None else numbers
    names = [column[0] for column in rows.description]
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for name in shared:
            values[name] = numbers.setdefault(values[name], values[name])
        yield msgspec.convert(values, type)


def _to_signed(value: int) -> int:
    """SQLite's integers are signed: the same 64 bits, read so."""
    return int.from_bytes(value.to_bytes(8, "little"), "little", signed=True)


def _to_unsigned(value: int) -> int:
    return value % 2**64
