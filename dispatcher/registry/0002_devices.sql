-- The registry, version 2: the directory of devices, as their registrations tell.

CREATE TABLE devices (
    account_id      INTEGER NOT NULL REFERENCES accounts (id),
    ep              TEXT    NOT NULL,
    gateway_id      TEXT,              -- keys.id; the key may be revoked since
    original_ep     TEXT,
    ept             TEXT,
    q               INTEGER NOT NULL,
    resources       BLOB    NOT NULL,  -- JSON array of model.Resource
    lifetime_s      INTEGER,
    heard_unix_ms   INTEGER NOT NULL,
    expires_unix_ms INTEGER,           -- heard_unix_ms and lifetime_s, so that an index can be on it
    is_gone         INTEGER NOT NULL,
    PRIMARY KEY (account_id, ep)
) WITHOUT ROWID;

CREATE INDEX devices_by_expiry ON devices (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;

-- In the order in which devices are forgotten when there are too many.
CREATE INDEX devices_by_worth ON devices (account_id, is_gone DESC, heard_unix_ms);

-- Kept by whoever adds or removes devices, so that the bound costs no counting.
ALTER TABLE accounts ADD COLUMN devices_count INTEGER NOT NULL DEFAULT 0 CHECK (devices_count >= 0);
