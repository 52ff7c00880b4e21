"""What each read and change does to the table of devices; see ``tables``."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from dispatcher import limits
from dispatcher.core import devices
from dispatcher.model import Device, DeviceReport, Kind, Resource, Subscription
from dispatcher.registry.interface import DueDevices

_COLUMNS = "account_id, ep, gateway_id, original_ep, ept, q, resources, lifetime_s, heard_unix_ms, is_gone"


def keep_devices(
    db: sqlite3.Connection, reports: Sequence[DeviceReport], account_max: int
) -> tuple[Subscription, ...]:
    """Write what life-cycle events tell, and take away the manual subscriptions of the newly registered."""
    removed: list[Subscription] = []
    for report in reports:
        known = read_device(db, report.account_id, report.change.ep)
        _put(db, devices.after(report, known), is_new=known is None, account_max=account_max)
        if report.change.kind is Kind.REGISTRATION:
            removed += _remove_subscriptions(db, report.account_id, report.change.ep)
    return tuple(removed)


def read_device(db: sqlite3.Connection, account_id: int, ep: str) -> Device | None:
    """A device, gone ones too."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM devices WHERE account_id = ? AND ep = ?", (account_id, ep))
    return next(_devices(rows), None)


def read_device_types(db: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """The types of all devices that have one, the one heard of last at the end."""
    rows = db.execute(
        "SELECT account_id, ep, ept FROM devices WHERE ept IS NOT NULL AND NOT is_gone "
        "ORDER BY heard_unix_ms DESC LIMIT ?",
        (limits.DEVICE_TYPES_MAX,),
    )
    return rows.fetchall()[::-1]


def read_due_devices(db: sqlite3.Connection, now_unix_ms: int, count_max: int) -> DueDevices:
    """The devices whose registration has run out, and when the next one does."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM devices WHERE expires_unix_ms <= ? ORDER BY expires_unix_ms, account_id, ep "
        "LIMIT ?",
        (now_unix_ms, count_max),
    )
    due = tuple(_devices(rows))
    (next_unix_ms,) = db.execute(
        "SELECT min(expires_unix_ms) FROM devices WHERE expires_unix_ms > ?", (now_unix_ms,)
    ).fetchone()
    return DueDevices(devices=due, next_unix_ms=next_unix_ms)


def _put(db: sqlite3.Connection, device: Device, *, is_new: bool, account_max: int) -> None:
    if is_new:
        _make_room(db, device.account_id, account_max)
    db.execute(
        f"INSERT OR REPLACE INTO devices ({_COLUMNS}, expires_unix_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            device.account_id,
            device.ep,
            device.gateway_id,
            device.original_ep,
            device.ept,
            device.q,
            msgspec.json.encode(device.resources),
            device.lifetime_s,
            device.heard_unix_ms,
            device.is_gone,
            device.expires_unix_ms,
        ),
    )


def _make_room(db: sqlite3.Connection, account_id: int, account_max: int) -> None:
    """Count one device more, or forget another one for it: first those that are gone."""
    counted = db.execute(
        "UPDATE accounts SET devices_count = devices_count + 1 WHERE id = ? AND devices_count < ?",
        (account_id, account_max),
    )
    if counted.rowcount == 0:
        db.execute(
            "DELETE FROM devices WHERE (account_id, ep) = (SELECT account_id, ep FROM devices "
            "WHERE account_id = ? ORDER BY is_gone DESC, heard_unix_ms, ep LIMIT 1)",
            (account_id,),
        )


def _remove_subscriptions(db: sqlite3.Connection, account_id: int, ep: str) -> list[Subscription]:
    """Take away every application's manual subscriptions to a device, and count them down."""
    # Application by application, so that the primary key finds the rows.
    found = db.execute(
        "SELECT application_id, ep, path FROM applications CROSS JOIN subscriptions "
        "ON subscriptions.application_id = applications.id "
        "WHERE account_id = ? AND ep = ? ORDER BY 1, 2, 3",
        (account_id, ep),
    )
    removed = list(itertools.starmap(Subscription, found))
    for subscription in removed:
        db.execute(
            "DELETE FROM subscriptions WHERE application_id = ? AND ep = ? AND path = ?",
            (subscription.application_id, ep, subscription.path),
        )
    if removed:
        db.execute(
            "UPDATE accounts SET subscriptions_count = subscriptions_count - ? WHERE id = ?",
            (len(removed), account_id),
        )
    return removed


def _devices(rows: sqlite3.Cursor) -> Iterator[Device]:
    for account_id, ep, gateway_id, original_ep, ept, q, resources, lifetime_s, heard_ms, is_gone in rows:
        yield Device(
            account_id=account_id,
            ep=ep,
            gateway_id=gateway_id,
            original_ep=original_ep,
            ept=ept,
            q=bool(q),
            resources=msgspec.json.decode(resources, type=tuple[Resource, ...]),
            lifetime_s=lifetime_s,
            heard_unix_ms=heard_ms,
            is_gone=bool(is_gone),
        )
