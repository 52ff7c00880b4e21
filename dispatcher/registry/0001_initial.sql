-- The registry, version 1.  decisions/0002 says how it is used.
--
-- Numbers of accounts, applications and channels are never given twice
-- (AUTOINCREMENT): queues are found by them.

CREATE TABLE accounts (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    name                TEXT    NOT NULL UNIQUE,
    tier                TEXT    NOT NULL,
    -- Kept by whoever adds or removes subscriptions, so that the bound costs no counting.
    subscriptions_count INTEGER NOT NULL DEFAULT 0 CHECK (subscriptions_count >= 0)
);

CREATE TABLE applications (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    name       TEXT    NOT NULL,
    UNIQUE (account_id, name)
);

-- Revoked keys stay: their ids and digests are never taken again.
CREATE TABLE keys (
    id              TEXT    PRIMARY KEY,
    role            TEXT    NOT NULL,
    digest          BLOB    NOT NULL UNIQUE,
    account_id      INTEGER REFERENCES accounts (id),
    application_id  INTEGER REFERENCES applications (id),
    created_unix_ms INTEGER NOT NULL,
    revoked_unix_ms INTEGER,
    CHECK ((role = 'admin') = (account_id IS NULL)),
    CHECK ((role = 'application') = (application_id IS NOT NULL))
) WITHOUT ROWID;

CREATE TABLE channels (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    application_id      INTEGER NOT NULL UNIQUE REFERENCES applications (id),
    type                TEXT    NOT NULL,
    incarnation         INTEGER NOT NULL,  -- 64 bits as two's complement
    limits              BLOB    NOT NULL,  -- JSON of model.ChannelLimits
    serialization       BLOB,              -- JSON of model.Serialization
    url                 TEXT    NOT NULL,
    headers             BLOB    NOT NULL,  -- JSON object of strings
    learned_batch_bytes INTEGER
);

-- In seconds of up time, see life_times.  NULL: the clock does not run.
CREATE TABLE channel_clocks (
    channel_id           INTEGER PRIMARY KEY REFERENCES channels (id) ON DELETE CASCADE,
    last_event_s         REAL    NOT NULL,
    failing_since_s      REAL,
    disconnected_since_s REAL               -- no WebSocket, no long poll
);

-- One row: how far the clocks were when they were last saved.
CREATE TABLE life_times (
    up_s    REAL    NOT NULL,  -- seconds that a dispatcher was up, over all runs
    unix_ms INTEGER NOT NULL
);

INSERT INTO life_times VALUES (0, 0);

CREATE TABLE subscriptions (
    application_id INTEGER NOT NULL REFERENCES applications (id),
    ep             TEXT    NOT NULL,
    path           TEXT    NOT NULL,
    PRIMARY KEY (application_id, ep, path)
) WITHOUT ROWID;

CREATE TABLE presubscriptions (
    application_id INTEGER PRIMARY KEY REFERENCES applications (id),
    entries        BLOB    NOT NULL  -- JSON array of model.Presubscription, in order
);

CREATE TABLE counters (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO counters VALUES ('epoch', 0), ('identities', 0);

-- Whoever changes accounts, applications or keys, by whatever program, moves the
-- counter in the same transaction: a reader of one row knows whether to load them.
CREATE TRIGGER accounts_added AFTER INSERT ON accounts
BEGIN UPDATE counters SET value = value + 1 WHERE name = 'identities'; END;

CREATE TRIGGER accounts_changed AFTER UPDATE OF name, tier ON accounts
BEGIN UPDATE counters SET value = value + 1 WHERE name = 'identities'; END;

CREATE TRIGGER applications_added AFTER INSERT ON applications
BEGIN UPDATE counters SET value = value + 1 WHERE name = 'identities'; END;

CREATE TRIGGER keys_added AFTER INSERT ON keys
BEGIN UPDATE counters SET value = value + 1 WHERE name = 'identities'; END;

CREATE TRIGGER keys_changed AFTER UPDATE ON keys
BEGIN UPDATE counters SET value = value + 1 WHERE name = 'identities'; END;
