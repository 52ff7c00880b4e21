"""What each read and change does to the table of device requests; see ``tables``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from dispatcher.model import Device, DeviceRequest
from dispatcher.registry import device_tables, refusals

_COLUMNS = (
    "account_id, application_id, ep, async_id, wire_id, method, uri, accept, content_type, payload, observe, "
    "is_silent, retry, accepted_unix_ms, expires_unix_ms"
)


def add_device_request(db: sqlite3.Connection, request: DeviceRequest) -> DeviceRequest:
    """Add a request at the end of all."""
    row = db.execute("SELECT account_id FROM applications WHERE id = ?", (request.application_id,)).fetchone()
    if row != (request.account_id,):
        raise refusals.no_application(request.application_id)
    cursor = db.execute(
        f"INSERT INTO device_requests ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        msgspec.structs.astuple(request)[1:],
    )
    assert cursor.lastrowid is not None
    added = msgspec.structs.replace(request, id=cursor.lastrowid)
    if request.wire_id:
        return added
    wire_id = f"{request.async_id}.{added.id}"
    db.execute("UPDATE device_requests SET wire_id = ? WHERE id = ?", (wire_id, added.id))
    return msgspec.structs.replace(added, wire_id=wire_id)


def remove_device_requests(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove requests; those that are not there are passed over."""
    db.executemany("DELETE FROM device_requests WHERE id = ?", [(id_,) for id_ in ids])


def read_device_requests(db: sqlite3.Connection) -> tuple[tuple[DeviceRequest, Device | None], ...]:
    """All requests, first come first, each with its device."""
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM device_requests ORDER BY id").fetchall()
    requests = [_request(row) for row in rows]
    return tuple(
        (request, device_tables.read_device(db, request.account_id, request.ep)) for request in requests
    )


def _request(row: tuple[object, ...]) -> DeviceRequest:
    found = dict(zip(DeviceRequest.__struct_fields__, row, strict=True))
    observe = found["observe"]
    found |= {"observe": None if observe is None else bool(observe), "is_silent": bool(found["is_silent"])}
    return msgspec.convert(found, DeviceRequest, strict=True)
