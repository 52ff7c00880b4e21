"""What each read and change does to the table of parked events; see ``tables``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dispatcher.model import Kind, ParkedCount, ParkedEvent, Position
from dispatcher.registry import refusals

_COLUMNS = "channel_id, epoch, seq, kind, message, parked_unix_ms, status"


def park_event(db: sqlite3.Connection, event: ParkedEvent) -> bool:
    """Add an event; False when it is there."""
    if db.execute("SELECT 1 FROM channels WHERE id = ?", (event.channel_id,)).fetchone() is None:
        raise refusals.no_channel(event.channel_id)
    added = db.execute(
        f"INSERT INTO parked_events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            event.channel_id,
            event.position.epoch,
            event.position.seq,
            event.kind,
            event.message,
            event.parked_unix_ms,
            event.status,
        ),
    )
    return added.rowcount > 0


def read_parked_events(
    db: sqlite3.Connection, channel_id: int, after_id: int, count_max: int
) -> tuple[ParkedEvent, ...]:
    """A channel's events behind an id, in the order in which they were parked."""
    rows = db.execute(
        f"SELECT id, {_COLUMNS} FROM parked_events WHERE channel_id = ? AND id > ? ORDER BY id LIMIT ?",
        (channel_id, after_id, count_max),
    )
    return tuple(
        ParkedEvent(
            id=id,
            channel_id=channel,
            position=Position(epoch, seq),
            kind=Kind(kind),
            message=message,
            parked_unix_ms=parked_unix_ms,
            status=status,
        )
        for id, channel, epoch, seq, kind, message, parked_unix_ms, status in rows
    )


def remove_parked_events(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove events; those that are not there are passed over."""
    db.executemany("DELETE FROM parked_events WHERE id = ?", [(id_,) for id_ in ids])


def read_parked_counts(db: sqlite3.Connection) -> dict[int, ParkedCount]:
    """How much is parked, by channel."""
    rows = db.execute(
        "SELECT channel_id, count(*), sum(length(message)) FROM parked_events GROUP BY channel_id ORDER BY 1"
    )
    return {channel_id: ParkedCount(events, message_bytes) for channel_id, events, message_bytes in rows}
