-- The registry, version 4: keys that expire.

ALTER TABLE keys ADD COLUMN expires_unix_ms INTEGER;  -- NULL: it does not
