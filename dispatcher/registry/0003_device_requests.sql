-- The registry, version 3: requests that wait for devices.

CREATE TABLE device_requests (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id       INTEGER NOT NULL REFERENCES accounts (id),
    application_id   INTEGER NOT NULL REFERENCES applications (id),
    ep               TEXT    NOT NULL,
    async_id         TEXT    NOT NULL,
    wire_id          TEXT    NOT NULL,
    method           TEXT    NOT NULL,
    uri              TEXT    NOT NULL,
    accept           TEXT,
    content_type     TEXT,
    payload          BLOB,
    observe          INTEGER,           -- NULL: not about observing
    is_silent        INTEGER NOT NULL,
    retry            INTEGER NOT NULL,
    accepted_unix_ms INTEGER NOT NULL,
    expires_unix_ms  INTEGER NOT NULL,
    UNIQUE (account_id, wire_id)
);
