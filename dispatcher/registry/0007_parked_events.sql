-- The registry, version 7: events that were set aside because their receiver refused them.

CREATE TABLE parked_events (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id     INTEGER NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    epoch          INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    kind           INTEGER NOT NULL,
    message        BLOB    NOT NULL,
    parked_unix_ms INTEGER NOT NULL,
    status         INTEGER NOT NULL,
    -- A crash may come between this row and the end of the record: it is then parked again.
    UNIQUE (channel_id, epoch, seq)
);
